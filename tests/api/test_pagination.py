"""Lists in pages: links, filters, and query parameters that are rejected."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.served_api import Cast

LISTS = ["/queues", "/messages"]
"""A list of each kind: with and without the parameters of messages."""


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    (shown,) = [value for value in answer.json().values() if isinstance(value, list)]
    return [item["id"] for item in shown]


def aliases(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [queue["alias"] for queue in answer.json()["queues"]]


def filled(cast: Cast, count: int) -> Cast:
    for number in range(count):
        cast.queue(alias=f"queue-{number:02}")
    return cast


def walk(client: httpx.Client, url: str, relation: str) -> Iterator[httpx.Response]:
    following: str | None = url
    while following is not None:
        answer = client.get(following)
        yield answer
        following = answer.json()["_links"].get(relation, {}).get("href")


def newest_first(first: int, last: int) -> list[str]:
    return [f"queue-{number:02}" for number in range(first, last - 1, -1)]


def test_next_leads_to_the_last_page_and_prev_to_the_first(cast: Cast) -> None:
    filled(cast, 7)
    pages = list(walk(cast.alice, "/queues?per_page=3", "next"))
    assert [aliases(page) for page in pages] == [newest_first(6, 4), newest_first(3, 1), newest_first(0, 0)]
    back = list(walk(cast.alice, str(pages[-1].url), "prev"))
    assert [aliases(page) for page in back] == [newest_first(0, 0), newest_first(3, 1), newest_first(6, 4)]
    assert "prev" not in pages[0].json()["_links"]
    assert "next" not in pages[-1].json()["_links"]


def test_next_skips_and_repeats_nothing_while_items_are_added_and_removed(cast: Cast) -> None:
    filled(cast, 6)
    first = cast.alice.get("/queues?per_page=2")
    cast.queue(alias="newer")
    last_shown = first.json()["queues"][-1]["id"]
    assert cast.alice.delete(f"/queues/{last_shown}").status_code == 200
    rest = list(walk(cast.alice, first.json()["_links"]["next"]["href"], "next"))
    assert [alias for page in rest for alias in aliases(page)] == newest_first(3, 0)


def test_queue_called_next_is_linked_by_its_id(cast: Cast) -> None:
    queue = cast.queue(alias="next")
    links = cast.alice.get("/queues").json()["_links"]
    assert "next" not in links
    assert links[queue]["href"].endswith(queue)


def test_list_links_to_each_item_by_alias(cast: Cast) -> None:
    queue = cast.queue(alias="orders")
    links = cast.alice.get("/queues").json()["_links"]
    assert links["orders"]["href"] == f"{cast.service.url}/queues/{queue}"


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=x", "page"),
        ("page=", "page"),
        ("page=1.5", "page"),
        ("page=1&page=2", "page"),
        ("page=99999999999999999999", "page"),
        ("per_page=0", "per_page"),
        ("per_page=101", "per_page"),
        ("per_page=%D9%A3", "per_page"),
        ("after=x", "after"),
        ("before=", "before"),
        ("before=0000000000000000000%00", "before"),
    ],
)
def test_invalid_position_is_rejected_by_name(cast: Cast, path: str, query: str, name: str) -> None:
    answer = cast.alice.get(f"{path}?{query}")
    assert answer.status_code == 400
    assert [place["pointer"] for place in answer.json()["errors"]] == [f"?{name}"]


def test_more_than_64_parameters_are_rejected(cast: Cast) -> None:
    assert cast.alice.get("/queues?" + "&".join(["a=b"] * 65)).status_code == 400


@pytest.mark.parametrize("kind", ["messages", "listeners"])
def test_list_of_a_queue_has_pages_and_only_its_items(cast: Cast, kind: str) -> None:
    queue, other = cast.queue(), cast.queue()
    make = cast.message if kind == "messages" else cast.listener
    made = [make(queue) for _ in range(3)]
    elsewhere = make(other)
    pages = list(walk(cast.alice, f"/queues/{queue}/{kind}?per_page=2", "next"))
    assert [item["id"] for page in pages for item in page.json()[kind]] == made[::-1]
    everywhere = [item["id"] for page in walk(cast.alice, f"/{kind}?per_page=3", "next") for item in page.json()[kind]]
    assert everywhere == [elsewhere, *made[::-1]]


def test_alias_and_name_select_the_queue_of_the_organization(cast: Cast) -> None:
    wanted = cast.queue(alias="orders/2")
    cast.queue(alias="orders/3")
    for query in ({"alias": "orders/2"}, {"name": "orders/2"}, {"name": "orders/2", "alias": "orders/2"}):
        assert ids(cast.alice.get("/queues", params=query)) == [wanted]
    assert ids(cast.alice.get("/queues", params={"alias": "orders"})) == []
    assert ids(cast.charlie.get("/queues", params={"alias": "orders/2"})) == []


def test_creation_times_are_exclusive_bounds(cast: Cast) -> None:
    made = [cast.queue() for _ in range(3)]
    middle = cast.alice.get(f"/queues/{made[1]}").json()["queue"]["created_at"]
    shown = {each["id"]: each["created_at"] for each in cast.alice.get("/queues").json()["queues"]}
    later = [each for each in reversed(made) if shown[each] > middle]
    earlier = [each for each in reversed(made) if shown[each] < middle]
    assert ids(cast.alice.get("/queues", params={"created_after": middle})) == later
    assert ids(cast.alice.get("/queues", params={"created_before": middle})) == earlier
    both = {"created_after": middle - 1, "created_before": middle + 1}
    assert made[1] in ids(cast.alice.get("/queues", params=both))


def test_links_keep_the_filters(cast: Cast) -> None:
    queue = cast.queue()
    made = [cast.message(queue, alias="a/b.c") for _ in range(5)]
    cast.message(queue)
    url = f"/queues/{queue}/messages?alias=a/b.c&per_page=2&created_after=1&created_before=99999999999999"
    pages = list(walk(cast.alice, url, "next"))
    assert [each for page in pages for each in ids(page)] == made[::-1]
    for page in pages:
        for link in ("self", "next", "prev"):
            href = page.json()["_links"].get(link, {"href": "alias=a%2Fb.c&created_after=1"})["href"]
            assert "alias=a%2Fb.c" in href
            assert "created_after=1" in href
    back = list(walk(cast.alice, str(pages[-1].url), "prev"))
    assert [each for page in reversed(back) for each in ids(page)] == made[::-1]
    assert cast.alice.get(pages[1].json()["_links"]["self"]["href"]).json() == pages[1].json()
    assert re.search(r'<[^>]*alias=a%2Fb\.c[^>]*>; rel="next"', pages[0].headers["link"])


def test_messages_are_filtered_by_listener_and_state(cast: Cast) -> None:
    queue = cast.queue()
    before = cast.message(queue)
    listener = cast.listener(queue)
    made = [cast.message(queue) for _ in range(3)]
    for path in ("/messages", f"/queues/{queue}/messages"):
        assert ids(cast.alice.get(path, params={"listener": listener})) == made[::-1]
        assert ids(cast.alice.get(path, params={"listener": listener, "state": "pending"})) == made[::-1]
        for state in ("acknowledged", "retrying", "missed"):
            assert ids(cast.alice.get(path, params={"listener": listener, "state": state})) == []
        assert before in ids(cast.alice.get(path))
    page = cast.alice.get("/messages", params={"listener": listener, "state": "pending", "per_page": 1})
    assert [each for one in walk(cast.alice, str(page.url), "next") for each in ids(one)] == made[::-1]


def test_listener_of_another_organization_is_rejected_like_an_unknown_one(cast: Cast) -> None:
    queue, other = cast.queue(), cast.queue()
    elsewhere = cast.listener(other)
    answers = [
        cast.charlie.get("/messages", params={"listener": elsewhere}),
        cast.alice.get("/messages", params={"listener": "0" * 21}),
        cast.alice.get(f"/queues/{queue}/messages", params={"listener": elsewhere}),
    ]
    for answer in answers:
        assert answer.status_code == 400
        assert [place["pointer"] for place in answer.json()["errors"]] == ["?listener"]
    assert answers[0].json()["detail"] == answers[1].json()["detail"]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("created_after=x", "created_after"),
        ("created_after=-1", "created_after"),
        ("created_before=", "created_before"),
        ("created_before=1.5", "created_before"),
        ("created_before=9999999999999999", "created_before"),
        ("created_before=%D9%A3", "created_before"),
        ("created_after=1&created_after=2", "created_after"),
        ("alias=", "alias"),
        ("alias=%00", "alias"),
        ("name=" + "x" * 255, "name"),
        ("alias=orders&name=bills", "name"),
        ("alias=orders&alias=orders", "alias"),
    ],
)
def test_invalid_filter_is_rejected_by_name(cast: Cast, path: str, query: str, name: str) -> None:
    answer = cast.alice.get(f"{path}?{query}")
    assert answer.status_code == 400
    assert [place["pointer"] for place in answer.json()["errors"]] == [f"?{name}"]


@pytest.mark.parametrize("of_queue", [True, False])
@pytest.mark.parametrize(
    ("query", "name"),
    [({"state": "missed"}, "state"), ({"listener": "x"}, "listener"), ({"listener": "0" * 21, "state": "x"}, "state")],
)
def test_invalid_state_or_listener_of_messages_is_rejected_by_name(
    cast: Cast,
    of_queue: bool,  # noqa: FBT001
    query: dict[str, Any],
    name: str,
) -> None:
    path = f"/queues/{cast.queue()}/messages" if of_queue else "/messages"
    answer = cast.alice.get(path, params=query)
    assert answer.status_code == 400
    assert [place["pointer"] for place in answer.json()["errors"]] == [f"?{name}"]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "query", ["alias=%F0%9F%8E%89", "alias=%FF", "created_after=0", "created_before=0", "created_after=999999999999999"]
)
def test_unusual_filter_is_accepted(cast: Cast, path: str, query: str) -> None:
    assert cast.alice.get(f"{path}?{query}").status_code == 200


def test_state_is_ignored_in_lists_of_other_resources(cast: Cast) -> None:
    assert cast.alice.get("/queues?state=x&listener=y").status_code == 200
