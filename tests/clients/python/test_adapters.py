"""Webhooks in web frameworks: what reaches a handler, and what the sender gets for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

import discue_client
from discue_client import DoNotRetry, Event, Reject, Retry, Unsubscribe, Webhook
from discue_client.adapters.asgi import WebhookMiddleware as ASGIMiddleware
from discue_client.adapters.wsgi import WebhookMiddleware as WSGIMiddleware
from tests.clients.python.frameworks import ENDPOINTS, Call, call_asgi, call_wsgi
from tests.clients.python.signed import MESSAGE_ID, NOW, SECRET, headers_of

BODY = b'{"order": 17}'
MAX_BYTES = 1_000


@dataclass
class Order:
    order: int


class Endpoint:
    """An endpoint that keeps the events that reach its handler, which then raises `error` if it is set."""

    def __init__(self, framework: str) -> None:
        self.events: list[Event[Order]] = []
        self.error: Exception | None = None
        self.seen: set[str] = set()
        webhook = Webhook(
            SECRET, now=lambda: NOW, max_bytes=MAX_BYTES, seen=lambda event: event.deduplication_key in self.seen
        )
        self.call: Call = ENDPOINTS[framework](webhook, Order, self._handle)

    def _handle(self, event: Event[Order]) -> None:
        self.events.append(event)
        if self.error is not None:
            raise self.error


@pytest.fixture(params=ENDPOINTS)
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    return Endpoint(request.param)


def test_genuine_request_reaches_the_handler_typed_and_is_acknowledged(endpoint: Endpoint) -> None:
    answer = endpoint.call(BODY, headers_of(BODY, discue_attempt="2"))

    assert (answer.status, answer.text) == (204, "")
    assert [(event.id, event.data, event.attempt) for event in endpoint.events] == [(MESSAGE_ID, Order(17), 2)]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "The header webhook-id is missing."),
        (headers_of(b"{}"), "No signature matches"),
        (headers_of(BODY, timestamp=NOW - 301), "signed 301 s ago"),
    ],
    ids=["unsigned", "forged", "old"],
)
def test_request_that_is_not_genuine_gets_401_and_the_reason(
    endpoint: Endpoint, headers: dict[str, str], reason: str
) -> None:
    answer = endpoint.call(BODY, headers)

    assert (answer.status, endpoint.events) == (401, [])
    assert reason in answer.text


def test_body_above_the_limit_gets_413(endpoint: Endpoint) -> None:
    body = b" " * (MAX_BYTES + 1)
    assert endpoint.call(body, headers_of(body)).status == 413
    assert endpoint.events == []


def test_body_at_the_limit_is_accepted(endpoint: Endpoint) -> None:
    body = BODY.ljust(MAX_BYTES)
    assert endpoint.call(body, headers_of(body)).status == 204


def test_data_of_another_type_gets_422_and_is_sent_again(endpoint: Endpoint) -> None:
    answer = endpoint.call(b"[]", headers_of(b"[]"))

    assert (answer.status, endpoint.events) == (422, [])
    assert "webhook-no-retry" not in answer.headers
    assert "The data is not acceptable" in answer.text


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (Retry(after=1.2), 503, {"retry-after": "2"}),
        (Retry(), 503, {}),
        (Reject(), 500, {}),
        (DoNotRetry(), 422, {"webhook-no-retry": "true"}),
        (Unsubscribe(), 410, {}),
    ],
    ids=["retry after", "retry", "reject", "do not retry", "unsubscribe"],
)
def test_handler_responds_by_raising(
    endpoint: Endpoint, error: Exception, status: int, headers: dict[str, str]
) -> None:
    endpoint.error = error
    answer = endpoint.call(BODY, headers_of(BODY))

    assert (answer.status, len(endpoint.events)) == (status, 1)
    assert {
        name: answer.headers[name] for name in ("retry-after", "webhook-no-retry") if name in answer.headers
    } == headers


def test_failure_of_the_handler_is_not_acknowledged(endpoint: Endpoint) -> None:
    endpoint.error = RuntimeError("a bug")
    assert endpoint.call(BODY, headers_of(BODY)).status == 500


def test_message_that_was_seen_is_acknowledged_without_the_handler(endpoint: Endpoint) -> None:
    endpoint.seen.add(MESSAGE_ID)
    answer = endpoint.call(BODY, headers_of(BODY))
    assert (answer.status, answer.text, endpoint.events) == (204, "", [])


@pytest.mark.parametrize("framework", ["fastapi", "asgi"])
def test_large_body_is_not_read_to_its_end_from_asgi_servers(framework: str) -> None:
    parts: Iterator[bytes] = iter(repeat(b"x" * 100, 1_000))
    assert Endpoint(framework).call(parts, headers_of(b"")).status == 413
    assert len(list(parts)) > 980


@pytest.mark.parametrize("framework", ["wsgi", "flask", "django"])
def test_large_body_is_not_read_to_its_end_from_wsgi_servers(framework: str) -> None:
    body = b"x" * 100 * MAX_BYTES
    stream: dict[str, Any] = {"wsgi.input": BytesIO(body)}
    assert Endpoint(framework).call(body, headers_of(body), **stream).status == 413
    assert stream["wsgi.input"].tell() == MAX_BYTES + 1


def test_wsgi_reads_no_more_than_the_length_of_the_body() -> None:
    endpoint = Endpoint("wsgi")

    assert endpoint.call(BODY + b"the next request", headers_of(BODY), CONTENT_LENGTH=str(len(BODY))).status == 204
    assert endpoint.call(BODY, headers_of(BODY), CONTENT_LENGTH="").status == 401


@pytest.mark.parametrize("framework", ["wsgi", "flask"])
def test_chunked_body_is_read_where_the_server_marks_its_end(framework: str) -> None:
    chunked: dict[str, Any] = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}
    endpoint = Endpoint(framework)

    assert endpoint.call(BODY, headers_of(BODY), **chunked).status == 204
    assert endpoint.call(b"x" * 2_000, headers_of(BODY), **chunked).status == 413


# Middleware for some of the paths


async def _asgi_app(scope: Any, receive: Any, send: Any) -> None:
    status = 200 if "discue.event" in scope else 299
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})
    if scope["path"] == "/late":
        raise Retry


def _wsgi_app(environ: Any, start_response: Any) -> Iterator[bytes]:
    if environ["PATH_INFO"] == "/late":
        raise Retry(after=1)
    start_response("200 OK" if "discue.event" in environ else "299 Unverified", [])
    yield b"body"


PATHS = ("/hook", "/late")
WEBHOOK = Webhook(SECRET, now=lambda: NOW)
MIDDLEWARE = {
    "asgi": partial(call_asgi, ASGIMiddleware(_asgi_app, WEBHOOK, paths=PATHS)),
    "wsgi": partial(call_wsgi, WSGIMiddleware(_wsgi_app, WEBHOOK, paths=PATHS)),
}


@pytest.mark.parametrize("call", MIDDLEWARE.values(), ids=MIDDLEWARE)
def test_middleware_verifies_only_its_paths(call: Call) -> None:
    assert call(BODY, headers_of(BODY)).status == 200
    assert call(BODY, {}).status == 401
    assert call(BODY, headers_of(BODY), path="/other").status == 299
    assert call(BODY, headers_of(BODY), path="/hook/").status == 299


def test_generator_of_wsgi_responds_by_raising() -> None:
    answer = MIDDLEWARE["wsgi"](BODY, headers_of(BODY), path="/late")
    assert (answer.status, answer.headers, answer.text) == (503, {"retry-after": "1"}, "Retry")


def test_exception_after_the_start_of_a_response_is_not_hidden() -> None:
    with pytest.raises(Retry):
        MIDDLEWARE["asgi"](BODY, headers_of(BODY), path="/late")


@pytest.mark.parametrize(
    "path", sorted((Path(discue_client.__file__).parent / "adapters").glob("*.py")), ids=lambda p: p.stem
)
def test_adapter_is_short_enough_to_be_read_before_it_is_trusted(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60
