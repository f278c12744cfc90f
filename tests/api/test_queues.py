"""Queues as clients see them."""

import pytest

from discue.domain.ids import is_public_id
from tests.support.served_api import Cast


def test_a_queue_is_created_read_changed_and_deleted(cast: Cast) -> None:
    created = cast.alice.post("/queues", json={"alias": "orders", "retention": 60}).json()
    queue = created["queue"]
    assert is_public_id(queue["id"])
    assert (queue["alias"], queue["name"], queue["retention"], queue["listeners"]) == ("orders", "orders", 60, [])
    assert queue["created_at"] == queue["updated_at"] > 1_700_000_000_000
    path = f"/queues/{queue['id']}"
    assert cast.alice.get(path).json() == created
    changed = cast.alice.put(path, json={"name": "renamed"}).json()["queue"]
    assert (changed["alias"], changed["retention"]) == ("renamed", 60)
    deleted = cast.alice.delete(path)
    assert (deleted.status_code, deleted.json()) == (200, {"_links": {"self": {"href": cast.service.url + path}}})
    assert cast.alice.get(path).status_code == 404
    assert cast.alice.post("/queues", json={"alias": "renamed"}).status_code == 200


def test_null_clears_optional_fields_and_resets_the_alias_to_the_id(cast: Cast) -> None:
    queue = cast.queue(alias="orders", retention=60, max_message_bytes=10)
    shown = cast.alice.put(f"/queues/{queue}", json={"retention": None, "max_message_bytes": None}).json()["queue"]
    assert {"retention", "max_message_bytes"}.isdisjoint(shown)
    assert shown["alias"] == "orders"
    assert cast.alice.put(f"/queues/{queue}", json={"alias": None}).json()["queue"]["alias"] == queue


def test_without_a_name_it_is_called_by_its_id(cast: Cast) -> None:
    queue = cast.alice.post("/queues", json={"alias": None}).json()["queue"]
    assert queue["alias"] == queue["name"] == queue["id"]


def test_a_response_can_be_sent_back_as_it_is(cast: Cast) -> None:
    queue = cast.queue(alias="orders", retention=60)
    cast.listener(queue)
    answer = cast.alice.get(f"/queues/{queue}").json()
    again = cast.alice.put(f"/queues/{queue}", json={**answer["queue"], "_links": answer["_links"]})
    assert again.status_code == 200, again.text
    assert {**again.json()["queue"], "updated_at": 0} == {**answer["queue"], "updated_at": 0}


def test_read_only_fields_are_ignored(cast: Cast) -> None:
    made_up = {"id": "0" * 21, "created_at": 5, "updated_at": "x", "listeners": {}, "messages": None, "_links": []}
    created = cast.alice.post("/queues", json=made_up).json()["queue"]
    assert created["id"] != "0" * 21
    assert created["created_at"] > 5


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"alias": "abc"}, 422),
        ({"alias": "a" * 65}, 422),
        ({"alias": "with space"}, 422),
        ({"alias": "grüße"}, 422),
        ({"alias": "one-name", "name": "another"}, 422),
        ({"alias": "one-name", "name": "one-name"}, 200),
        ({"alias": "A.b_c/d-9"}, 200),
        ({"name": "a" * 64}, 200),
    ],
)
def test_names_have_their_rules(cast: Cast, fields: dict[str, str], status: int) -> None:
    answer = cast.alice.post("/queues", json=fields)
    assert answer.status_code == status
    if status == 422:
        assert {place["pointer"] for place in answer.json()["errors"]} <= {"/alias", "/name"}


def test_changed_one_of_alias_and_name_wins_in_a_put(cast: Cast) -> None:
    queue = cast.queue(alias="before")
    path = f"/queues/{queue}"
    assert cast.alice.put(path, json={"alias": "before", "name": "after"}).json()["queue"]["alias"] == "after"
    assert cast.alice.put(path, json={"alias": "once-more", "name": "after"}).json()["queue"]["name"] == "once-more"
    assert cast.alice.put(path, json={"alias": "this", "name": "that"}).status_code == 422


def test_a_taken_alias_is_422_within_an_organization_only(cast: Cast) -> None:
    cast.queue(alias="orders")
    answer = cast.alice.post("/queues", json={"alias": "orders"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/alias")
    assert cast.charlie.post("/queues", json={"alias": "orders"}).status_code == 200


def test_a_queue_shows_and_links_its_listeners(cast: Cast) -> None:
    queue = cast.queue()
    listener = cast.listener(queue, alias="billing")
    answer = cast.alice.get(f"/queues/{queue}").json()
    assert answer["queue"]["listeners"] == [{"id": listener, "alias": "billing", "name": "billing"}]
    assert answer["_links"]["billing"]["href"].endswith(f"/queues/{queue}/listeners/{listener}")


def test_a_queue_counts_its_messages(cast: Cast) -> None:
    queue = cast.queue()
    assert cast.alice.get(f"/queues/{queue}").json()["queue"]["messages"] == {
        "published_count": 0,
        "last_published_at": 0,
    }
    cast.message(queue)
    counts = cast.alice.get(f"/queues/{queue}").json()["queue"]["messages"]
    assert counts["published_count"] == 1
    assert counts["last_published_at"] > 0


def test_a_list_leaves_out_what_a_key_is_not_for(cast: Cast) -> None:
    mine, _ = cast.queue(), cast.queue()
    key = cast.alice.post("/api_keys", json={"scopes": {"queues": {"targets": [mine]}}}).json()["api_key"]["key"]
    shown = cast.service.client(key).get("/queues").json()["queues"]
    assert [queue["id"] for queue in shown] == [mine]
