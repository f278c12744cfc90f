"""Sources as clients and providers see them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from discue.dispatch.jobs.system_events import RefusalReports
from discue.domain.providers import HmacOptions, provider_of, signed_headers
from discue.observability.logs import Log
from tests.support.served_api import Cast, served

SECRET, NEXT = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
PAID = b'{ "id": "evt_1", "type": "invoice.paid", "data": {"total": 17} }'


@pytest.fixture
def provider(cast: Cast) -> Iterator[httpx.Client]:
    """Another service, which has no key."""
    with httpx.Client(base_url=cast.service.url) as client:
        yield client


def create(cast: Cast, provider: str = "stripe", **fields: Any) -> dict[str, Any]:
    answer = cast.alice.put("/queues/payments", json={})
    body = {"provider": provider, "queue_id": "payments", "secrets": [SECRET], **fields}
    answer = cast.alice.post("/sources", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()["source"]
    return made


def signed(
    name: str = "stripe", body: bytes = PAID, secret: str = SECRET, at: float = 0, **given: str
) -> dict[str, str]:
    headers = {"event_id": "e-1", "event_type": "push", **given}
    return signed_headers(provider_of(name, None), secret, body, timestamp=int(time.time() + at), **headers)


def send(provider: httpx.Client, source: dict[str, Any], headers: dict[str, str], body: bytes = PAID) -> httpx.Response:
    return provider.post(f"/in/{source['id']}", content=body, headers={"content-type": "application/json", **headers})


def stored(cast: Cast) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = cast.alice.get("/queues/payments/messages?data=true").json()["messages"]
    return messages


def refusals(cast: Cast, source: dict[str, Any]) -> list[dict[str, Any]]:
    cast.service.run(RefusalReports(cast.service.installation, Log("test")).report())
    found: list[dict[str, Any]] = cast.alice.get(f"/sources/{source['id']}/refusals?per_page=100").json()["refusals"]
    return found


def test_source_never_shows_its_secrets(cast: Cast) -> None:
    made = create(cast, alias="stripe", provider="stripe")
    assert (made["alias"], made["provider"], made["refused"], made["refused_at"]) == ("stripe", "stripe", 0, 0)
    assert made["url"] == f"{cast.service.url}/in/{made['id']}"
    changed = cast.alice.put("/sources/stripe", json={"secrets": [SECRET, NEXT]})
    listed = cast.alice.get("/sources")
    for answer in (changed, listed, cast.alice.get("/sources/stripe"), cast.alice.get("/events")):
        assert answer.status_code == 200
        assert "MfKQ9r8G" not in answer.text
    assert listed.json()["sources"][0]["id"] == made["id"]
    # A response can be sent back unchanged.
    again = cast.alice.put("/sources/stripe", json=made).json()["source"]
    assert {**again, "updated_at": 0} == {**made, "updated_at": 0}


@pytest.mark.parametrize(
    ("fields", "status", "pointer"),
    [
        ({"provider": "paypal"}, 422, "/provider"),
        ({"provider": None}, 400, "/provider"),
        ({"queue_id": "unknown"}, 422, "/queue_id"),
        ({"secrets": []}, 422, "/secrets"),
        ({"secrets": ["s"] * 6}, 422, "/secrets"),
        ({"secrets": [""]}, 422, "/secrets/0"),
        ({"provider": "standard-webhooks", "secrets": ["whsec_%"]}, 422, "/secrets/0"),
        ({"header": "x-signature"}, 422, "/header"),
        ({"provider": "hmac"}, 422, "/header"),
        ({"provider": "hmac", "header": "a b"}, 422, "/header"),
        ({"provider": "hmac", "header": "x", "algorithm": "md5"}, 422, "/algorithm"),
        ({"provider": "hmac", "header": "x", "encoding": "hexa"}, 422, "/encoding"),
        ({"provider": "hmac", "header": "x", "prefix": "x" * 65}, 422, "/prefix"),
    ],
)
def test_invalid_source_is_rejected(cast: Cast, fields: dict[str, Any], status: int, pointer: str) -> None:
    cast.alice.put("/queues/payments", json={})
    answer = cast.alice.post(
        "/sources", json={"provider": "stripe", "queue_id": "payments", "secrets": ["s"], **fields}
    )
    assert (answer.status_code, [each["pointer"] for each in answer.json()["errors"]]) == (status, [pointer])


def test_verified_request_is_stored_once_as_received(cast: Cast, provider: httpx.Client) -> None:
    source = create(cast)
    first = send(provider, source, {**signed(), "x-other": "1"})
    again = send(provider, source, signed())
    assert (first.status_code, first.json()["repeated"]) == (200, False)
    assert again.json() == {"message": first.json()["message"], "repeated": True}
    [message] = stored(cast)
    assert (message["id"], message["type"]) == (first.json()["message"]["id"], "invoice.paid")
    shown = cast.alice.get(f"/queues/payments/messages/{message['id']}").json()["message"]
    assert (shown["content_type"], list(shown["headers"])) == ("application/json", ["stripe-signature"])
    assert PAID.decode() in cast.alice.get(f"/queues/payments/messages/{message['id']}").text
    # Another source of the same queue has its own ids.
    assert send(provider, create(cast), signed()).json()["repeated"] is False


@pytest.mark.parametrize("name", ["github", "shopify", "standard-webhooks"])
def test_provider_determines_type_and_id_of_an_event(cast: Cast, provider: httpx.Client, name: str) -> None:
    source = create(cast, provider=name)
    body = b"a=1&b=%20"
    for event_id, is_repeated in (("e-1", False), ("e-2", False), ("e-1", True)):
        headers = {**signed(name, body, event_id=event_id), "content-type": "application/x-www-form-urlencoded"}
        answer = send(provider, source, headers, body)
        assert (answer.status_code, answer.json()["repeated"]) == (200, is_repeated)
    assert [each["data"] for each in stored(cast)] == [body.decode()] * 2
    assert stored(cast)[0].get("type") == ("push" if name != "standard-webhooks" else None)


def test_hmac_options_describe_another_service(cast: Cast, provider: httpx.Client) -> None:
    options = {"header": "X-Sig", "algorithm": "sha512", "encoding": "base64", "prefix": "v=", "id_header": "X-Id"}
    source = create(cast, provider="hmac", **options)
    assert {name: source[name] for name in options} == options
    own = provider_of("hmac", msgspec.convert(options, HmacOptions))
    headers = signed_headers(own, SECRET, b"\xff\x00", event_id="7", event_type="", timestamp=0)
    assert send(provider, source, headers, b"\xff\x00").status_code == 200
    assert stored(cast)[0]["data_base64"] == "/wA="


def test_refused_requests_are_counted_and_kept_without_bodies(cast: Cast, provider: httpx.Client) -> None:
    source = create(cast)
    sent = {**signed(secret=NEXT), "authorization": "Bearer secret", "x-long": "y" * 9_000}
    for headers, code in ((sent, "signature_wrong"), ({}, "signature_missing"), (signed(at=-301), "signature_stale")):
        answer = send(provider, source, headers)
        assert (answer.status_code, answer.json()["code"]) == (401, code)
    found = refusals(cast, source)
    assert [each["reason"] for each in found] == ["signature_stale", "signature_missing", "signature_wrong"]
    assert found[2]["headers"]["stripe-signature"] == sent["stripe-signature"]
    assert "Bearer" not in str(found)
    assert "evt_1" not in str(found)
    assert sum(len(name) + len(value) for name, value in found[2]["headers"].items()) <= 2_048
    shown = cast.alice.get(f"/sources/{source['id']}").json()["source"]
    assert (shown["refused"], shown["refused_at"]) == (3, found[0]["created_at"])
    assert stored(cast) == []
    [event] = cast.alice.get("/queues/system%2Fevents/messages?data=true").json()["messages"]
    assert event["type"] == "source.refusing"
    assert (event["data"]["count"], event["data"]["source"]["id"]) == (3, source["id"])
    # A second report within the minute adds no event.
    for _ in range(110):
        send(provider, source, {})
    assert len(refusals(cast, source)) == 100
    assert cast.alice.get(f"/sources/{source['id']}").json()["source"]["refused"] == 113
    assert len(cast.alice.get("/queues/system%2Fevents/messages").json()["messages"]) == 1
    # An event that was refused is not remembered.
    assert send(provider, source, signed()).json()["repeated"] is False


@pytest.mark.parametrize(
    "name", ["Authorization", "Cookie", "Proxy-Authorization", "X-API-KEY", "X-Gitlab-Token", "X-Webhook-Secret"]
)
def test_credentials_in_headers_of_refused_requests_are_not_kept(cast: Cast, provider: httpx.Client, name: str) -> None:
    source = create(cast)
    send(provider, source, {name: "credential", "x-hub-signature-256": "sha256=1"})
    [refused] = refusals(cast, source)
    assert name.lower() not in refused["headers"]
    assert "x-hub-signature-256" in refused["headers"]


@pytest.mark.parametrize("code", ["unknown_type", "schema_violation"])
def test_verified_requests_that_the_queue_refuses_are_noted(cast: Cast, provider: httpx.Client, code: str) -> None:
    source = create(cast)
    if code == "unknown_type":
        assert (
            cast.alice.put(f"/organizations/{cast.organization_alias}", json={"require_known_types": True}).status_code
            == 200
        )
    else:
        assert cast.alice.put("/queues/payments", json={"json_schema": {"required": ["total"]}}).status_code == 200
    answer = send(provider, source, signed())
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    [refused] = refusals(cast, source)
    assert (refused["reason"], refused["detail"]) == (code, answer.json()["detail"])
    assert cast.alice.get(f"/sources/{source['id']}").json()["source"]["refused"] == 1
    assert stored(cast) == []


def test_secrets_are_rotated_without_refusals(cast: Cast, provider: httpx.Client) -> None:
    source = create(cast, secrets=[SECRET, NEXT])
    for number, secret in enumerate((SECRET, NEXT)):
        body = b'{"id":"evt_%d"}' % number
        assert send(provider, source, signed(body=body, secret=secret), body).status_code == 200
    cast.alice.put(f"/sources/{source['id']}", json={"secrets": [NEXT]})
    assert send(provider, source, signed()).status_code == 401


def test_unknown_source_is_not_found(cast: Cast, provider: httpx.Client) -> None:
    source = create(cast)
    cast.alice.delete(f"/sources/{source['id']}")
    for path in (f"/in/{source['id']}", "/in/", "/in/x", f"/v1/in/{source['id']}"):
        assert provider.post(path, content=PAID, headers=signed()).status_code == 404
    other = create(cast)
    refused = provider.get(f"/in/{other['id']}")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    cast.alice.delete("/queues/payments")
    assert send(provider, other, signed()).status_code == 404
    assert cast.alice.get("/sources").json()["sources"] == []


def test_body_larger_than_the_queue_allows_is_rejected(cast: Cast, provider: httpx.Client) -> None:
    source = create(cast)
    cast.alice.put("/queues/payments", json={"max_message_bytes": 2_000})
    body = b" " * 2_001
    assert send(provider, source, signed(body=body), body).status_code == 413
    assert send(provider, source, signed(body=body[1:]), body[1:]).status_code == 200


def test_verified_requests_are_limited_by_source_and_others_by_address(cast: Cast, provider: httpx.Client) -> None:
    source, other = create(cast), create(cast)
    operator = cast.service.client(cast.service.operator)
    operator.put(f"/organizations/{cast.organization_id}", json={"rate_limit": 2})
    bodies = [b'{"id":"evt_%d"}' % number for number in range(4)]
    for _ in range(5):
        send(provider, source, {})
    answers = [send(provider, source, signed(body=body), body).status_code for body in bodies]
    assert answers == [200, 200, 429, 429]
    assert send(provider, other, signed()).status_code == 200


def test_every_request_that_is_not_verified_counts_against_its_address(cast: Cast, provider: httpx.Client) -> None:
    source = create(cast)
    path = f"/in/{source['id']}"
    answers = [
        provider.get(path),
        provider.post(path, content=b" " * 300_000),
        provider.post(path, content=iter([b" " * 300_000])),
        provider.post(path, headers={"x-long": "y" * 40_000}),
        provider.post("/in/x"),
        send(provider, source, {}),
    ]
    assert [each.status_code for each in answers] == [405, 413, 413, 431, 404, 401]
    left = [int(each.headers["x-ratelimit-remaining"]) for each in answers]
    assert left == list(range(left[0], left[0] - 6, -1))


def test_a_change_applies_to_the_next_request_on_any_worker(cast: Cast, tmp_path: Path) -> None:
    source = create(cast)
    database = cast.service.installation.settings.database
    with served(tmp_path, database=database) as other, httpx.Client(base_url=other.url) as provider:
        assert send(provider, source, signed()).status_code == 200
        cast.alice.put(f"/sources/{source['id']}", json={"secrets": [NEXT]})
        assert send(provider, source, signed()).status_code == 401
        assert send(provider, source, signed(secret=NEXT)).status_code == 200
        cast.alice.delete(f"/sources/{source['id']}")
        assert send(provider, source, signed(secret=NEXT)).status_code == 404
