"""The catalogue of event types as clients see it, and messages that must have one of its types."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from discue.control import event_types
from discue.domain.scopes import Scope
from tests.support.served_api import Cast

SCHEMA = (
    '{ "type" : "object", "required": ["order"], "properties": {"order": {"$ref": "#/$defs/number"}}, '
    '"$defs": {"number": {"type": "integer"}}}'
)
JSON = {"content-type": "application/json"}


def create(cast: Cast, **fields: Any) -> dict[str, Any]:
    answer = cast.alice.post("/event_types", json={"type": "order.paid", **fields})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()["event_type"]
    return made


def require_known_types(cast: Cast, *, required: bool = True) -> None:
    answer = cast.alice.put(f"/organizations/{cast.organization_id}", json={"require_known_types": required})
    assert answer.json()["organization"]["require_known_types"] is required


def fault(answer: Any) -> tuple[int, str, list[str]]:
    problem = answer.json()
    return answer.status_code, problem["code"], [each["pointer"] for each in problem["errors"]]


def test_an_event_type_is_returned_as_it_was_sent(cast: Cast) -> None:
    text = f'{{"type": "order.paid", "description": "Paid.", "json_schema": {SCHEMA}, "example": {{"order": 1e0}}}}'
    answer = cast.alice.post("/event_types", content=text, headers=JSON)
    assert answer.status_code == 200, answer.text
    assert f'"json_schema":{SCHEMA}' in answer.text
    assert '"example":{"order": 1e0}' in answer.text
    made = answer.json()["event_type"]
    assert (made["type"], made["alias"], made["name"]) == ("order.paid",) * 3
    assert (made["status"], made["description"]) == ("enabled", "Paid.")
    assert cast.alice.get("/event_types/order.paid").json()["event_type"] == made
    assert cast.alice.get("/event_types").json()["_links"]["order.paid"]["href"].endswith(made["id"])
    # What was read can be sent back.
    sent = cast.alice.put(f"/event_types/{made['id']}", json=made).json()["event_type"]
    assert {**sent, "updated_at": 0} == {**made, "updated_at": 0}
    cleared = cast.alice.put(
        "/event_types/order.paid", json={"json_schema": None, "example": None, "description": None}
    )
    assert {"json_schema", "example", "description"}.isdisjoint(cleared.json()["event_type"])


def test_put_on_a_type_creates_and_changes_it(cast: Cast) -> None:
    path = "/event_types/order.paid"
    created = cast.alice.put(path, json={"description": "Paid."}).json()["event_type"]
    changed = cast.alice.put(path, json={"status": "deprecated"}).json()["event_type"]
    assert (changed["id"], changed["type"], changed["status"]) == (created["id"], "order.paid", "deprecated")
    assert changed["description"] == "Paid."
    renamed = cast.alice.put(path, json={"type": "order.settled"}).json()["event_type"]
    assert (renamed["id"], renamed["type"]) == (created["id"], "order.settled")
    assert cast.alice.get(path).status_code == 404
    assert cast.alice.delete("/event_types/order.settled").status_code == 200
    assert cast.alice.get("/event_types").json()["event_types"] == []
    assert cast.alice.put(path, json={}, headers={"if-match": "*"}).status_code == 404
    assert fault(cast.alice.put(path, json={"type": "another"})) == (422, "conflicting_fields", ["/type"])
    assert fault(cast.alice.put("/event_types/order..paid", json={})) == (422, "invalid_value", ["/type"])


@pytest.mark.parametrize(
    "event_type",
    [
        "order:paid",
        "order@2.paid",
        "a/b.c",
        "a//b/",
        "a/./b",
        "x%2Fy",
        "a?b#c",
        "{x}",
        "x" * 255,
        "0" * 21,
    ],
)
def test_every_type_names_its_event_type_in_paths(cast: Cast, event_type: str) -> None:
    path = f"/event_types/{quote(event_type, safe='')}"
    created = cast.alice.post("/event_types", json={"type": event_type}).json()["event_type"]
    assert cast.alice.get(path).json()["event_type"] == created
    changed = cast.alice.put(path, json={"status": "deprecated"}).json()["event_type"]
    assert (changed["id"], changed["status"]) == (created["id"], "deprecated")
    assert cast.alice.delete(path).status_code == 200
    missing = cast.alice.get(path)
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"type": "order..paid"}, "invalid_value", "/type"),
        ({"type": "order.*"}, "invalid_value", "/type"),
        ({"type": "x" * 256}, "invalid_value", "/type"),
        ({"description": "x" * 1_001}, "invalid_value", "/description"),
        ({"status": "disabled"}, "invalid_value", "/status"),
        ({"json_schema": {"type": "integr"}}, "invalid_schema", "/json_schema/type"),
        ({"json_schema": {"type": "integer"}, "example": "one"}, "schema_violation", "/example"),
        ({"example": "x" * 65_535}, "invalid_value", "/example"),
        ({"json_schema": {"title": "x" * 40_000}, "example": "x" * 40_000}, "invalid_value", "/json_schema"),
    ],
)
def test_invalid_event_types_are_refused(cast: Cast, fields: dict[str, Any], code: str, pointer: str) -> None:
    assert fault(cast.alice.post("/event_types", json={"type": "order.paid", **fields})) == (422, code, [pointer])
    create(cast)
    assert fault(cast.alice.put("/event_types/order.paid", json=fields)) == (422, code, [pointer])


def test_a_schema_or_example_must_fit_the_stored_other_one(cast: Cast) -> None:
    path = "/event_types/order.paid"
    create(cast, json_schema={"type": "integer"})
    refused = cast.alice.put(path, json={"example": "one"})
    assert fault(refused) == (422, "schema_violation", ["/example"])
    assert cast.alice.put(path, json={"example": 1}).status_code == 200
    refused = cast.alice.put(path, json={"json_schema": {"type": "string"}})
    assert fault(refused) == (422, "schema_violation", ["/json_schema"])
    assert "the stored example, in which /example must be" in refused.json()["detail"]
    both = cast.alice.put(path, json={"json_schema": {"type": "string"}, "example": "one"}).json()["event_type"]
    assert (both["json_schema"], both["example"]) == ({"type": "string"}, "one")
    assert cast.alice.put(path, json={"json_schema": {"type": "integer"}, "example": None}).status_code == 200


def test_a_schema_is_checked_again_if_the_example_changes_meanwhile(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, name, check = "/event_types/order.paid", "discue.control.event_types._check_texts", event_types._check_texts
    create(cast, example=1)

    async def check_and_change(*checked: Any) -> None:
        monkeypatch.setattr(name, check)
        await check(*checked)
        changed = await asyncio.to_thread(cast.alice.put, path, json={"example": "one"})
        assert changed.status_code == 200

    monkeypatch.setattr(name, check_and_change)
    refused = cast.bob({"schemas": Scope("write")}).put(path, json={"json_schema": {"type": "integer"}})
    assert fault(refused) == (422, "schema_violation", ["/json_schema"])


def test_a_type_is_in_a_catalogue_once(cast: Cast) -> None:
    create(cast)
    create(cast, type="order.sent")
    for answer in (
        cast.alice.post("/event_types", json={"type": "order.paid"}),
        cast.alice.put("/event_types/order.sent", json={"type": "order.paid"}),
    ):
        assert fault(answer) == (422, "alias_taken", ["/type"])
    assert cast.charlie.post("/event_types", json={"type": "order.paid"}).status_code == 200
    assert len(cast.charlie.get("/event_types").json()["event_types"]) == 1


def test_a_catalogue_has_limits(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discue.control.event_types.MAX_TYPES", 2)
    monkeypatch.setattr("discue.control.event_types.MAX_CATALOGUE_BYTES", 20)
    create(cast, example="0123456789")
    answer = cast.alice.post("/event_types", json={"type": "two", "example": "0123456789"})
    assert fault(answer) == (422, "too_many", ["/json_schema"])
    create(cast, type="two", example="01234567"[:6])
    assert fault(cast.alice.post("/event_types", json={"type": "three"})) == (422, "too_many", ["/type"])
    assert cast.alice.put("/event_types/two", json={"description": "changes stay possible"}).status_code == 200


def test_changes_of_event_types_are_events(cast: Cast) -> None:
    made = create(cast)
    cast.alice.put("/event_types/order.paid", json={"status": "deprecated"})
    cast.alice.delete("/event_types/order.paid")
    events = [each for each in cast.alice.get("/events").json()["events"] if each["type"].startswith("event_type")]
    assert [each["type"] for each in events][::-1] == ["event_type_added", "event_type_updated", "event_type_deleted"]
    assert {each["event_type"]["id"] for each in events} == {made["id"]}


def test_the_catalogue_is_an_openapi_document(cast: Cast) -> None:
    text = f'{{"type": "order.paid", "description": "Paid.", "json_schema": {SCHEMA}, "example": {{"order": 17}}}}'
    cast.alice.post("/event_types", content=text, headers=JSON)
    create(cast, type="order.lost", status="deprecated")
    document = cast.alice.get("/event_types.openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert list(document["webhooks"]) == ["order.lost", "order.paid"]
    lost, paid = (document["webhooks"][name]["post"] for name in ("order.lost", "order.paid"))
    assert (lost["deprecated"], paid["deprecated"], paid["description"]) == (True, False, "Paid.")
    content = paid["requestBody"]["content"]["application/json"]
    assert content["example"] == {"order": 17}
    # The references of the schema start at its own root.
    assert content["schema"].pop("$id").startswith("urn:discue:")
    assert content["schema"] == json.loads(SCHEMA)
    assert cast.charlie.get("/event_types.openapi.json").json()["webhooks"] == {}
    assert cast.nobody.get("/event_types.openapi.json").status_code == 401


def test_messages_must_have_known_types_and_fit_their_schemas(cast: Cast) -> None:
    queue = cast.queue()
    create(cast, json_schema=json.loads(SCHEMA))
    create(cast, type="order.lost", status="deprecated")
    path = f"/queues/{queue}/messages"
    assert cast.alice.post(path, json={"data": "x"}).status_code == 200
    require_known_types(cast)
    known, unknown = {"type": "order.paid", "data": {"order": 17}}, {"type": "order.sent", "data": 1}
    for sent in (known, {"type": "order.lost", "data": "anything"}):
        assert cast.alice.post(path, json=sent).status_code == 200
    for refused in (unknown, {"data": 1}):
        answer = cast.alice.post(path, json=refused)
        assert fault(answer) == (422, "unknown_type", ["/type"])
        assert ("is required, and must be an event type" in answer.json()["detail"]) == ("type" not in refused)
    wrong = {"type": "order.paid", "data": {"order": "one"}}
    assert fault(cast.alice.post(path, json=wrong)) == (422, "schema_violation", ["/data/order"])
    text = {"type": "order.paid", "data": "text"}
    assert fault(cast.alice.post(path, json=text)) == (422, "schema_violation", ["/data"])
    batch = {"messages": [known, unknown]}
    assert fault(cast.alice.post(f"{path}/batch", json=batch)) == (422, "unknown_type", ["/messages/1/type"])
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/", "ce-type": "order.sent", **JSON}
    assert fault(cast.alice.post(path, content=b"1", headers=event))[:2] == (422, "unknown_type")
    # New types, changes and deletions are in effect at once at the worker that stores them.
    create(cast, type="order.sent")
    assert cast.alice.post(path, json=unknown).status_code == 200
    cast.alice.put("/event_types/order.sent", json={"json_schema": {"type": "string"}})
    assert fault(cast.alice.post(path, json=unknown)) == (422, "schema_violation", ["/data"])
    cast.alice.delete("/event_types/order.sent")
    assert fault(cast.alice.post(path, json=unknown)) == (422, "unknown_type", ["/type"])
    require_known_types(cast, required=False)
    assert cast.alice.post(path, json=unknown).status_code == 200


def test_topics_and_schedules_require_known_types(cast: Cast) -> None:
    topic, queue = cast.topic(), cast.queue()
    create(cast, json_schema={"type": "integer"})
    require_known_types(cast)
    for path in (f"/topics/{topic}/messages", f"/queues/{queue}/schedules"):
        more = {"cron": "@yearly"} if path.endswith("schedules") else {}
        assert fault(cast.alice.post(path, json={"data": 1, **more})) == (422, "unknown_type", ["/type"])
        wrong = {"type": "order.paid", "data": "one", **more}
        assert fault(cast.alice.post(path, json=wrong)) == (422, "schema_violation", ["/data"])
        assert cast.alice.post(path, json={"type": "order.paid", "data": 1, **more}).status_code == 200
    schedule = cast.alice.get(f"/queues/{queue}/schedules").json()["schedules"][0]["id"]
    path = f"/queues/{queue}/schedules/{schedule}"
    assert fault(cast.alice.put(path, json={"type": "order.lost"})) == (422, "unknown_type", ["/type"])
    assert fault(cast.alice.put(path, json={"data": "one"})) == (422, "schema_violation", ["/data"])
    # What is stored does not prevent other changes.
    cast.alice.delete("/event_types/order.paid")
    assert cast.alice.put(path, json={"cron": "@monthly"}).status_code == 200


def test_keys_need_the_scope_of_schemas(cast: Cast) -> None:
    create(cast)
    reader = cast.bob({"schemas": Scope("read")})
    assert reader.get("/event_types/order.paid").status_code == 200
    assert reader.delete("/event_types/order.paid").status_code == 403
    assert cast.bob({"queues": Scope("write")}).get("/event_types.openapi.json").status_code == 403
