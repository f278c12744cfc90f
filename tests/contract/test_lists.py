"""Pages of lists, and what they are filtered by."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.caller import Caller, body, pointers
from tests.contract.reference import covers
from tests.contract.world import NOWHERE

Make = Callable[[Caller], list[str]]


def _several(path: str, fields: Callable[[int], dict[str, Any]] = lambda _: {}) -> Make:
    return lambda owner: [owner.create(path, **fields(number))["id"] for number in range(5)]


def _below_a_queue(name: str, fields: dict[str, Any]) -> Make:
    def make(owner: Caller) -> list[str]:
        queue = owner.create("/queues")["id"]
        return [owner.create(f"/queues/{queue}/{name}", **fields)["id"] for _ in range(5)]

    return make


LISTS: dict[str, Make] = {
    "queues": _several("/queues"),
    "api_keys": _several("/api_keys"),
    "users": _several("/users", lambda number: {"email": f"user{number}@example.com", "role": "viewer"}),
    "domains": _several("/domains", lambda number: {"hostname": f"host{number}.example.com"}),
    "listeners": _below_a_queue("listeners", NOWHERE),
    "messages": _below_a_queue("messages", {"data": "x"}),
    "topics": _several("/topics"),
}
every_list = pytest.mark.parametrize("name", LISTS)


def ids_of(content: dict[str, Any], name: str) -> list[str]:
    return [each["id"] for each in content[name]]


@covers("lists.md# Pages")
@every_list
def test_a_list_is_newest_first_and_its_pages_follow_each_other(owner: Caller, name: str) -> None:
    made = set(LISTS[name](owner))
    everything = ids_of(owner.get(f"/{name}?per_page=100"), name)
    assert made <= set(everything)
    if len(owner.installation.urls) == 1:
        assert everything == sorted(everything, reverse=True)
    seen: list[str] = []
    links: dict[str, Any] = {}
    path: str | None = f"/{name}?per_page=2"
    while path is not None:
        answer = owner.ask("GET", path)
        links = body(answer)["_links"]
        seen += ids_of(answer.json(), name)
        path = links["next"]["href"] if "next" in links else None
        assert (path is not None) == ('rel="next"' in answer.headers.get("link", ""))
    assert seen == everything
    assert "prev" in links


@covers("lists.md# Pages")
@pytest.mark.parametrize(("name", "fields"), [("listeners", NOWHERE), ("messages", {"data": "x"})])
def test_links_are_absent_at_the_ends_when_the_element_there_was_deleted(
    owner: Caller, name: str, fields: dict[str, Any]
) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/{name}"
    oldest, kept, newest = sorted(owner.create(path, **fields)["id"] for _ in range(3))
    for each in (oldest, newest):
        assert owner.ask("DELETE", f"{path}/{each}").status_code == 200
    for query in (f"after={newest}", f"before={oldest}"):
        page = owner.get(f"{path}?{query}")
        assert ids_of(page, name) == [kept]
        assert not {"next", "prev"} & page["_links"].keys(), query


@covers(*(f"lists.md: {name}" for name in ("page", "per_page", "after", "before")))
@every_list
def test_a_list_goes_by_numbers_and_by_places(owner: Caller, name: str) -> None:
    LISTS[name](owner)
    everything = ids_of(owner.get(f"/{name}"), name)
    assert ids_of(owner.get(f"/{name}?page=2&per_page=2"), name) == everything[2:4]
    assert ids_of(owner.get(f"/{name}?after={everything[1]}&per_page=2"), name) == everything[2:4]
    assert ids_of(owner.get(f"/{name}?before={everything[3]}&per_page=2"), name) == everything[1:3]
    assert ids_of(owner.get(f"/{name}?page=90"), name) == []


@every_list
def test_numbered_pages_end_at_item_10000(owner: Caller, name: str) -> None:
    assert ids_of(owner.get(f"/{name}?page=100&per_page=100"), name) == []
    for query in ("page=1001", "page=101&per_page=100", "page=10000"):
        refused = owner.ask("GET", f"/{name}?{query}")
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["pointer"] == "?page"
        assert "after" in refused.json()["detail"]


def test_ten_are_shown_by_default_and_a_hundred_at_most(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/messages"
    owner.ask("POST", f"{path}/batch", {"messages": [{"data": number} for number in range(101)]})
    assert len(owner.get(path)["messages"]) == 10
    assert len(owner.get(f"{path}?per_page=100")["messages"]) == 100


def test_links_of_a_page_are_in_the_header_too(owner: Caller) -> None:
    made = LISTS["queues"](owner)
    answer = owner.ask("GET", f"/queues?per_page=2&after={max(made)}")
    links = body(answer)["_links"]
    shown = {relation: url for url, relation in re.findall(r'<([^>]+)>; rel="(\w+)"', answer.headers["link"])}
    assert shown == {relation: links[relation]["href"] for relation in ("next", "prev")}
    assert re.search(r"[?&]after=", shown["next"])
    assert re.search(r"[?&]before=", shown["prev"])


def test_at_the_ends_there_is_no_link(owner: Caller) -> None:
    LISTS["queues"](owner)
    assert set(owner.get("/queues")["_links"]) & {"next", "prev"} == set()
    assert "link" not in owner.ask("GET", "/queues").headers


def test_a_page_stays_where_it_is_while_things_are_added(owner: Caller) -> None:
    LISTS["queues"](owner)
    everything = ids_of(owner.get("/queues"), "queues")
    following = owner.get("/queues?per_page=2")["_links"]["next"]["href"]
    owner.create("/queues")
    assert ids_of(owner.get(following), "queues") == everything[2:4]


@covers("lists.md: alias", "lists.md: name", "lists.md# Filters")
@pytest.mark.parametrize("word", ["alias", "name"])
@every_list
def test_a_list_is_filtered_by_alias(owner: Caller, name: str, word: str) -> None:
    path = "/queues/" + owner.create("/queues")["id"] if name in {"listeners", "messages"} else ""
    first = LISTS[name](owner)[0]
    alias = next(each["alias"] for each in owner.get(f"/{name}?per_page=100")[name] if each["id"] == first)
    assert ids_of(owner.get(f"/{name}?{word}={alias}"), name) == [first]
    assert path == "" or owner.get(f"{path}/{name}?{word}={alias}")[name] == []


@covers("lists.md: created_after", "lists.md: created_before")
@every_list
def test_a_list_is_filtered_by_time(owner: Caller, name: str) -> None:
    LISTS[name](owner)
    shown = owner.get(f"/{name}?per_page=100")[name]
    middle = shown[2]["created_at"]
    after = ids_of(owner.get(f"/{name}?per_page=100&created_after={middle}"), name)
    before = ids_of(owner.get(f"/{name}?per_page=100&created_before={middle}"), name)
    assert set(after) == {each["id"] for each in shown if each["created_at"] > middle}
    assert set(before) == {each["id"] for each in shown if each["created_at"] < middle}


@pytest.mark.parametrize("path", ["/queues", "/messages"])
@pytest.mark.parametrize(
    "query",
    [
        "created_after=x",
        "created_after=-1",
        "created_after=1&created_after=2",
        "created_before=",
        "created_before=1.5",
        "created_before=9999999999999999",
        "created_before=%D9%A3",
        "alias=",
        "alias=%00",
        "alias=orders&alias=orders",
        "name=" + "x" * 255,
        "name=bills&alias=orders",
    ],
)
def test_a_filter_that_is_none_is_refused_by_name(owner: Caller, path: str, query: str) -> None:
    assert pointers(owner.refused(400, "GET", f"{path}?{query}")) == [f"?{query.partition('=')[0]}"]


@covers("lists.md# Find messages", "lists.md: listener", "lists.md: state")
def test_messages_are_filtered_by_state(owner: Caller) -> None:
    queue = owner.create("/queues")["id"]
    listener = owner.create(f"/queues/{queue}/listeners", status="disabled", **NOWHERE)["id"]
    message = owner.create(f"/queues/{queue}/messages", data="x")["id"]
    path = f"/queues/{queue}/messages?listener={listener}"
    assert ids_of(owner.get(f"{path}&state=pending"), "messages") == [message]
    assert owner.get(f"{path}&state=missed")["messages"] == []
    for path_of_all in ("/messages", f"/queues/{queue}/messages"):
        assert ids_of(owner.get(f"{path_of_all}?state=pending"), "messages")[:1] == [message]
    assert owner.get(f"/queues/{queue}/messages?state=missed")["messages"] == []
    owner.refused(400, "GET", f"{path}&state=lost")
    owner.refused(400, "GET", f"{path}&state=no_listeners")


@covers("lists.md: key", "lists.md: header")
def test_messages_are_found_by_key_and_header(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/messages"
    early = owner.create(path, data="é", key="customer-9")["id"]
    later = owner.create(path, data={"n": 1}, key="customer-9", headers={"X-Shop": "north"}, delay=60)["id"]
    owner.create(path, data="x", key="customer-1", headers={"X-Shop": "south"})
    assert ids_of(owner.get(f"{path}?key=customer-9"), "messages") == [later, early]
    assert ids_of(owner.get("/messages?key=customer-9"), "messages")[:2] == [later, early]
    assert ids_of(owner.get(f"{path}?header=x-shop:north"), "messages") == [later]
    assert len(owner.get(f"{path}?header=X-SHOP")["messages"]) == 2
    assert owner.get(f"{path}?header=x-shop:north&key=customer-1")["messages"] == []
    for query in ("key=", "header=", "header=a%20b", "header=%C3%A9"):
        owner.refused(400, "GET", f"{path}?{query}")


@covers("messages.md: size", "messages.md: state")
def test_lists_show_size_state_key_and_headers_of_messages(owner: Caller) -> None:
    queue = owner.create("/queues")["id"]
    path = f"/queues/{queue}/messages"
    unheard = owner.create(path, data="é", key="k", headers={"X-Shop": "north"})["id"]
    owner.create(f"/queues/{queue}/listeners", status="disabled", **NOWHERE)
    waiting = owner.create(path, data={"n": 1})["id"]
    shown = {each["id"]: each for each in owner.get(path)["messages"]}
    assert {name: shown[unheard][name] for name in ("size", "state", "key", "headers")} == {
        "size": 2,
        "state": "no_listeners",
        "key": "k",
        "headers": {"X-Shop": "north"},
    }
    assert (shown[waiting]["size"], shown[waiting]["state"]) == (7, "pending")
    assert not {"key", "headers", "data"} & shown[waiting].keys()
    for message, state in ((unheard, "no_listeners"), (waiting, "pending")):
        assert owner.shown(f"{path}/{message}")["state"] == state
