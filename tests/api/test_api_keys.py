"""API keys as clients see them."""

from typing import Any

import pytest

from discue.domain.scopes import PROTECTED, RESOURCES
from tests.support.served_api import Cast


def create(cast: Cast, **fields: Any) -> dict[str, Any]:
    answer = cast.alice.post("/api_keys", json=fields)
    assert answer.status_code == 200, answer.text
    created: dict[str, Any] = answer.json()["api_key"]
    return created


def test_a_key_is_created_read_changed_and_deleted(cast: Cast) -> None:
    created = create(cast, alias="deploy")
    assert created["key"].startswith("dsk_")
    assert (created["alias"], created["name"], created["status"]) == ("deploy", "deploy", "enabled")
    assert (created["last_used_at"], created["expires_at"]) == (0, 0)
    path = f"/api_keys/{created['id']}"
    shown = cast.alice.get(path).json()["api_key"]
    assert shown == {**created, "key": shown["key"]}
    assert created["key"].startswith(shown["key"])
    assert len(shown["key"]) < 20
    assert cast.alice.put(path, json={"alias": "renamed"}).json()["api_key"]["name"] == "renamed"
    assert cast.alice.delete(path).json() == {"_links": {"self": {"href": cast.service.url + path}}}
    assert cast.alice.get(path).status_code == 404


def test_a_key_is_whole_in_the_answer_to_its_creation_alone(cast: Cast) -> None:
    created = create(cast)
    for path in ("/api_keys", f"/api_keys/{created['id']}"):
        assert created["key"] not in cast.alice.get(path).text
    assert created["key"] not in cast.alice.put(f"/api_keys/{created['id']}", json={}).text


def test_without_scopes_a_key_gets_everything_unprotected(cast: Cast) -> None:
    assert set(create(cast)["scopes"]) == set(RESOURCES) - PROTECTED


@pytest.mark.parametrize("nothing", [{}, []])
def test_empty_scopes_grant_nothing(cast: Cast, nothing: object) -> None:
    created = create(cast, scopes=nothing)
    assert created["scopes"] == {}
    assert cast.service.client(created["key"]).get("/queues").status_code == 403


def test_scopes_have_two_forms_and_come_back_as_a_map_in_the_order_sent(cast: Cast) -> None:
    ids = ["z" * 21, "a" * 21]
    listed = [{"resource": "queues", "access": "read", "targets": ids}, {"resource": "events"}]
    mapped = {"queues": {"access": "read", "targets": ids}, "events": {"access": "write", "targets": []}}
    for sent in (listed, mapped):
        assert create(cast, scopes=sent)["scopes"] == mapped
    assert list(create(cast, scopes=mapped)["scopes"]) == ["queues", "events"]


@pytest.mark.parametrize(
    ("scopes", "status", "pointer"),
    [
        (None, 422, "/scopes"),
        ("all", 400, "/scopes"),
        ({"nothing": {}}, 422, "/scopes/nothing"),
        ({"queues": {"access": "admin"}}, 422, "/scopes/queues/access"),
        ({"queues": {"acess": "read"}}, 400, "/scopes/queues/acess"),
        ({"queues": {"targets": ["x"]}}, 422, "/scopes/queues/targets/0"),
        ({"users": {}}, 422, "/scopes/users"),
        ({"api_keys": {"access": "read"}}, 422, "/scopes/api_keys"),
    ],
)
def test_scopes_that_cannot_be_given_are_pointed_at(cast: Cast, scopes: object, status: int, pointer: str) -> None:
    answer = cast.alice.post("/api_keys", json={"scopes": scopes})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (status, pointer)


def test_doubled_scopes_are_400(cast: Cast) -> None:
    content = '{"scopes":{"queues":{},"queues":{"access":"read"}}}'
    answer = cast.alice.post("/api_keys", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/scopes/queues")


def test_put_replaces_all_scopes_and_takes_effect_at_once(cast: Cast) -> None:
    created = create(cast)
    bob = cast.service.client(created["key"])
    assert bob.get("/queues").status_code == 200
    path = f"/api_keys/{created['id']}"
    changed = cast.alice.put(path, json={"scopes": {"messages": {"access": "read"}}}).json()["api_key"]
    assert changed["scopes"] == {"messages": {"access": "read", "targets": []}}
    assert bob.get("/queues").status_code == 403
    cast.alice.put(path, json={"status": "disabled"})
    assert bob.get("/messages").status_code == 401
    cast.alice.put(path, json={"status": "enabled"})
    assert bob.get("/messages").status_code == 200


def test_an_expired_key_is_401_and_null_takes_the_expiry_away(cast: Cast) -> None:
    created = create(cast, expires_at=4_000_000_000_000)
    assert created["expires_at"] == 4_000_000_000_000
    path = f"/api_keys/{created['id']}"
    assert cast.alice.put(path, json={"expires_at": None}).json()["api_key"]["expires_at"] == 0
    assert cast.alice.put(path, json={"expires_at": 5}).status_code == 422


def test_the_last_key_that_manages_keys_stays(cast: Cast) -> None:
    (first,) = cast.alice.get("/api_keys").json()["api_keys"]
    path = f"/api_keys/{first['id']}"
    assert cast.alice.delete(path).status_code == 409
    assert cast.alice.put(path, json={"status": "disabled"}).status_code == 409


def test_a_response_can_be_sent_back_as_it_is(cast: Cast) -> None:
    created = create(cast, alias="deploy")
    again = cast.alice.put(f"/api_keys/{created['id']}", json=created)
    assert again.status_code == 200, again.text
    assert again.json()["api_key"]["scopes"] == created["scopes"]
