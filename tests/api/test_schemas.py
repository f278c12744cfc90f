"""Schemas in the API: set with a queue, read at their own address, and enforced for published messages."""

from typing import Any

import pytest

from discue.domain.scopes import Scope
from tests.support.served_api import Cast

ORDERS = {"order": {"type": "number", "min": 1}, "note": {"type": "string", "max": 5, "required": False}}
DOCUMENT = {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}
# Neither the order of members nor how a number is written is ours to change.
AS_SENT = '{ "b":{"type":"number","max":1.50e2},\n "a" : {"min":1.0,"type":"number"} }'


def put(cast: Cast, queue: str, text: str) -> Any:
    return cast.alice.put(f"/queues/{queue}", content=text, headers={"content-type": "application/json"})


def pointers(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [place["pointer"] for place in answer.json()["errors"]]


def listed(cast: Cast, queue: str) -> int:
    return len(cast.alice.get(f"/queues/{queue}/messages").json()["messages"])


@pytest.mark.parametrize("field", ["schema", "json_schema"])
def test_a_schema_comes_back_as_it_was_sent(cast: Cast, field: str) -> None:
    text = AS_SENT if field == "schema" else '{"properties" : {"b":{"maximum":1.50e2},\n"a":{"minimum":1.0}} }'
    queue = cast.queue()
    answer = put(cast, queue, f'{{"{field}": {text}}}')
    assert f'"{field}":{text}' in answer.text
    assert f'"{field}":{text}' in cast.alice.get(f"/queues/{queue}").text
    schema_id = answer.json()["queue"]["schema_id"]
    assert f'"schema":{text}' in cast.alice.get(f"/queues/{queue}/schemas/{schema_id}").text


def test_a_key_for_a_schema_or_for_its_queue_reads_it(cast: Cast) -> None:
    queue = cast.queue()
    schema = cast.schema(queue)
    path = f"/queues/{queue}/schemas/{schema}"
    for targets, status in (((schema,), 200), ((queue,), 200), (("0" * 64,), 403)):
        assert cast.bob({"schemas": Scope("read", targets)}).get(path).status_code == status
    assert cast.bob({"queues": Scope("write")}).get(path).status_code == 403


def test_null_clears_the_schema_of_its_own_language(cast: Cast) -> None:
    queue = cast.queue(schema=ORDERS)
    path = f"/queues/{queue}"
    assert cast.alice.put(path, json={"json_schema": None}).json()["queue"]["schema"] == ORDERS
    assert "schema_id" not in cast.alice.put(path, json={"schema": None}).json()["queue"]
    cast.message(queue, data="anything")
    assert (
        cast.alice.put(path, json={"schema": None, "json_schema": DOCUMENT}).json()["queue"]["json_schema"] == DOCUMENT
    )
    assert "json_schema" in cast.alice.put(path, json={"schema": None}).json()["queue"]
    assert "json_schema" not in cast.alice.put(path, json={"json_schema": None}).json()["queue"]


def test_a_response_with_a_schema_can_be_sent_back_and_other_changes_leave_it(cast: Cast) -> None:
    queue = cast.queue(schema=ORDERS)
    shown = cast.alice.get(f"/queues/{queue}").json()["queue"]
    again = cast.alice.put(f"/queues/{queue}", json=shown).json()["queue"]
    assert {**again, "updated_at": 0} == {**shown, "updated_at": 0}
    renamed = cast.alice.put(f"/queues/{queue}", json={"alias": "renamed"}).json()["queue"]
    assert (renamed["schema"], renamed["schema_id"]) == (ORDERS, shown["schema_id"])


def test_schema_of_64_kib_is_accepted_with_other_fields(cast: Cast) -> None:
    queue = cast.queue()
    room = 65_536 - len('{"a":{"type":"string"}}')
    for spaces, status in ((room, 200), (room + 1, 422)):
        schema = '{"a":{"type":"string"%s}}' % (" " * spaces)
        answer = put(cast, queue, f'{{"alias": "large-one", "schema": {schema}, "listeners": ["{"x" * 40_000}"]}}')
        assert answer.status_code == status, answer.text
    assert put(cast, queue, f'{{"schema": "{"x" * 300_000}"}}').status_code == 413


@pytest.mark.parametrize("filling", ["", ' "b": {"type": "string"},' + " " * 300])
def test_a_member_twice_in_a_schema_is_refused(cast: Cast, filling: str) -> None:
    answer = put(
        cast, cast.queue(), f'{{"schema": {{{filling} "a": {{"type": "string"}}, "a": {{"type": "number"}}}}}}'
    )
    assert answer.status_code in {400, 422}
    assert answer.json()["errors"][0]["pointer"].startswith("/schema")


@pytest.mark.parametrize("data", ['{"order":1e999}', '{"order":%s}' % ("9" * 5_000), '{"order":1,"note":"\\ud800"}'])
def test_ambiguous_json_is_refused_without_an_internal_error(cast: Cast, data: str) -> None:
    queue = cast.queue(schema=ORDERS)
    answer = cast.alice.post(
        f"/queues/{queue}/messages", content=f'{{"data": {data}}}', headers={"content-type": "application/json"}
    )
    assert answer.status_code in {400, 422}
    assert cast.alice.post(f"/queues/{queue}/messages", json={"data": data}).status_code == 422
    assert listed(cast, queue) == 0


def test_batch_with_one_invalid_message_is_not_stored(cast: Cast) -> None:
    queue = cast.queue(json_schema=DOCUMENT)
    fits: dict[str, Any] = {"data": {"order": 1}}
    wrong = [fits, {"data": {"order": "x"}}, fits, {"data": "text"}, {"data": {}}]
    answer = cast.alice.post(f"/queues/{queue}/messages/batch", json={"messages": wrong})
    assert pointers(answer) == ["/messages/1/data/order", "/messages/3/data", "/messages/4/data/order"]
    assert listed(cast, queue) == 0
    assert cast.alice.post(f"/queues/{queue}/messages/batch", json={"messages": [fits] * 3}).status_code == 200
    many = cast.alice.post(f"/queues/{queue}/messages/batch", json={"messages": [{"data": {}}] * 500})
    assert len(pointers(many)) == 100


def test_messages_from_before_stay(cast: Cast) -> None:
    queue = cast.queue()
    before = cast.message(queue, data="anything")
    cast.schema(queue)
    assert cast.alice.post(f"/queues/{queue}/messages", json={"data": "anything"}).status_code == 422
    shown = cast.alice.get(f"/queues/{queue}/messages/{before}").json()["message"]
    assert shown["data"] == "anything"
    assert cast.alice.put(f"/queues/{queue}/messages/{before}", json={"alias": "renamed"}).status_code == 200


def test_a_violation_says_nothing_of_what_the_message_holds(cast: Cast) -> None:
    queue = cast.queue(schema=ORDERS)
    answer = cast.alice.post(f"/queues/{queue}/messages", json={"data": {"order": "confidential"}})
    assert answer.status_code == 422
    assert "confidential" not in answer.text
