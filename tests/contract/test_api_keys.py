"""API keys and their scopes."""

from typing import Any

import pytest

from tests.contract.caller import Caller, pointers, resource
from tests.contract.reference import covers
from tests.contract.world import NOWHERE

# Each request reaches another worker: all must know a change of a key.
SETTINGS_MEANT = ("three workers",)

PROTECTED = ("api_clients", "api_keys", "portal", "subscriptions", "users")
UNPROTECTED = ("channels", "domains", "events", "listeners", "messages", "queues", "schemas", "stats", "topics")


def scopes_of(owner: Caller, scopes: Any) -> dict[str, Any]:
    shown: dict[str, Any] = owner.create("/api_keys", scopes=scopes)["scopes"]
    return shown


@covers("POST /api_keys 200", "PUT /api_keys 200", "api_keys.md# Create")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_key_is_whole_once(owner: Caller, method: str) -> None:
    made = resource(owner.ask(method, "/api_keys", {"alias": "reader"}))
    shown = owner.shown(f"/api_keys/{made['id']}")
    assert made["key"].startswith(f"dsk_{made['id']}")
    assert made["key"].startswith(shown["key"])
    assert len(shown["key"]) < len(made["key"])
    assert {**shown, "key": ""} == {**made, "key": ""}
    assert (made["status"], made["last_used_at"], made["expires_at"]) == ("enabled", 0, 0)
    assert shown in owner.get("/api_keys")["api_keys"]
    assert {**owner.change(f"/api_keys/{made['id']}", **made), "updated_at": 0} == {**shown, "updated_at": 0}


@covers("api_keys.md# Scopes")
def test_scopes_are_a_map_or_a_list_and_shown_as_a_map_in_the_order_sent(owner: Caller) -> None:
    ids = ["z" * 21, "a" * 21]
    mapped = {"queues": {"access": "read", "targets": ids}, "events": {"access": "write", "targets": []}}
    listed = [{"resource": "queues", "access": "read", "targets": ids}, {"resource": "events"}]
    for sent in (mapped, listed, {**mapped, "events": {}}):
        shown = scopes_of(owner, sent)
        assert shown == mapped
        assert list(shown) == ["queues", "events"]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [([], []), (["*"], ["*"]), ("*", ["*"]), (["b" * 21, "a" * 21], ["b" * 21, "a" * 21]), ("a" * 21, ["a" * 21])],
)
def test_targets_come_back_as_they_were_sent(owner: Caller, sent: Any, shown: list[str]) -> None:
    assert scopes_of(owner, {"queues": {"access": "read", "targets": sent}})["queues"]["targets"] == shown


def test_without_scopes_a_key_gets_everything_unprotected(owner: Caller) -> None:
    scopes = owner.create("/api_keys")["scopes"]
    assert set(scopes) == set(UNPROTECTED)
    assert {scope["access"] for scope in scopes.values()} == {"write"}


@pytest.mark.parametrize("scopes", [{}, []])
def test_no_scopes_grant_nothing(owner: Caller, scopes: Any) -> None:
    key = owner.create("/api_keys", scopes=scopes)
    assert key["scopes"] == {}
    owner.with_key(key["key"]).refused(403, "GET", "/queues")


@pytest.mark.parametrize(
    ("scopes", "status", "pointer"),
    [
        (None, 422, "/scopes"),
        ("queues", 400, "/scopes"),
        ({"unicorns": {}}, 422, "/scopes/unicorns"),
        ({"queues": {"access": "own"}}, 422, "/scopes/queues/access"),
        ({"queues": {"targets": ["x!"]}}, 422, "/scopes/queues/targets/0"),
        ({"queues": {"surprise": 1}}, 400, "/scopes/queues/surprise"),
        *(({name: {"access": "read"}}, 422, f"/scopes/{name}") for name in PROTECTED),
    ],
)
def test_invalid_or_protected_scopes_are_refused(owner: Caller, scopes: Any, status: int, pointer: str) -> None:
    refused = owner.refused(status, "POST", "/api_keys", {"scopes": scopes})
    assert pointers(refused) == [pointer]
    if refused["code"] != "scope_protected":
        assert refused["detail"].startswith(f"The value at {pointer} {refused['errors'][0]['detail']}")


def test_a_scope_that_occurs_twice_is_refused(owner: Caller) -> None:
    content = b'{"scopes":{"queues":{},"queues":{"access":"read"}}}'
    answer = owner.refused(400, "POST", "/api_keys", content, headers={"Content-Type": "application/json"})
    assert pointers(answer) == ["/scopes/queues"]


def test_put_replaces_the_whole_map(owner: Caller) -> None:
    path = f"/api_keys/{owner.create('/api_keys', scopes={'queues': {}, 'stats': {}})['id']}"
    assert set(owner.change(path, scopes={"queues": {"access": "read"}})["scopes"]) == {"queues"}
    assert set(owner.change(path, status="disabled")["scopes"]) == {"queues"}
    owner.refused(422, "PUT", path, {"scopes": {"users": {}}})


@covers("api_keys.md# Disable, change, delete", "PUT /api_keys/{api_key_id} 200", "PUT /api_keys/{api_key_id} 422")
def test_a_key_is_changed(owner: Caller) -> None:
    path = f"/api_keys/{owner.create('/api_keys')['id']}"
    changed = owner.change(path, alias="renamed", status="disabled", expires_at=4_000_000_000_000)
    assert [changed[name] for name in ("name", "status", "expires_at")] == ["renamed", "disabled", 4_000_000_000_000]
    cleared = owner.change(path, expires_at=None, status=None)
    assert (cleared["expires_at"], cleared["status"]) == (0, "enabled")
    owner.refused(422, "PUT", path, {"status": "lost"})


@covers("DELETE /api_keys/{api_key_id} 200")
def test_a_key_is_deleted_and_its_alias_free(owner: Caller) -> None:
    path = f"/api_keys/{owner.create('/api_keys', alias='once')['id']}"
    owner.refused(422, "POST", "/api_keys", {"alias": "once"})
    assert list(owner.delete(path)) == ["_links"]
    owner.refused(404, "GET", path)
    assert owner.create("/api_keys", alias="once")["alias"] == "once"


@covers("DELETE /api_keys/{api_key_id} 409", "PUT /api_keys/{api_key_id} 409")
def test_the_last_key_that_can_manage_keys_stays(owner: Caller) -> None:
    first = next(key for key in owner.get("/api_keys")["api_keys"] if "api_keys" in key["scopes"])
    path = f"/api_keys/{first['id']}"
    owner.refused(409, "DELETE", path)
    owner.refused(409, "PUT", path, {"status": "disabled"})
    owner.refused(409, "PUT", path, {"scopes": {"queues": {}}})
    owner.refused(409, "PUT", path, {"expires_at": 4_000_000_000_000})


def test_targets_confine_a_key_to_the_named_resources(owner: Caller) -> None:
    mine, other = (owner.create("/queues")["id"] for _ in range(2))
    scopes = {name: {"targets": [mine]} for name in ("queues", "listeners", "messages")}
    bob = owner.with_key(owner.create("/api_keys", scopes=scopes)["key"])
    assert [queue["id"] for queue in bob.get("/queues")["queues"]] == [mine]
    bob.refused(403, "GET", f"/queues/{other}")
    bob.refused(403, "POST", "/queues", {})
    listener, message = (
        bob.create(f"/queues/{mine}/{name}", **fields)["id"]
        for name, fields in (("listeners", dict(NOWHERE)), ("messages", {"data": "x"}))
    )
    bob.refused(403, "POST", f"/queues/{other}/messages", {"data": "x"})
    bob.refused(403, "POST", f"/queues/{other}/listeners", NOWHERE)
    owner.create(f"/queues/{other}/messages", data="x")
    assert [each["id"] for each in bob.get("/messages")["messages"]] == [message]
    assert [each["id"] for each in bob.get("/listeners")["listeners"]] == [listener]


def test_narrowed_key_loses_its_scopes_within_a_second(owner: Caller) -> None:
    key = owner.create("/api_keys", scopes={"queues": {}, "stats": {}})
    bob = owner.with_key(key["key"])
    bob.get("/queues")
    owner.change(f"/api_keys/{key['id']}", scopes={"stats": {}})
    bob.until_status(403, "/queues")
