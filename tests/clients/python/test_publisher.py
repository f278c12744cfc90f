"""Publishing in batches, against a real service and against servers that fail."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from discue_client import (
    AsyncDiscue,
    ConnectionFailed,
    Discue,
    DiscueError,
    NotFound,
    TimedOut,
    TooLarge,
    UnexpectedResponse,
    ValidationFailed,
)
from tests.clients.python.test_transport import FAILED, KEY, problem, response
from tests.support.authority import server_context
from tests.support.scripted_server import CLOSE, HANG, READ, Script, ScriptedServer


def stored(*ids: str) -> bytes:
    return response(200, json.dumps({"messages": [{"id": each} for each in ids]}))


@asynccontextmanager
async def served(*scripts: Script, **options: Any) -> AsyncIterator[tuple[ScriptedServer, AsyncDiscue]]:
    async with (
        ScriptedServer(scripts) as server,
        AsyncDiscue(f"http://127.0.0.1:{server.port}", KEY, **options) as client,
    ):
        yield server, client


def batches(server: ScriptedServer) -> list[list[object]]:
    return [[message["data"] for message in json.loads(request.body)["messages"]] for request in server.requests]


async def test_concurrent_publishes_share_batches_and_keep_their_order(async_client: AsyncDiscue) -> None:
    await async_client.queues.create(alias="orders")

    async with async_client.publisher("orders", linger=1, max_messages=50) as publisher:
        ids = await asyncio.gather(*(publisher.publish(number, key="k") for number in range(200)))
    listed = [(message.id, message.data) async for message in async_client.messages.list("orders", data="true")]

    assert len(set(ids)) == 200
    assert [each for each, _ in reversed(listed)] == ids


def test_threads_share_a_publisher_and_leaving_it_sends_the_rest(client: Discue) -> None:
    client.queues.create(alias="orders")

    with client.publisher("orders") as publisher, ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(publisher.publish, range(100)))
        late = publisher.submit("last")

    assert late.done()
    listed = [message.id for message in client.messages.list("orders")]
    assert listed[0] == late.result()
    assert set(listed) == {*ids, late.result()}


async def test_refused_message_fails_alone(async_client: AsyncDiscue) -> None:
    await async_client.queues.create(alias="orders", schema={"n": {"type": "number", "min": 0}})

    async with async_client.publisher("orders") as publisher:
        results = await asyncio.gather(
            *(publisher.publish({"n": number}) for number in (1, -1, 2, -2, 3)), return_exceptions=True
        )

    assert [type(each) for each in results] == [str, ValidationFailed, str, ValidationFailed, str]
    assert isinstance(results[1], ValidationFailed)
    assert results[1].pointers == ("/messages/0/data/n",)
    assert [message.id async for message in async_client.messages.list("orders")] == [
        results[4],
        results[2],
        results[0],
    ]


async def test_missing_queue_fails_every_message(async_client: AsyncDiscue, caplog: pytest.LogCaptureFixture) -> None:
    async with async_client.publisher("nothing") as publisher:
        results = await asyncio.gather(*(publisher.publish(number) for number in range(3)), return_exceptions=True)

    assert [type(each) for each in results] == [NotFound] * 3
    assert "could not be published: 3." in caplog.text


async def test_revoked_key_fails_every_message_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    async with served([READ, problem(401, code="key_unknown")]) as (_, client), client.publisher("orders") as publisher:
        results = await asyncio.gather(publisher.publish(1), publisher.publish(2), return_exceptions=True)

    line = "POST /queues/orders/messages/batch: 401 key_unknown: T"
    assert [str(each) for each in results] == [line, line]
    assert caplog.messages == [f"Messages that could not be published: 2. {line}"]


async def test_batch_is_sent_again_under_the_same_key_and_the_next_under_another() -> None:
    scripts: list[Script] = [[READ, FAILED, CLOSE], [READ, stored("a", "b"), CLOSE], [READ, stored("c")]]
    async with served(*scripts) as (server, client), client.publisher("orders") as publisher:
        first = [await publisher.submit(number) for number in (1, 2)]
        await asyncio.gather(*first)
        last = await publisher.publish(3)

    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert [await each for each in first] == ["a", "b"]
    assert last == "c"
    assert batches(server) == [[1, 2], [1, 2], [3]]
    assert (keys[0] == keys[1], keys[1] == keys[2]) == (True, False)


async def test_batches_are_bounded_in_messages_and_bytes() -> None:
    scripts: list[Script] = [[READ, stored("a", "b"), CLOSE], [READ, stored("c"), CLOSE], [READ, stored("d")]]
    async with (
        served(*scripts) as (server, client),
        client.publisher("orders", linger=0.0, max_messages=2, max_bytes=1_000) as publisher,
    ):
        futures = [await publisher.submit(data) for data in ("1", "2", "x" * 900, "y" * 900)]

    assert [await each for each in futures] == ["a", "b", "c", "d"]
    assert [len(batch) for batch in batches(server)] == [2, 1, 1]


async def test_publisher_that_is_full_makes_callers_wait() -> None:
    async with (
        served([READ, HANG], timeout=0.3, attempts=1) as (server, client),
        client.publisher("orders", linger=0, max_bytes=12) as publisher,
    ):
        first = await publisher.submit("a" * 90)
        await server.until_open(1)
        second = await publisher.submit("b" * 90)
        third = asyncio.create_task(publisher.submit("c" * 90))
        await asyncio.sleep(0)
        assert not third.done()
        await asyncio.wait([first])
        last = await third
    for each in (first, second, last):
        assert isinstance(each.exception(), TimedOut)


async def test_unreachable_service_fails_the_futures_and_not_the_publisher() -> None:
    async with AsyncDiscue("http://127.0.0.1:1", KEY, attempts=1) as client, client.publisher("orders") as publisher:
        for data in (1, 2):
            with pytest.raises(ConnectionFailed):
                await publisher.publish(data)


@pytest.mark.parametrize(
    ("script", "tls", "patience", "kind", "line"),
    [
        ([READ, HANG], None, 0.2, TimedOut, "no response from {url} within 0.2 s."),
        (
            [READ, response(200, "<html>")],
            None,
            15,
            UnexpectedResponse,
            "the response cannot be read: JSON is malformed",
        ),
        (
            [READ, HANG],
            server_context("127.0.0.1", is_trusted=False),
            15,
            ConnectionFailed,
            (
                "no response from {url}: its certificate is not valid: unable to get local issuer certificate. "
                "Set SSL_CERT_FILE to a file with the issuers to trust."
            ),
        ),
    ],
    ids=["slow", "garbage", "tls"],
)
async def test_messages_that_cannot_be_published_fail_with_the_reason(
    script: Script,
    tls: ssl.SSLContext | None,
    patience: float,
    kind: type[DiscueError],
    line: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ScriptedServer([script], tls=tls) as server:
        url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.port}"
        async with (
            AsyncDiscue(url, KEY, timeout=patience, attempts=1) as client,
            client.publisher("orders") as publisher,
        ):
            results = await asyncio.gather(publisher.publish(1), publisher.publish(2), return_exceptions=True)

    expected = f"POST /queues/orders/messages/batch: {line.format(url=url)}"
    assert [type(each) for each in results] == [kind, kind]
    assert [str(each).startswith(expected) for each in results] == [True, True]
    assert [each.startswith(f"Messages that could not be published: 2. {expected}") for each in caplog.messages] == [
        True
    ]


async def test_refusal_that_names_no_message_is_narrowed_down() -> None:
    scripts: list[Script] = [[READ, problem(413), CLOSE], [READ, stored("a"), CLOSE], [READ, problem(413)]]
    async with served(*scripts) as (server, client), client.publisher("orders") as publisher:
        results = await asyncio.gather(publisher.publish(1), publisher.publish(2), return_exceptions=True)

    assert batches(server) == [[1, 2], [1], [2]]
    assert results[0] == "a"
    assert isinstance(results[1], TooLarge)


async def test_response_with_too_few_ids_confirms_nothing() -> None:
    async with served([READ, stored("a")]) as (_, client), client.publisher("orders") as publisher:
        results = await asyncio.gather(publisher.publish(1), publisher.publish(2), return_exceptions=True)

    assert [str(each) for each in results] == [
        "POST /queues/orders/messages/batch: 1 of 2 messages were confirmed."
    ] * 2


async def test_cancelled_publisher_fails_what_waits_and_refuses_more() -> None:
    async with served([READ, HANG]) as (server, client):
        publisher = client.publisher("orders")
        await publisher.__aenter__()
        future = await publisher.submit(1)
        await server.until_open(1)
        assert publisher._worker is not None
        publisher._worker.cancel()
        with pytest.raises(DiscueError, match="stopped before"):
            await future
        with pytest.raises(RuntimeError, match="closed"):
            await publisher.submit(2)


async def test_closed_publisher_refuses_messages(async_client: AsyncDiscue) -> None:
    publisher = async_client.publisher("orders")
    with pytest.raises(RuntimeError, match="never entered"):
        await publisher.submit(1)
    async with publisher:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        await publisher.submit(1)
