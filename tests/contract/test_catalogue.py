"""The catalogue of event types, and messages that must have one of its types."""

from typing import Any

import pytest

from tests.contract.caller import Caller, fresh, pointers, resource
from tests.contract.reference import covers

# All workers must know the event types that one of them stores.
SETTINGS_MEANT = ("three workers",)

SCHEMA: dict[str, Any] = {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}
STALE = {"If-Match": '"AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAA"'}


@pytest.fixture
def strict(operator: Caller) -> Caller:
    """The owner of an organization that requires known types, with a queue `orders`."""
    made = operator.ask(
        "POST", "/organizations", {"alias": f"org.example.{fresh('strict')}", "require_known_types": True}
    ).json()
    assert made["organization"]["require_known_types"] is True
    owner = operator.with_key(made["api_key"]["key"])
    owner.create("/queues", alias="orders")
    return owner


@covers(
    *("POST /event_types 200", "PUT /event_types 200", "POST /event_types 422", "PUT /event_types 422"),
    "event_types.md# Create",
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_event_type_is_created(owner: Caller, method: str) -> None:
    event_type = f"order.{fresh()}"
    fields = {"type": event_type, "description": "Paid.", "json_schema": SCHEMA, "example": {"order": 17}}
    made = resource(owner.ask(method, "/event_types", fields))
    assert (made["type"], made["alias"], made["name"], made["status"]) == (*[event_type] * 3, "enabled")
    assert (made["description"], made["json_schema"], made["example"]) == ("Paid.", SCHEMA, {"order": 17})
    assert owner.shown(f"/event_types/{made['id']}") == owner.shown(f"/event_types/{event_type}") == made
    taken = owner.refused(422, method, "/event_types", {"type": event_type})
    assert (taken["code"], pointers(taken)) == ("alias_taken", ["/type"])
    wrong = owner.refused(422, method, "/event_types", {**fields, "type": fresh(), "example": {"order": "one"}})
    assert (wrong["code"], pointers(wrong)) == ("schema_violation", ["/example/order"])
    owner.refused(400, method, "/event_types", {"description": "Paid."})


@covers(
    "PUT /event_types/{event_type_id} 200",
    "PUT /event_types/{event_type_id} 412",
    "PUT /event_types/{event_type_id} 422",
    "DELETE /event_types/{event_type_id} 200",
    "DELETE /event_types/{event_type_id} 412",
)
def test_an_event_type_is_changed_and_deleted(owner: Caller) -> None:
    event_type = f"order.{fresh()}"
    path = f"/event_types/{event_type}"
    # What the path names is created.
    made = owner.change(path, json_schema=SCHEMA)
    changed = owner.change(path, status="deprecated", description="No longer sent.")
    assert (changed["id"], changed["status"], changed["json_schema"]) == (made["id"], "deprecated", SCHEMA)
    cleared = owner.change(path, status=None, description=None, json_schema=None)
    assert (cleared["status"], cleared.keys() & {"description", "json_schema"}) == ("enabled", set())
    assert pointers(owner.refused(422, "PUT", path, {"type": "order..paid"})) == ["/type"]
    for method in ("PUT", "DELETE"):
        owner.refused(412, method, path, {}, headers=STALE)
    owner.delete(path)
    owner.refused(404, "GET", path)


@covers("event_types.md# OpenAPI document")
def test_the_catalogue_is_an_openapi_document(owner: Caller) -> None:
    event_type = f"order.{fresh()}"
    owner.create("/event_types", type=event_type, json_schema=SCHEMA, example={"order": 17})
    document = owner.get("/event_types.openapi.json")
    assert document["openapi"] == "3.1.0"
    content = document["webhooks"][event_type]["post"]["requestBody"]["content"]["application/json"]
    assert content == {"schema": SCHEMA, "example": {"order": 17}}


@covers("event_types.md# Require known types")
def test_messages_must_have_known_types_and_fit_their_schemas(strict: Caller) -> None:
    path, message = "/queues/orders/messages", {"type": "order.paid", "data": {"order": 17}}
    strict.create("/queues", alias="others")
    unknown = strict.refused(422, "POST", path, message)
    assert (unknown["code"], pointers(unknown)) == ("unknown_type", ["/type"])
    # Each request may reach another worker.
    strict.create("/event_types", type="order.paid", json_schema=SCHEMA)
    for _ in range(6):
        strict.create(path, **message)
    violation = strict.refused(422, "POST", path, {**message, "data": {"order": "one"}})
    assert (violation["code"], pointers(violation)) == ("schema_violation", ["/data/order"])
    for refused in ({"data": 1}, {"type": "order.lost", "data": 1}):
        batch = {"messages": [message, refused]}
        assert pointers(strict.refused(422, "POST", f"{path}/batch", batch)) == ["/messages/1/type"]
    strict.change("/event_types/order.paid", status="deprecated")
    strict.create(path, **message)
