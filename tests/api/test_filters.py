"""Filters of lists: what they leave out, and that the links keep them."""

import re
from typing import Any

import httpx
import pytest

from tests.api.serving import Cast
from tests.api.test_paging import walk

LISTS = ["/queues", "/listeners", "/messages", "/api_keys", "/organizations", "/api_clients", "/users", "/domains"]


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    (shown,) = [value for value in answer.json().values() if isinstance(value, list)]
    return [item["id"] for item in shown]


def test_an_alias_finds_one_queue_and_so_does_name(cast: Cast) -> None:
    wanted = cast.queue(alias="orders/2")
    cast.queue(alias="orders/3")
    for query in ({"alias": "orders/2"}, {"name": "orders/2"}, {"name": "orders/2", "alias": "orders/2"}):
        assert ids(cast.alice.get("/queues", params=query)) == [wanted]
    assert ids(cast.alice.get("/queues", params={"alias": "orders"})) == []
    assert ids(cast.charlie.get("/queues", params={"alias": "orders/2"})) == []


def test_times_are_bounds_that_are_not_included(cast: Cast) -> None:
    made = [cast.queue() for _ in range(3)]
    middle = cast.alice.get(f"/queues/{made[1]}").json()["queue"]["created_at"]
    shown = {each["id"]: each["created_at"] for each in cast.alice.get("/queues").json()["queues"]}
    later = [each for each in reversed(made) if shown[each] > middle]
    earlier = [each for each in reversed(made) if shown[each] < middle]
    assert ids(cast.alice.get("/queues", params={"created_after": middle})) == later
    assert ids(cast.alice.get("/queues", params={"created_before": middle})) == earlier
    both = {"created_after": middle - 1, "created_before": middle + 1}
    assert made[1] in ids(cast.alice.get("/queues", params=both))


def test_the_links_keep_the_filters(cast: Cast) -> None:
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


def test_messages_are_listed_by_listener_and_state(cast: Cast) -> None:
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


def test_a_listener_of_somebody_else_is_as_good_as_none(cast: Cast) -> None:
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
def test_a_bad_filter_is_400_and_named(cast: Cast, path: str, query: str, name: str) -> None:
    answer = cast.alice.get(f"{path}?{query}")
    assert answer.status_code == 400
    assert [place["pointer"] for place in answer.json()["errors"]] == [f"?{name}"]


@pytest.mark.parametrize("of_queue", [True, False])
@pytest.mark.parametrize(
    ("query", "name"),
    [({"state": "missed"}, "state"), ({"listener": "x"}, "listener"), ({"listener": "0" * 21, "state": "x"}, "state")],
)
def test_a_state_is_one_of_a_listener(cast: Cast, of_queue: bool, query: dict[str, Any], name: str) -> None:  # noqa: FBT001
    path = f"/queues/{cast.queue()}/messages" if of_queue else "/messages"
    answer = cast.alice.get(path, params=query)
    assert answer.status_code == 400
    assert [place["pointer"] for place in answer.json()["errors"]] == [f"?{name}"]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "query", ["alias=%F0%9F%8E%89", "alias=%FF", "created_after=0", "created_before=0", "created_after=999999999999999"]
)
def test_an_unlikely_filter_is_fine(cast: Cast, path: str, query: str) -> None:
    assert cast.alice.get(f"{path}?{query}").status_code == 200


def test_lists_of_other_things_do_not_look_at_a_state(cast: Cast) -> None:
    assert cast.alice.get("/queues?state=x&listener=y").status_code == 200
