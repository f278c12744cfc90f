"""`/domains`, and organizations that want their listeners on them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.support.authority import server_context
from tests.support.scripted_server import CLOSE, HANG, READ_HEAD, ScriptedServer, Step
from tests.support.served_api import Cast

WEEK_MS = 7 * 86_400_000


@contextmanager
def _site(cast: Cast) -> Iterator[ScriptedServer]:
    """A server on localhost, over TLS, that has no file yet."""
    server = ScriptedServer([(HANG,)], server_context("localhost"), host="localhost")
    cast.service.run(server.__aenter__())
    try:
        yield server
    finally:
        cast.service.run(server.__aexit__(None, None, None))


def _file(content: str) -> Sequence[Step]:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n"
    return READ_HEAD, head.encode() + content.encode(), CLOSE


def _made(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()["domain"]
    return shown


def _pointers(answer: httpx.Response) -> list[str]:
    return [place["pointer"] for place in answer.json()["errors"]]


def test_a_new_domain_shows_its_challenge_and_that_it_is_not_verified(cast: Cast) -> None:
    answer = cast.alice.post("/v1/domains", json={"alias": "shop", "hostname": "Shop.Example.com"})
    shown = _made(answer)
    challenge = shown["challenge"]["https"]
    assert challenge["context_path"] == ".well-known/discue"
    assert challenge["expires_at"] - challenge["created_at"] == WEEK_MS
    assert len(challenge["file_name"]) >= 21
    assert len(challenge["file_content"]) >= 21
    assert shown["verification"] == {"verified": False, "verified_at": 0, "checked_at": 0, "last_error": ""}
    assert (shown["alias"], shown["name"], shown["hostname"], shown["port"]) == (
        "shop",
        "shop",
        "Shop.Example.com",
        443,
    )
    url = f"{cast.service.url}/v1/domains/{shown['id']}"
    assert answer.json()["_links"] == {"self": {"href": url}}
    assert cast.alice.get(url).json() == answer.json()


def test_put_creates_too_and_the_list_links_to_each(cast: Cast) -> None:
    first = _made(cast.alice.put("/domains", json={"name": "first", "hostname": "a.example", "port": 80}))
    second = _made(cast.alice.put("/domains", json={"hostname": "a.example", "port": 8_443}))
    answer = cast.alice.get("/domains").json()
    assert answer["domains"] == [second, first]
    assert answer["_links"]["first"] == {"href": f"{cast.service.url}/domains/{first['id']}"}
    assert cast.alice.delete(f"/domains/{first['id']}").json() == {
        "_links": {"self": {"href": f"{cast.service.url}/domains/{first['id']}"}}
    }
    assert cast.alice.get(f"/domains/{first['id']}").status_code == 404
    assert cast.alice.put(f"/domains/{first['id']}/verification").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({}, 400, "/hostname"),
        ({"hostname": None}, 400, "/hostname"),
        ({"hostname": 5}, 400, "/hostname"),
        ({"hostname": "a.example", "port": "443"}, 400, "/port"),
        ({"hostname": "a.example", "port": 443.5}, 400, "/port"),
        ({"hostname": "a.example", "post": 443}, 400, "/post"),
        ({"hostname": "a.b"}, 422, "/hostname"),
        ({"hostname": "a" * 254}, 422, "/hostname"),
        ({"hostname": "192.0.2.1"}, 422, "/hostname"),
        ({"hostname": "https://a.example"}, 422, "/hostname"),
        ({"hostname": "a.example", "port": 8}, 422, "/port"),
        ({"hostname": "a.example", "port": -443}, 422, "/port"),
        ({"hostname": "a.example", "alias": "x"}, 422, "/alias"),
    ],
)
def test_invalid_domain_field_is_named(cast: Cast, body: dict[str, Any], status: int, pointer: str) -> None:
    answer = cast.alice.post("/domains", json=body)
    assert (answer.status_code, _pointers(answer)) == (status, [pointer])
    assert cast.alice.get("/domains").json()["domains"] == []


def test_a_taken_alias_is_refused(cast: Cast) -> None:
    body = {"alias": "shop", "hostname": "a.example"}
    _made(cast.alice.post("/domains", json=body))
    answer = cast.alice.post("/domains", json=body)
    assert (answer.status_code, _pointers(answer)) == (422, ["/alias"])
    _made(cast.charlie.post("/domains", json=body))


def test_the_whole_answer_can_be_sent_back_and_another_place_cannot(cast: Cast) -> None:
    made = _made(cast.alice.post("/domains", json={"hostname": "a.example", "port": None}))
    path = f"/domains/{made['id']}"
    again = _made(cast.alice.put(path, json={**made, "verification": {"verified": True}, "alias": "renamed"}))
    assert {**again, "updated_at": 0} == {**made, "alias": "renamed", "name": "renamed", "updated_at": 0}
    assert _made(cast.alice.put(path))["alias"] == "renamed"
    assert _made(cast.alice.put(path, json={"alias": None}))["alias"] == made["id"]
    refused = cast.alice.put(path, json={"hostname": "b.example", "port": 80})
    assert (refused.status_code, sorted(_pointers(refused))) == (422, ["/hostname", "/port"])


def test_verification_on_demand_returns_its_result(cast: Cast) -> None:
    with _site(cast) as site:
        made = _made(cast.alice.post("/domains", json={"hostname": "localhost", "port": site.port}))
        content = made["challenge"]["https"]["file_content"]
        site.scripts = [_file(content)]
        answer = cast.alice.put(f"/v1/domains/{made['id']}/verification")
        found = _made(answer)
        assert found["verification"]["verified"] is True
        assert found["verification"]["verified_at"] == found["verification"]["checked_at"] >= made["created_at"]
        assert found["challenge"] == made["challenge"]
        assert answer.json()["_links"]["self"]["href"] == f"{cast.service.url}/v1/domains/{made['id']}"
        assert _made(cast.alice.get(f"/domains/{made['id']}")) == found
        assert _made(cast.alice.put(f"/domains/{made['id']}/verification", json={"anything": 1})) == found


@pytest.mark.parametrize(
    ("content", "error"), [("something else", "content differs"), ("x" * 100_000, "content differs")]
)
def test_a_file_that_is_not_right_verifies_nothing_and_is_not_shown(cast: Cast, content: str, error: str) -> None:
    with _site(cast) as site:
        site.scripts = [_file(content)]
        made = cast.domain(port=site.port)
        answer = cast.alice.put(f"/domains/{made}/verification")
        assert _made(answer)["verification"]["last_error"] == error
        assert content not in answer.text


def test_a_domain_on_which_nobody_answers_is_not_verified(cast: Cast) -> None:
    shown = _made(cast.alice.put(f"/domains/{cast.domain()}/verification"))["verification"]
    assert (shown["verified"], shown["verified_at"], shown["last_error"]) == (False, 0, "no connection")


def test_check_by_the_service_does_not_break_if_match(cast: Cast) -> None:
    path = f"/domains/{cast.domain()}"
    etag = cast.alice.get(path).headers["etag"]
    assert _made(cast.alice.put(f"{path}/verification"))["verification"]["checked_at"] > 0
    assert cast.alice.put(path, json={"alias": "renamed"}, headers={"if-match": etag}).status_code == 200
    assert cast.alice.delete(path, headers={"if-match": etag}).status_code == 412


def test_an_idempotency_key_creates_one_domain(cast: Cast) -> None:
    answers = [
        cast.alice.post("/domains", json={"hostname": "a.example"}, headers={"idempotency-key": "one"})
        for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert len(cast.alice.get("/domains").json()["domains"]) == 1


def _require(cast: Cast, required: object) -> httpx.Response:
    return cast.alice.put(f"/organizations/{cast.organization_id}", json={"require_verified_domains": required})


def test_an_organization_can_want_its_listeners_on_its_own_domains(cast: Cast) -> None:
    queue = cast.queue()
    assert (
        cast.alice.get(f"/api_clients/{cast.organization_id}").json()["api_client"]["require_verified_domains"] is False
    )
    assert _require(cast, True).json()["organization"]["require_verified_domains"] is True
    urls = {"notify_url": "https://shop.example.com/hook", "liveness_url": "https://live.example.com/"}
    refused = cast.alice.post(f"/queues/{queue}/listeners", json=urls)
    assert (refused.status_code, _pointers(refused)) == (422, ["/notify_url"])
    _made(cast.alice.post("/domains", json={"hostname": "shop.example.com"}))
    refused = cast.alice.post(f"/queues/{queue}/listeners", json=urls)
    assert (refused.status_code, _pointers(refused)) == (422, ["/liveness_url"])
    assert _require(cast, None).json()["organization"]["require_verified_domains"] is False
    cast.listener(queue)


def test_require_verified_domains_is_a_boolean(cast: Cast) -> None:
    refused = _require(cast, "yes")
    assert (refused.status_code, _pointers(refused)) == (400, ["/require_verified_domains"])
