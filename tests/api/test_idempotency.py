"""Idempotency keys: what creates takes effect once, and is answered as often as it comes, without its secrets."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx
import pytest

from discue.auth.keyed_semaphore import KeyedSemaphore
from discue.domain.scopes import Scope
from discue.store.engine import Batch, BatchOutcome
from tests.support.served_api import Cast, Service

KEY = "idempotency-key"
REPLAYED = "idempotency-replayed"
PATIENCE_SECONDS = 60

_numbers = count()


def new_key() -> dict[str, str]:
    return {KEY: f"test-{next(_numbers)}"}


@contextmanager
def held(service: Service) -> Iterator[tuple[threading.Event, Any]]:
    """Appends wait in the engine until they are let go: an event that one came, and what lets them go."""
    engine, came, gate = service.installation.store.engine, threading.Event(), asyncio.Event()
    commit = engine.commit

    async def held_commit(batch: Batch) -> BatchOutcome:
        if batch.appends:
            came.set()
            await gate.wait()
        return await commit(batch)

    engine.commit = held_commit  # type: ignore[method-assign]
    try:
        yield came, lambda: service.loop.call_soon_threadsafe(gate.set)
    finally:
        service.loop.call_soon_threadsafe(gate.set)
        engine.commit = commit  # type: ignore[method-assign]


def test_with_another_path_or_method_a_key_is_refused(cast: Cast) -> None:
    one, other = cast.queue(), cast.queue()
    headers = new_key()
    assert cast.alice.post(f"/queues/{one}/messages", json={"data": "1"}, headers=headers).status_code == 200
    assert cast.alice.post(f"/queues/{other}/messages", json={"data": "1"}, headers=headers).status_code == 422
    assert cast.alice.put(f"/queues/{one}/messages", json={"data": "1"}, headers=headers).status_code == 422
    assert cast.alice.post("/queues", json={"data": "1"}, headers=headers).status_code == 400


def test_stored_response_does_not_contain_the_host_header(cast: Cast) -> None:
    headers = new_key()
    fields = {"alias": "evil.example"}
    first = cast.alice.post("/queues", json=fields, headers={**headers, "host": "evil.example"})
    again = cast.alice.post("/queues", json=fields, headers=headers)
    assert (first.status_code, again.headers[REPLAYED]) == (200, "true")
    created = first.json()
    assert created["_links"]["self"]["href"] == f"http://evil.example/queues/{created['queue']['id']}"
    links = {"self": {"href": f"{cast.service.url}/queues/{created['queue']['id']}"}}
    assert again.json() == {**created, "_links": links}


def test_responses_for_idempotency_keys_count_as_stored_bytes(cast: Cast) -> None:
    used = _bytes_stored(cast)
    queue = cast.queue()
    topic = cast.topic()
    assert _bytes_stored(cast) == used
    for path, fields in (
        ("/queues", {}),
        (f"/queues/{queue}/messages", {"data": ""}),
        (f"/queues/{queue}/messages/batch", {"messages": [{"data": ""}] * 100}),
        (f"/topics/{topic}/messages", {"data": ""}),
    ):
        keyed = new_key()
        assert cast.alice.post(path, json=fields, headers=keyed).status_code == 200
        now = _bytes_stored(cast)
        assert now > used + (2_000 if path.endswith("batch") else 20), path
        used = now
        operator = cast.service.client(cast.service.operator)
        limits = {"quotas": {"bytes_stored": used + 20}}
        assert operator.put(f"/organizations/{cast.organization_id}", json=limits).status_code == 200
        refused = cast.alice.post(path, json=fields, headers=new_key())
        assert (refused.status_code, "bytes of stored messages" in refused.text) == (402, True), path
        assert _bytes_stored(cast) == used, path
        # A repeated request stores nothing more, and a request without a key stores no response.
        assert cast.alice.post(path, json=fields, headers=keyed).headers[REPLAYED] == "true"
        assert cast.alice.post(path, json=fields).status_code == 200
        assert operator.put(f"/organizations/{cast.organization_id}", json={"quotas": None}).status_code == 200


def _bytes_stored(cast: Cast) -> int:
    used: int = cast.alice.get("/limits").json()["limits"]["quotas"]["bytes_stored"]["used"]
    return used


def test_the_version_in_the_path_and_other_headers_do_not_matter(cast: Cast) -> None:
    headers = new_key()
    first = cast.alice.post("/queues", json={"alias": "orders"}, headers=headers)
    again = cast.alice.post(
        "/v1/queues?pretty=true", json={"alias": "orders"}, headers={**headers, "x-request-id": "b"}
    )
    assert again.json() == first.json()
    assert again.headers["etag"].partition(".")[0] == first.headers["etag"].partition(".")[0]
    assert again.headers["x-request-id"] == "b"
    assert again.text != first.text


def test_a_colleague_repeats_what_somebody_began_and_a_stranger_does_not(cast: Cast) -> None:
    headers = new_key()
    first = cast.alice.post("/queues", json={}, headers=headers).json()
    again = cast.bob({"queues": Scope("write")}).post("/queues", json={}, headers=headers)
    assert again.json() == first
    assert cast.bob({"messages": Scope("write")}).post("/queues", json={}, headers=headers).status_code == 403
    theirs = cast.charlie.post("/queues", json={}, headers=headers)
    assert REPLAYED not in theirs.headers
    assert theirs.json()["queue"]["id"] != first["queue"]["id"]


@pytest.mark.parametrize("text", ["a" * 255, "!", "~", '"8e03978e-40d5-43dd-bc93-6894a57f9324"'])
def test_every_visible_character_and_255_of_them_are_a_key(cast: Cast, text: str) -> None:
    assert cast.alice.post("/queues", json={}, headers={KEY: text}).status_code == 200
    assert cast.alice.post("/queues", json={}, headers={KEY: text}).headers[REPLAYED] == "true"


@pytest.mark.parametrize("lines", [b"idempotency-key: a\r\nidempotency-key: a\r\n", "idempotency-key: ä\r\n".encode()])
def test_two_keys_and_one_that_is_not_ascii_are_refused(cast: Cast, lines: bytes) -> None:
    key = cast.alice.headers["x-api-key"].encode()
    # The duplicated header next to it hides from a count of lines that one was left out.
    head = b"POST /queues HTTP/1.1\r\nhost: a\r\naccept: */*\r\naccept: */*\r\nx-api-key: " + key + b"\r\n"
    answer = cast.service.raw(head + lines + b"content-length: 0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400"), answer


def test_idempotency_key_is_ignored_where_nothing_is_created(cast: Cast) -> None:
    queue = cast.queue()
    for alias in ("first", "second"):
        answer = cast.alice.put(f"/queues/{queue}", json={"alias": alias}, headers={KEY: "a b"})
        assert (answer.status_code, answer.json()["queue"]["alias"]) == (200, alias)
    assert cast.alice.get(f"/queues/{queue}", headers={KEY: "a b"}).status_code == 200
    assert cast.alice.delete(f"/queues/{queue}", headers={KEY: "a b"}).status_code == 200


def test_after_an_error_a_key_may_be_used_again(cast: Cast) -> None:
    headers = new_key()
    cast.queue(alias="orders")
    assert cast.alice.post("/queues", json={"alias": "!"}, headers=headers).status_code == 422
    assert cast.alice.post("/queues", json={"alias": "orders"}, headers=headers).status_code == 422
    assert cast.alice.post("/queues", json={"alias": "others"}, headers=headers).status_code == 200
    missing = "0" * 21
    headers = new_key()
    assert cast.alice.post(f"/queues/{missing}/messages", json={"data": "1"}, headers=headers).status_code == 404
    assert cast.alice.post("/queues", json={}, headers=headers).status_code == 200


def test_repetition_succeeds_although_the_request_would_now_fail(cast: Cast) -> None:
    queue, for_queue, for_message, for_listener = cast.queue(), new_key(), new_key(), new_key()
    listener = {"alias": "billing", "notify_url": "http://127.0.0.1:9/", "liveness_url": "http://127.0.0.1:9/"}
    requests: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        ("/queues", {"alias": "taken-by-the-first"}, for_queue),
        (f"/queues/{queue}/messages", {"data": "much too long by then"}, for_message),
        (f"/queues/{queue}/listeners", listener, for_listener),
    ]
    for path, body, headers in requests:
        assert cast.alice.post(path, json=body, headers=headers).status_code == 200
    # The first response to a listener shows its secret, and no repeated one does.
    firsts = [cast.alice.post(path, json=body, headers=headers).json() for path, body, headers in requests]
    cast.alice.put(f"/queues/{queue}", json={"max_message_bytes": 1})
    for (path, body, headers), first in zip(requests, firsts, strict=True):
        again = cast.alice.post(path, json=body, headers=headers)
        assert (again.status_code, again.json()) == (200, first)
    cast.alice.delete(f"/queues/{queue}")
    for (path, body, headers), first in zip(requests, firsts, strict=True):
        assert cast.alice.post(path, json=body, headers=headers).json() == first


def test_database_holds_neither_idempotency_key_nor_response_in_clear(cast: Cast) -> None:
    text = "a-key-that-nobody-guesses"
    cast.alice.post("/queues", json={"alias": "a-name-to-look-for"}, headers={KEY: text})
    sql = "SELECT content FROM idempotency_response LIMIT 1000"
    rows = cast.service.run(cast.service.installation.store.read(lambda tx: tx.rows(sql)))
    everything = b"".join(bytes(value) for row in rows for value in row)
    assert everything
    assert text.encode() not in everything
    assert b"a-name-to-look-for" not in everything


def test_a_second_request_waits_for_the_first_and_gets_its_answer(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    path, headers, waits, wait = f"/queues/{cast.queue()}/messages", new_key(), threading.Event(), KeyedSemaphore._wait

    async def seen(self: KeyedSemaphore[Any], *arguments: Any) -> None:
        waits.set()
        await wait(self, *arguments)

    monkeypatch.setattr(KeyedSemaphore, "_wait", seen)
    with held(cast.service) as (came, let_go), ThreadPoolExecutor(2) as threads:
        first = threads.submit(cast.alice.post, path, json={"data": "1"}, headers=headers)
        assert came.wait(PATIENCE_SECONDS)
        second = threads.submit(cast.alice.post, path, json={"data": "1"}, headers=headers)
        assert waits.wait(PATIENCE_SECONDS)
        let_go()
        answers = [first.result(PATIENCE_SECONDS), second.result(PATIENCE_SECONDS)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert [REPLAYED in answer.headers for answer in answers] == [False, True]


def test_repetition_that_waits_too_long_for_the_first_is_409(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cast.service.app._idempotent.in_flight, "timeout_seconds", 0.01)
    path, headers = f"/queues/{cast.queue()}/messages", new_key()
    with held(cast.service) as (came, let_go), ThreadPoolExecutor(1) as threads:
        first = threads.submit(cast.alice.post, path, json={"data": "1"}, headers=headers)
        assert came.wait(PATIENCE_SECONDS)
        early = cast.alice.post(path, json={"data": "1"}, headers=headers)
        let_go()
        answer: httpx.Response = first.result(PATIENCE_SECONDS)
    assert early.status_code == 409
    assert early.headers["retry-after"] == "1"
    assert "in flight" in early.json()["detail"]
    assert cast.alice.post(path, json={"data": "1"}, headers=headers).json() == answer.json()


def test_a_row_that_is_forgotten_at_that_very_moment_is_a_503(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    path, headers = f"/queues/{cast.queue()}/messages", new_key()
    cast.alice.post(path, json={"data": "1"}, headers=headers)

    async def gone(*_arguments: object) -> None:
        return None

    monkeypatch.setattr("discue.store.idempotency.read_response", gone)
    assert cast.alice.post(path, json={"data": "1"}, headers=headers).status_code == 503
