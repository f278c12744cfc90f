"""`/users` and `/invitations` as clients meet them."""

import os
from typing import Any

import httpx
import pytest

from tests.support.served_api import Cast

PASSWORD = "correct horse battery"


def accepted(client: httpx.Client, token: str, password: str = PASSWORD, **headers: str) -> httpx.Response:
    return client.post("/invitations", json={"token": token, "password": password}, headers=headers)


def test_a_user_is_created_shown_changed_and_deleted(cast: Cast) -> None:
    body = {"email": "Ada@Example.com", "display_name": "Ada", "role": "developer", "password": PASSWORD}
    created = cast.alice.post("/users", json=body)
    assert created.status_code == 200
    user = created.json()["user"]
    shown = {key: user[key] for key in ("alias", "name", "email", "display_name", "role", "state")}
    assert shown == {
        "alias": "Ada@Example.com",
        "name": "Ada@Example.com",
        "email": "Ada@Example.com",
        "display_name": "Ada",
        "role": "developer",
        "state": "active",
    }
    assert "invitation" not in created.json()
    url = created.json()["_links"]["self"]["href"]
    assert url == f"{cast.service.url}/users/{user['id']}"
    assert cast.alice.get(url).json()["user"] == user
    changed = cast.alice.put(url, json={"role": "viewer", "display_name": None}).json()["user"]
    assert (changed["role"], changed["display_name"], changed["email"]) == ("viewer", "", "Ada@Example.com")
    assert cast.alice.get("/users").json()["users"] == [changed]
    assert cast.alice.delete(url).json() == {"_links": {"self": {"href": url}}}
    assert cast.alice.get(url).status_code == 404


def test_password_is_never_in_a_response(cast: Cast) -> None:
    made = cast.user(password=PASSWORD)
    url = made["_links"]["self"]["href"]
    for answer in (cast.alice.get(url), cast.alice.get("/users"), cast.alice.put(url, json={"password": PASSWORD})):
        assert answer.status_code == 200
        assert "password" not in answer.text
        assert "argon2" not in answer.text


def test_shown_user_can_be_sent_back(cast: Cast) -> None:
    made = cast.user()
    url = made["_links"]["self"]["href"]
    shown = cast.alice.get(url).json()["user"]
    assert cast.alice.put(url, json=shown).json()["user"] == {**shown, "updated_at": _Anything()}


class _Anything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def test_an_invitation_is_shown_once_and_accepted_without_a_key(cast: Cast) -> None:
    made = cast.user()
    token = made["invitation"]["token"]
    assert made["invitation"]["url"] == f"{cast.service.url}/invitations#{token}"
    assert made["user"]["state"] == "invited"
    assert token not in cast.alice.get(made["_links"]["self"]["href"]).text
    answer = accepted(cast.nobody, token)
    assert (answer.status_code, answer.json()["user"]["state"]) == (200, "active")
    again = accepted(cast.nobody, token)
    assert (again.status_code, again.json()["title"]) == (404, "Not Found")


def test_a_wrong_token_is_answered_like_one_that_was_used(cast: Cast) -> None:
    token = cast.user()["invitation"]["token"]
    accepted(cast.nobody, token)
    used, wrong = (accepted(cast.nobody, each, **{"x-request-id": "same"}) for each in (token, "x" * 32))
    assert (used.status_code, wrong.status_code) == (404, 404)
    assert used.content == wrong.content


def test_another_invitation_is_made_on_demand(cast: Cast) -> None:
    made = cast.user()
    again = cast.alice.put(made["_links"]["self"]["href"], json={"invite": True}).json()
    assert accepted(cast.nobody, made["invitation"]["token"]).status_code == 404
    assert accepted(cast.nobody, again["invitation"]["token"]).status_code == 200


def test_guessing_tokens_locks_an_address_out(cast: Cast) -> None:
    address = {"x-forwarded-for": f"2001:db8:{os.urandom(2).hex()}::1"}
    for _ in range(5):
        assert accepted(cast.nobody, "x" * 32, **address).status_code == 404
    answer = accepted(cast.nobody, cast.user()["invitation"]["token"], **address)
    assert answer.status_code == 403
    assert int(answer.headers["retry-after"]) > 0


def test_a_repetition_shows_no_token(cast: Cast) -> None:
    body = {"email": "ada@example.com", "role": "owner"}
    first, second = (cast.alice.post("/users", json=body, headers={"idempotency-key": "one"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json()["user"] == first.json()["user"]
    assert second.json()["invitation"] == {"expires_at": first.json()["invitation"]["expires_at"]}


def test_user_change_can_be_bound_by_if_match(cast: Cast) -> None:
    made = cast.user()
    url = made["_links"]["self"]["href"]
    etag = cast.alice.get(url).headers["etag"]
    assert cast.alice.put(url, json={"role": "admin"}, headers={"if-match": etag}).status_code == 200
    assert cast.alice.put(url, json={"role": "viewer"}, headers={"if-match": etag}).status_code == 412
    assert cast.alice.delete(url, headers={"if-match": etag}).status_code == 412


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"role": "viewer"}, 400, "/email"),
        ({"email": "ada@example.com"}, 400, "/role"),
        ({"email": 1, "role": "viewer"}, 400, "/email"),
        ({"email": "ada@example.com", "role": "viewer", "password": None}, 400, "/password"),
        ({"email": "ada@example.com", "role": "king"}, 422, "/role"),
        ({"email": "ada", "role": "viewer"}, 422, "/email"),
        ({"email": "ada@example.com", "role": "viewer", "password": "short"}, 422, "/password"),
        ({"email": "ada@example.com", "role": "viewer", "colour": "red"}, 400, "/colour"),
    ],
)
def test_invalid_user_field_is_named(cast: Cast, body: dict[str, Any], status: int, pointer: str) -> None:
    answer = cast.alice.post("/users", json=body)
    assert answer.status_code == status
    assert pointer in [place["pointer"] for place in answer.json()["errors"]]


def test_a_user_is_found_by_email(cast: Cast) -> None:
    made = cast.user(email="Ada+one@example.com")
    cast.user()
    for query in ({"alias": "ada+ONE@example.com"}, {"name": "Ada+one@example.com"}):
        assert [user["id"] for user in cast.alice.get("/users", params=query).json()["users"]] == [made["user"]["id"]]


def test_events_say_what_happened_to_users(cast: Cast) -> None:
    made = cast.user()
    cast.alice.put(made["_links"]["self"]["href"], json={"role": "admin"})
    cast.alice.delete(made["_links"]["self"]["href"])
    kinds = [event["type"] for event in cast.alice.get("/events").json()["events"] if "user" in event]
    assert kinds[:3] == ["user_deleted", "user_updated", "user_added"]
