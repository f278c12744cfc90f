"""Requests for messages that wait, as HTTP has them."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from discue.domain.scopes import Scope
from discue.http.pipeline import Pipeline, Request
from tests.support.served_api import Cast, Service

PATIENCE_SECONDS = 60


def _pulling(cast: Cast) -> tuple[str, str]:
    queue = cast.queue()
    return queue, f"/queues/{queue}/listeners/{cast.listener(queue, mode='pull')}"


def _waiting(service: Service) -> int:
    async def count() -> int:
        return sum(len(waiters._polls) for waiters in service.pulls._waiters.values())

    return service.run(count())


def _until_waiting(service: Service, count: int) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while _waiting(service) != count:
        assert time.monotonic() < ends_at


def test_disconnected_long_poll_leases_nothing(cast: Cast) -> None:
    service, (queue, path) = cast.service, _pulling(cast)
    key = cast.alice.headers["x-api-key"]
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS) as leaving:
        request = f"GET {path}/messages?wait=60 HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\r\n"
        leaving.sendall(request.encode())
        _until_waiting(service, 1)
    _until_waiting(service, 0)
    message = cast.message(queue)
    pulled = cast.alice.get(f"{path}/messages").json()["messages"]
    assert [(each["id"], each["attempt"]) for each in pulled] == [(message, 1)]


def test_a_key_for_one_listener_pulls_from_that_alone(cast: Cast) -> None:
    queue, path = _pulling(cast)
    other = f"/queues/{queue}/listeners/{cast.listener(queue, mode='pull')}"
    bob = cast.bob({"listeners": Scope("write", (path.rpartition("/")[2],)), "messages": Scope("read", (queue,))})
    cast.message(queue)
    (pulled,) = bob.get(f"{path}/messages").json()["messages"]
    assert bob.get(f"{other}/messages").status_code == 403
    content = {"acknowledge": [pulled["receipt"]]}
    assert bob.post(f"{other}/acknowledgements", json=content).status_code == 403
    # A receipt is good for its own listener.
    answer = cast.alice.post(f"{other}/acknowledgements", json=content).json()
    assert answer["receipts"] == [{"receipt": pulled["receipt"], "state": "expired"}]
    answer = bob.post(f"{path}/acknowledgements", json=content).json()
    assert answer["receipts"] == [{"receipt": pulled["receipt"], "state": "acknowledged"}]


def test_responses_with_escaped_data_are_within_the_reservations_of_their_reads(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, path = _pulling(cast)
    message = cast.message(queue, data="\1" * 100_000, headers={"x-tab": "a\tb" * 100})
    responses: list[tuple[int, int]] = []
    check = Pipeline._reserve_response

    async def noted(pipeline: Pipeline, request: Request, size: int) -> None:
        assert request.reservation is not None
        responses.append((size, request.reservation.bytes))
        await check(pipeline, request, size)

    monkeypatch.setattr(Pipeline, "_reserve_response", noted)
    messages = f"/queues/{queue}/messages"
    for each in (f"{path}/messages", f"{messages}/{message}", f"{messages}?data=true&per_page=1"):
        cast.alice.get(each).raise_for_status()
    assert len(responses) == 3
    assert all(600_000 < size <= reserved for size, reserved in responses), responses
    ledger, ends_at = cast.service.installation.store.ledger, time.monotonic() + PATIENCE_SECONDS
    while ledger.held:
        assert time.monotonic() < ends_at


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith("data: "):
            found: dict[str, Any] = json.loads(line.removeprefix("data: "))
            yield found


@contextmanager
def _streaming(cast: Cast, path: str, key: str | None = None) -> Iterator[httpx.Response]:
    headers = {"accept": "text/event-stream", "x-api-key": key or cast.alice.headers["x-api-key"]}
    with (
        httpx.Client(base_url=cast.service.url, headers=headers, timeout=PATIENCE_SECONDS) as client,
        client.stream("GET", f"{path}/messages?max=5") as answer,
    ):
        yield answer


def test_messages_come_as_events_for_as_long_as_the_client_stays(cast: Cast) -> None:
    service, (queue, path) = cast.service, _pulling(cast)
    first = cast.message(queue)
    with _streaming(cast, path) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        events = _events(answer.iter_lines())
        assert next(events)["id"] == first
        _until_waiting(service, 1)
        second = cast.message(queue)
        received = next(events)
        assert (received["id"], received["attempt"]) == (second, 1)
    _until_waiting(service, 0)
    third = cast.message(queue)
    with _streaming(cast, path) as answer:
        assert next(_events(answer.iter_lines()))["id"] == third
    content = {"acknowledge": [received["receipt"]]}
    assert cast.alice.post(f"{path}/acknowledgements", json=content).json()["receipts"][0]["state"] == "acknowledged"


def test_a_stream_has_no_more_open_at_once_than_the_listener_says(cast: Cast) -> None:
    queue = cast.queue()
    path = f"/queues/{queue}/listeners/{cast.listener(queue, mode='pull', max_in_flight=2)}"
    ids = [cast.message(queue) for _ in range(3)]
    with _streaming(cast, path) as answer:
        events = _events(answer.iter_lines())
        first, second = next(events), next(events)
        _until_waiting(cast.service, 1)
        content = {"acknowledge": [first["receipt"]]}
        cast.alice.post(f"{path}/acknowledgements", json=content)
        assert [each["id"] for each in (first, second, next(events))] == ids


def test_a_stream_ends_with_its_key_and_with_its_listener(cast: Cast) -> None:
    _, path = _pulling(cast)
    made = cast.alice.post("/api_keys", json={}).json()["api_key"]
    with _streaming(cast, path, made["key"]) as answer:
        _until_waiting(cast.service, 1)
        cast.alice.put(f"/api_keys/{made['id']}", json={"status": "disabled"})
        assert list(_events(answer.iter_lines())) == []
    with _streaming(cast, path) as answer:
        _until_waiting(cast.service, 1)
        cast.alice.put(path, json={"status": "disabled"})
        assert [each["status"] for each in _events(answer.iter_lines())] == [409]
