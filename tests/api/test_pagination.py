"""Lists in pages: links, filters, and query parameters that are rejected."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.support.problems import pointers, problem
from tests.support.served_api import Cast


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    (shown,) = [value for value in answer.json().values() if isinstance(value, list)]
    return [item["id"] for item in shown]


def walk(client: httpx.Client, url: str, relation: str) -> Iterator[httpx.Response]:
    following: str | None = url
    while following is not None:
        answer = client.get(following)
        yield answer
        following = answer.json()["_links"].get(relation, {}).get("href")


def test_more_than_64_parameters_are_rejected(cast: Cast) -> None:
    assert cast.alice.get("/queues?" + "&".join(["a=b"] * 65)).status_code == 400


def test_links_keep_the_filters(cast: Cast) -> None:
    queue = cast.queue()
    made = [cast.message(queue, alias="a/b.c") for _ in range(5)]
    cast.message(queue)
    url = f"/queues/{queue}/messages?alias=a/b.c&per_page=2&created_after=100000000000&created_before=99999999999999"
    pages = list(walk(cast.alice, url, "next"))
    assert [each for page in pages for each in ids(page)] == made[::-1]
    for page in pages:
        for link in ("self", "next", "prev"):
            href = page.json()["_links"].get(link, {"href": "alias=a%2Fb.c&created_after=100000000000"})["href"]
            assert "alias=a%2Fb.c" in href
            assert "created_after=100000000000" in href
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
    assert [pointers(problem(answer, 400)) for answer in answers] == [["?listener"]] * 3
    assert answers[0].json()["detail"] == answers[1].json()["detail"]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"state": "filtered"}, "state"),
        ({"listener": "0" * 21, "state": "no_listeners"}, "state"),
        ({"listener": "x"}, "listener"),
        ({"listener": "0" * 21, "state": "x"}, "state"),
        ({"listener": "0" * 21, "state": "filtered"}, "state"),
    ],
)
def test_invalid_state_or_listener_of_messages_is_rejected_by_name(
    cast: Cast, query: dict[str, str], name: str
) -> None:
    for path in ("/messages", f"/queues/{cast.queue()}/messages"):
        assert pointers(problem(cast.alice.get(path, params=query), 400)) == [f"?{name}"]
