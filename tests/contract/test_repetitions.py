"""Idempotency keys, and conditional requests."""

from typing import Any

import pytest

from tests.contract.caller import Caller, fresh, problem, resource
from tests.contract.reference import OPERATIONS, Operation, covers, for_every
from tests.contract.world import NOWHERE, World

# The repetition reaches another worker than the first request.
SETTINGS_MEANT = ("three workers",)

CREATING = [
    operation
    for operation in OPERATIONS
    if any(str(each.get("$ref")).endswith("/Idempotency-Key") for each in operation.parameters)
]
CHANGING = [operation for operation in OPERATIONS if 412 in operation.statuses]
SECRETS = ("secret", "token", "url")
SHOWN_OF_A_KEY = 12


def without_secrets(value: Any) -> Any:
    """Return a response body as a repeated request shows it."""
    if isinstance(value, list):
        return [without_secrets(each) for each in value]
    if not isinstance(value, dict):
        return value
    # The resource in a response may have the name of a secret field. The url of a source is shown, too.
    kept = {
        name: without_secrets(each)
        for name, each in value.items()
        if name not in SECRETS or isinstance(each, dict) or "/in/" in each
    }
    if str(kept.get("key", "")).startswith("dsk_"):
        kept["key"] = kept["key"][:SHOWN_OF_A_KEY]
    return kept


def body_of(operation: Operation) -> dict[str, object]:
    """Return a body that can be created repeatedly."""
    if operation.path in {"/organizations", "/api_clients"}:
        return {"alias": f"org.example.{fresh()}"}
    if operation.path == "/users":
        return {"email": f"{fresh()}@example.com", "role": "viewer"}
    if operation.path == "/event_types":
        return {"type": f"order.{fresh()}"}
    return {name: value for name, value in operation.example.items() if name not in {"alias", "name", "messages"}}


@pytest.fixture
def grown(operator: Caller) -> World:
    """A world of these tests, in which they create more."""
    return _GROWN.setdefault(operator, World(operator))


_GROWN: dict[Caller, World] = {}


@for_every("operation", CREATING, lambda operation: f"{operation} 422")
@covers("idempotency.md# Rules", "idempotency.md# Guarantees")
def test_repeated_idempotency_key_creates_once(grown: World, operator: Caller, operation: Operation) -> None:
    caller = operator if "organizations" in operation.path or "clients" in operation.path else grown.owner
    path, content = _place_of(grown, operation)
    headers = {"Idempotency-Key": fresh("key")}
    headers["Host"] = "discue.example.com"
    first = caller.ask(operation.method, path, content, headers=headers)
    second = caller.ask(operation.method, path, content, headers=headers)
    assert (first.status_code, second.status_code) == (200, 200), first.text
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json() == without_secrets(first.json())
    other = {**content, "id": "another"} if "messages" not in content else {"messages": [{"data": {"n": 2}}]}
    refused = problem(caller.ask(operation.method, path, other, headers=headers), 422)
    assert "Idempotency-Key" in refused["detail"]


def _place_of(world: World, operation: Operation) -> tuple[str, dict[str, object]]:
    bodies: dict[str, dict[str, object]] = {
        "batch": {"messages": [{"data": {"n": 1}}]},
        "messages": {"data": {"n": 1}},
        "schedules": {"cron": "@daily", "data": {"n": 1}},
        "listeners": dict(NOWHERE),
        "channels": {"queue_id": world.owner.create("/queues")["id"]},
        "sources": {"provider": "github", "queue_id": world["queue_id"], "secrets": ["secret"]},
        "portal_sessions": {"customer": "acme"},
    }
    last = operation.path.rpartition("/")[2]
    return world.path(operation.path), bodies[last] if last in bodies else body_of(operation)


@pytest.mark.parametrize("key", ["", "x" * 256, "with blank", "a\tb", "ümlaut"])
def test_a_key_that_is_none_is_refused(owner: Caller, key: str) -> None:
    refused = owner.refused(400, "POST", "/queues", {}, headers={"Idempotency-Key": key.encode("latin-1")})
    assert "Idempotency-Key" in refused["detail"]


@for_every("operation", CHANGING, lambda operation: f"{operation} 412")
@covers("conditional-requests.md# Rules")
def test_stale_etag_changes_nothing(world: World, operation: Operation) -> None:
    path = world.path(operation.path)
    before = world.owner.shown(path)["updated_at"]
    content: dict[str, object] | None = {} if operation.takes_body else None
    answer = world.owner.ask(operation.method, path, content, headers={"If-Match": '"another.tag"'})
    assert problem(answer, 412)["title"] == "Precondition Failed"
    assert world.owner.shown(path)["updated_at"] == before


@covers("conditional-requests.md# Comparison by If-Match")
def test_change_is_bound_to_its_etag(owner: Caller) -> None:
    answer = owner.ask("POST", "/queues", {})
    path, tag = f"/queues/{resource(answer)['id']}", answer.headers["etag"]
    owner.create(f"{path}/messages", data="x")
    assert owner.ask("PUT", path, {"retention": 1}, headers={"If-Match": tag}).status_code == 200
    owner.refused(412, "PUT", path, {"retention": 2}, headers={"If-Match": tag})
    owner.refused(412, "DELETE", path, headers={"If-Match": tag})
    assert owner.ask("GET", path, headers={"If-None-Match": tag}).status_code == 200
    assert owner.ask("DELETE", path, headers={"If-Match": "*"}).status_code == 200
