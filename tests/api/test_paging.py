"""Lists in pages: newest first, with links that stay right while things are added and removed."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.api.serving import Cast


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


def test_a_page_has_ten_by_default_newest_first(cast: Cast) -> None:
    assert aliases(filled(cast, 12).alice.get("/queues")) == newest_first(11, 2)


def test_pages_are_counted_from_one(cast: Cast) -> None:
    filled(cast, 7)
    assert aliases(cast.alice.get("/queues?per_page=3&page=1")) == newest_first(6, 4)
    assert aliases(cast.alice.get("/queues?per_page=3&page=3")) == newest_first(0, 0)
    assert aliases(cast.alice.get("/queues?per_page=3&page=4")) == []


def test_next_leads_to_the_end_and_prev_back_again(cast: Cast) -> None:
    filled(cast, 7)
    pages = list(walk(cast.alice, "/queues?per_page=3", "next"))
    assert [aliases(page) for page in pages] == [newest_first(6, 4), newest_first(3, 1), newest_first(0, 0)]
    back = list(walk(cast.alice, str(pages[-1].url), "prev"))
    assert [aliases(page) for page in back] == [newest_first(0, 0), newest_first(3, 1), newest_first(6, 4)]
    assert "prev" not in pages[0].json()["_links"]
    assert "next" not in pages[-1].json()["_links"]


def test_the_link_header_says_the_same(cast: Cast) -> None:
    filled(cast, 3)
    middle = cast.alice.get("/queues?per_page=1&page=2")
    found = dict(reversed(match) for match in re.findall(r'<([^>]*)>; rel="(\w+)"', middle.headers["link"]))
    links = middle.json()["_links"]
    assert found == {relation: links[relation]["href"] for relation in ("next", "prev")}
    assert "link" not in cast.alice.get("/queues").headers


def test_following_next_is_stable_while_things_are_added_and_removed(cast: Cast) -> None:
    filled(cast, 6)
    first = cast.alice.get("/queues?per_page=2")
    cast.queue(alias="newer")
    last_shown = first.json()["queues"][-1]["id"]
    assert cast.alice.delete(f"/queues/{last_shown}").status_code == 200
    rest = list(walk(cast.alice, first.json()["_links"]["next"]["href"], "next"))
    assert [alias for page in rest for alias in aliases(page)] == newest_first(3, 0)


def test_a_queue_called_next_does_not_take_the_place_of_the_page(cast: Cast) -> None:
    queue = cast.queue(alias="next")
    links = cast.alice.get("/queues").json()["_links"]
    assert "next" not in links
    assert links[queue]["href"].endswith(queue)


def test_a_list_links_to_each_of_its_things(cast: Cast) -> None:
    queue = cast.queue(alias="orders")
    links = cast.alice.get("/queues").json()["_links"]
    assert links["orders"]["href"] == f"{cast.service.url}/queues/{queue}"


@pytest.mark.parametrize("path", ["/queues", "/listeners", "/messages", "/api_keys", "/organizations", "/api_clients"])
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
def test_a_bad_parameter_is_400_and_named(cast: Cast, path: str, query: str, name: str) -> None:
    answer = cast.alice.get(f"{path}?{query}")
    assert answer.status_code == 400
    assert [place["pointer"] for place in answer.json()["errors"]] == [f"?{name}"]


def test_a_hundred_a_page_are_allowed(cast: Cast) -> None:
    assert cast.alice.get("/queues?per_page=100&page=1").status_code == 200


def test_too_many_parameters_are_400(cast: Cast) -> None:
    assert cast.alice.get("/queues?" + "&".join(["a=b"] * 65)).status_code == 400


@pytest.mark.parametrize("kind", ["messages", "listeners"])
def test_lists_of_a_queue_are_paged_too_and_lead_to_themselves(cast: Cast, kind: str) -> None:
    queue, other = cast.queue(), cast.queue()
    make = cast.message if kind == "messages" else cast.listener
    made = [make(queue) for _ in range(3)]
    elsewhere = make(other)
    pages = list(walk(cast.alice, f"/queues/{queue}/{kind}?per_page=2", "next"))
    assert [item["id"] for page in pages for item in page.json()[kind]] == made[::-1]
    everywhere = [item["id"] for page in walk(cast.alice, f"/{kind}?per_page=3", "next") for item in page.json()[kind]]
    assert everywhere == [elsewhere, *made[::-1]]
