"""Filters of listeners, as clients give, see and try them."""

import json
from base64 import b64encode
from typing import Any

import pytest

from discue.domain.scopes import Scope
from tests.support.problems import pointers, problem
from tests.support.served_api import Cast

URLS = {"notify_url": "http://127.0.0.1:9/", "liveness_url": "http://127.0.0.1:9/"}
FILTER = {"data": {"order.total": {"$gt": 5}, "order.state": ["paid", "refunded"]}, "headers": {"X-Shop": "north"}}


class Shop:
    """A queue with a listener."""

    def __init__(self, cast: Cast, chosen: Any = None) -> None:
        self.cast = cast
        self.queue = f"/queues/{cast.queue()}"
        made = cast.alice.post(f"{self.queue}/listeners", json={**URLS, "filter": chosen}).json()["listener"]
        self.listener = f"{self.queue}/listeners/{made['id']}"

    def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cast.alice.get(self.listener).json()["listener"]
        return found

    def tried(self, **asked: Any) -> dict[str, Any]:
        answer = self.cast.alice.post(f"{self.listener}/filter-tests", json=asked)
        assert answer.status_code == 200, answer.text
        assert answer.json()["_links"]["self"]["href"].endswith(f"{self.listener}/filter-tests")
        found: dict[str, Any] = answer.json()["filter_test"]
        return found


def test_a_filter_comes_back_as_it_was_sent_and_null_clears_it(cast: Cast) -> None:
    shop = Shop(cast)
    assert "filter" not in shop.shown()
    text = json.dumps(FILTER, indent=3)
    content = f'{{"filter": {text}, "timeout": 3}}'
    json_type = {"content-type": "application/json"}
    answer = cast.alice.put(shop.listener, content=content, headers=json_type)
    assert text in answer.text
    assert text in cast.alice.get(shop.listener).text
    assert cast.alice.put(shop.listener, json={"timeout": 4}).json()["listener"]["filter"] == FILTER
    assert cast.alice.put(shop.listener, json=shop.shown()).json()["listener"]["filter"] == FILTER
    assert "filter" not in cast.alice.put(shop.listener, json={"filter": None}).json()["listener"]


@pytest.mark.parametrize(
    ("chosen", "places"),
    [
        (5, ["/filter"]),
        ({}, ["/filter"]),
        ({"data": {"a": {"$gt": None}, "b": {"$near": 1}}}, ["/filter/data/a/$gt", "/filter/data/b/$near"]),
        ({"data": {"a": "x" * 8_192}}, ["/filter"]),
        ({"key": {"$regex": "(a)\\1"}}, ["/filter/key/$regex"]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_filter_that_is_none_is_refused_with_its_places_and_changes_nothing(
    cast: Cast, chosen: Any, places: list[str]
) -> None:
    shop = Shop(cast, FILTER)
    for answer in (
        cast.alice.post(f"{shop.queue}/listeners", json={**URLS, "filter": chosen}),
        cast.alice.put(shop.listener, json={"filter": chosen}),
        cast.alice.post(f"{shop.listener}/filter-tests", json={"filter": chosen, "data": 1}),
    ):
        assert pointers(problem(answer, 422)) == places
    assert shop.shown()["filter"] == FILTER


def test_a_member_that_occurs_twice_in_a_filter_is_refused(cast: Cast) -> None:
    shop = Shop(cast)
    long = "x" * 300
    for name, status in ((f'"{long}"', 422), ('"x"', 422)):
        content = f'{{"filter":{{"data":{{"a":{name},"a":2}}}}}}'
        answer = cast.alice.put(shop.listener, content=content, headers={"content-type": "application/json"})
        assert pointers(problem(answer, status)) == ["/filter"]


def test_a_filter_is_tried_on_a_message_that_is_made_up(cast: Cast) -> None:
    shop = Shop(cast, FILTER)
    data = {"order": {"total": 9, "state": "paid"}}
    assert shop.tried(data=data, headers={"x-shop": "north"}) == {
        "matches": True,
        "type_matches": True,
        "conditions": [
            {"pointer": "/filter/data/order.total/$gt", "holds": True},
            {"pointer": "/filter/data/order.state", "holds": True},
            {"pointer": "/filter/headers/X-Shop", "holds": True},
        ],
    }
    found = shop.tried(data=json.dumps(data))
    assert (found["matches"], [each["holds"] for each in found["conditions"]]) == (False, [True, True, False])
    found = shop.tried(data=json.dumps(data), content_type="application/json")
    assert [each["holds"] for each in found["conditions"]] == [False] * 3, "the data is a string"
    as_bytes = b64encode(json.dumps(data).encode()).decode()
    for sample in ({"data": "no JSON"}, {"data_base64": as_bytes}):
        assert shop.tried(**sample)["conditions"][0] == {"pointer": "/filter/data", "holds": False}
    assert shop.tried(data=0, key="c-9", filter={"key": "c-9"})["matches"]
    assert shop.shown()["filter"] == FILTER
    assert Shop(cast).tried(data=1) == {"matches": True, "type_matches": True, "conditions": []}


def test_types_are_tried_on_a_sample_or_a_stored_message(cast: Cast) -> None:
    shop = Shop(cast, {"data": {"n": 1}})
    cast.alice.put(shop.listener, json={"types": ["order.*"]}).raise_for_status()
    for event_type, n, expected in (("order.paid", 1, True), ("order.paid", 2, False), ("invoice.paid", 1, False)):
        found = shop.tried(data={"n": n}, type=event_type)
        assert (found["matches"], found["type_matches"]) == (expected, event_type == "order.paid")
        assert [each["holds"] for each in found["conditions"]] == [n == 1]
    assert not shop.tried(data={"n": 1})["matches"], "the message has no type"
    assert shop.tried(data={"n": 1}, types=None)["matches"]
    assert shop.tried(data={"n": 1}, types=["invoice.>"], type="invoice.paid")["matches"]
    stored = cast.alice.post(f"{shop.queue}/messages", json={"data": {"n": 1}, "type": "order.sent"}).json()["message"]
    assert shop.tried(message_id=stored["id"])["matches"]
    assert not shop.tried(message_id=stored["id"], types=["order.paid"])["matches"]
    for asked, pointer in (({"types": []}, "/types"), ({"type": "a b"}, "/type")):
        answer = cast.alice.post(f"{shop.listener}/filter-tests", json={"data": 1, **asked})
        assert pointers(problem(answer, 422)) == [pointer]


_SAMPLES = [{"data": 1}, {"data_base64": "AA=="}, {"content_type": "a/b"}, {"key": "k"}, {"type": "a"}]


@pytest.mark.parametrize("sample", _SAMPLES)
def test_filter_is_tried_on_a_sample_or_a_stored_message(cast: Cast, sample: dict[str, Any]) -> None:
    path = f"{Shop(cast).listener}/filter-tests"
    answer = problem(cast.alice.post(path, json={"message_id": "0" * 21, **sample}), 422)
    assert (answer["code"], pointers(answer)) == ("conflicting_fields", ["/message_id"])


def test_filter_test_needs_data_of_one_form(cast: Cast) -> None:
    path = f"{Shop(cast).listener}/filter-tests"
    asked: tuple[tuple[dict[str, Any], int, str], ...] = (
        ({"content_type": "text/plain"}, 400, "/data"),
        ({"data": 1, "data_base64": "AA=="}, 422, "/data_base64"),
        ({"data_base64": "?"}, 422, "/data_base64"),
        ({"data": 1, "content_type": "text"}, 422, "/content_type"),
    )
    for sample, status, pointer in asked:
        assert pointers(problem(cast.alice.post(path, json=sample), status)) == [pointer]


def test_filter_test_of_a_stored_message_needs_access_to_it(cast: Cast) -> None:
    shop = Shop(cast)
    stored = cast.alice.post(f"{shop.queue}/messages", json={"data": "secret"}).json()["message"]["id"]
    bob = cast.bob({"listeners": Scope("read")})
    asked = {"filter": {"data": {"$prefix": "s"}}}
    assert bob.post(f"{shop.listener}/filter-tests", json={**asked, "data": "x"}).status_code == 200
    problem(bob.post(f"{shop.listener}/filter-tests", json={**asked, "message_id": stored}), 403)
