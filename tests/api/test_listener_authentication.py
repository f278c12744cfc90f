"""How the service shows a listener who it is, as clients give and see it."""

from typing import Any

import pytest

from tests.crypto.test_endpoint_credentials import pair
from tests.support.problems import pointers, problem
from tests.support.served_api import Cast

URLS = {"notify_url": "https://127.0.0.1:9/", "liveness_url": "https://127.0.0.1:9/"}
BASIC = {"type": "basic", "username": "ada", "password": "s3cr3t"}
OAUTH2 = {
    "type": "oauth2",
    "token_url": "https://login.example.com/token",
    "client_id": "ada",
    "client_secret": "s3cr3t",
    "scope": "a b",
    "audience": "orders",
}
HIDDEN = ("password", "client_secret", "private_key")


def shown_of(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in HIDDEN}


@pytest.mark.parametrize("kind", ["basic", "oauth2", "certificate"])
def test_credentials_are_never_shown(cast: Cast, kind: str) -> None:
    given = {"basic": BASIC, "oauth2": OAUTH2, "certificate": {"type": "certificate", **pair()}}[kind]
    path = f"/queues/{cast.queue()}/listeners"
    made = cast.alice.post(path, json={**URLS, "authentication": given}, headers={"idempotency-key": kind})
    again = cast.alice.post(path, json={**URLS, "authentication": given}, headers={"idempotency-key": kind})
    place = f"{path}/{made.json()['listener']['id']}"
    put = cast.alice.put(place, json={"authentication": shown_of(given)})
    for answer in (made, again, put, cast.alice.get(place), cast.alice.get(path), cast.alice.get("/listeners")):
        assert answer.status_code == 200, answer.text
        assert "s3cr3t" not in answer.text
        assert "PRIVATE" not in answer.text
    assert made.json()["listener"]["authentication"] == shown_of(given)
    assert put.json()["listener"]["authentication"] == shown_of(given)
    cleared = cast.alice.put(place, json={"authentication": None}).json()["listener"]
    assert "authentication" not in cleared
    assert "authentication" not in cast.alice.get(place).json()["listener"]


@pytest.mark.parametrize(
    ("fields", "status", "pointer"),
    [
        ({"authentication": {"type": "digest"}}, 422, "/authentication/type"),
        ({"authentication": {"username": "ada"}}, 400, "/authentication/type"),
        ({"authentication": {"type": "basic", "username": "ada"}}, 400, "/authentication/password"),
        ({"authentication": {**BASIC, "user": "ada"}}, 400, "/authentication/user"),
        ({"authentication": {**BASIC, "scope": "a"}}, 422, "/authentication/scope"),
        ({"authentication": "basic"}, 400, "/authentication"),
        ({"authentication": BASIC, "headers": {"Authorization": "x"}}, 422, "/headers/Authorization"),
        ({"authentication": {**OAUTH2, "token_url": "login"}}, 422, "/authentication/token_url"),
    ],
    ids=str,
)
def test_invalid_authentication_is_refused_with_its_pointer(
    cast: Cast, fields: dict[str, Any], status: int, pointer: str
) -> None:
    answer = cast.alice.post(f"/queues/{cast.queue()}/listeners", json={**URLS, **fields})
    assert pointers(problem(answer, status)) == [pointer]
    assert "s3cr3t" not in answer.text


def test_a_certificate_needs_a_listener_that_is_reached_by_https(cast: Cast) -> None:
    fields = {"authentication": {"type": "certificate", **pair()}, "notify_url": "http://a.bc/"}
    answer = cast.alice.post(f"/queues/{cast.queue()}/listeners", json={**URLS, **fields})
    assert pointers(problem(answer, 422)) == ["/notify_url"]


def test_a_changed_secret_is_another_version(cast: Cast) -> None:
    queue = cast.queue()
    path = f"/queues/{queue}/listeners/{cast.listener(queue, authentication=BASIC)}"
    tag = cast.alice.get(path).headers["etag"]
    changed = {"authentication": {**BASIC, "password": "another"}}
    assert cast.alice.put(path, json=changed).status_code == 200
    assert cast.alice.put(path, json=changed, headers={"if-match": tag}).status_code == 412


def test_without_a_token_a_test_says_why(cast: Cast) -> None:
    queue = cast.queue()
    given = {**OAUTH2, "token_url": "http://127.0.0.1:9/token"}
    path = f"/queues/{queue}/listeners/{cast.listener(queue, authentication=given)}"
    shown = cast.alice.post(f"{path}/tests").json()["test"]
    assert (shown["state"], shown["error"], shown["status"]) == ("failed", "authentication", 0)
    assert shown["detail"] == "No access token: the request to the token URL failed (connect)."
