"""Sources: signed requests of other services, each to a random worker."""

import random
import time
from typing import Any

import httpx

from discue.domain.providers import provider_of, signed_headers
from tests.contract.caller import PATIENCE_SECONDS, Caller, fresh, pointers, resource
from tests.contract.reference import covers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS_MEANT = ("three workers",)

STALE = {"If-Match": '"AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAA"'}


def signed(body: bytes, **given: Any) -> dict[str, str]:
    values = {"event_id": fresh("event"), "event_type": "", "timestamp": int(time.time()), **given}
    return signed_headers(provider_of("standard-webhooks", None), SECRET, body, **values)


def send(owner: Caller, source: dict[str, Any], body: bytes, headers: dict[str, str]) -> httpx.Response:
    """Send a request to a source at any worker. The OpenAPI document does not describe the path."""
    url = random.choice(owner.installation.urls)  # noqa: S311 - a worker
    return httpx.post(f"{url}/in/{source['id']}", content=body, headers=headers)


def refused_request(owner: Caller, source: dict[str, Any] | None = None) -> dict[str, Any]:
    """Make a source refuse a request, and return what the source keeps of it."""
    fields = {"provider": "github", "queue_id": owner.create("/queues")["id"], "secrets": [SECRET]}
    source = source or owner.create("/sources", **fields)
    assert send(owner, source, b"{}", {}).status_code == 401
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := owner.get(f"/sources/{source['id']}/refusals")["refusals"]):
        assert time.monotonic() < end
    kept: dict[str, Any] = found[0]
    return kept


@covers(
    *("POST /sources 200", "PUT /sources 200", "POST /sources 422", "PUT /sources 422"),
    *("GET /sources 200", "GET /sources/{source_id} 200", "PUT /sources/{source_id} 200"),
    *("PUT /sources/{source_id} 412", "PUT /sources/{source_id} 422"),
    *("DELETE /sources/{source_id} 200", "DELETE /sources/{source_id} 412"),
    "sources.md# Create",
)
def test_source_is_created_changed_and_deleted(owner: Caller) -> None:
    queue = owner.create("/queues")
    fields = {"provider": "standard-webhooks", "queue_id": queue["id"], "secrets": [SECRET]}
    for method in ("POST", "PUT"):
        assert pointers(owner.refused(422, method, "/sources", {**fields, "secrets": []})) == ["/secrets"]
    [made, _] = [resource(owner.ask(method, "/sources", fields)) for method in ("POST", "PUT")]
    assert (made["provider"], made["queue_id"], made["refused"]) == ("standard-webhooks", queue["id"], 0)
    assert made["url"].endswith(f"/in/{made['id']}")
    assert "secrets" not in made
    path, other = f"/sources/{made['id']}", owner.create("/queues")
    assert owner.shown(path) == made
    changed = owner.change(path, queue_id=other["alias"], provider="hmac", header="X-Signature")
    assert (changed["queue_id"], changed["header"], changed["encoding"]) == (other["id"], "X-Signature", "hex")
    assert "header" not in owner.change(path, provider="stripe")
    assert pointers(owner.refused(422, "PUT", path, {"provider": "paypal"})) == ["/provider"]
    for method in ("PUT", "DELETE"):
        owner.refused(412, method, path, {}, headers=STALE)
    owner.delete(path)
    owner.refused(404, "GET", path)


@covers("sources.md# Receive", "sources.md: 200")
def test_signed_event_is_stored_once_by_any_worker(owner: Caller) -> None:
    queue = owner.create("/queues")
    source = owner.create("/sources", provider="standard-webhooks", queue_id=queue["id"], secrets=[SECRET])
    body = b'{"type": "order.paid", "order": 17}'
    headers = signed(body)
    answers = [send(owner, source, body, headers) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert [answer.json()["repeated"] for answer in answers] == [False, *[True] * 5]
    [message] = owner.get(f"/queues/{queue['id']}/messages?data=true")["messages"]
    assert (message["type"], message["data"]) == ("order.paid", {"type": "order.paid", "order": 17})
    assert {answer.json()["message"]["id"] for answer in answers} == {message["id"]}
    assert set(message["headers"]) == {f"source-{name}" for name in headers}
    assert send(owner, source, body + b" ", headers).json()["code"] == "signature_wrong"


@covers("sources.md# Refused requests", "GET /sources/{source_id}/refusals 200", "sources.md: 401")
def test_refused_request_is_kept_with_its_reason(owner: Caller) -> None:
    refused = refused_request(owner)
    assert (refused["reason"], refused["headers"]["accept"]) == ("signature_missing", "*/*")


@covers("sources.md: 404", "sources.md: 405, 413", "sources.md: 422", "sources.md: 429")
def test_source_has_the_other_errors_of_a_publish(owner: Caller, operator: Caller) -> None:
    alias = f"org.example.{fresh('sources')}"
    made = operator.ask("POST", "/organizations", {"alias": alias, "rate_limit": 30}).json()
    strict = operator.with_key(made["api_key"]["key"])
    queue = strict.create("/queues", json_schema={"type": "object"}, max_message_bytes=1_000)
    source = strict.create("/sources", provider="standard-webhooks", queue_id=queue["id"], secrets=[SECRET])
    assert send(owner, {"id": queue["id"]}, b"{}", signed(b"{}")).status_code == 404
    for body, status in ((b" " * 1_001, 413), (b"[]", 422), (b"text", 422)):
        assert send(owner, source, body, signed(body)).status_code == status
    got = httpx.get(f"{owner.installation.urls[0]}/in/{source['id']}")
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
    statuses = [send(owner, source, b"{}", signed(b"{}")).status_code for _ in range(70)]
    assert {200, 429} == set(statuses)


@covers("POST /sources 402", "PUT /sources 402", "PUT /sources/{source_id} 402")
def test_sources_count_towards_the_creations_of_a_day(operator: Caller) -> None:
    fields = {"alias": f"org.example.{fresh('sources')}", "quotas": {"creations_a_day": 1}}
    owner = operator.with_key(operator.ask("POST", "/organizations", fields).json()["api_key"]["key"])
    body = {"provider": "github", "queue_id": owner.create("/queues")["id"], "secrets": [SECRET]}
    for method, path in (("POST", "/sources"), ("PUT", "/sources"), ("PUT", "/sources/github")):
        assert owner.refused(402, method, path, body)["code"] == "quota_exceeded"
