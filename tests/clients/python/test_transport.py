"""Requests over sockets to servers that fail in every way, by both halves of the client."""

import asyncio
import gc
import re
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from discue_client import (
    AsyncDiscue,
    ConnectionFailed,
    Discue,
    NotFound,
    Unavailable,
    UnexpectedResponse,
)
from tests.support.scripted_server import CLOSE, HANG, READ, RESET, Script, ScriptedServer
from tools.python_client import PACKAGE

Call = Callable[[Any], Any]

KEY = "dsk_test"


def response(status: int, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "content-type: application/json", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def problem(status: int, *headers: str, **fields: str) -> bytes:
    more = "".join(f',"{name}":"{value}"' for name, value in fields.items())
    return response(status, f'{{"status":{status},"title":"T"{more}}}', *headers)


MESSAGE = '{"id":"m","alias":"m","name":"m","created_at":1,"updated_at":1}'
STORED = response(200, f'{{"message":{MESSAGE}}}')
FAILED = problem(503, "retry-after: 0")


async def called(half: str, server: ScriptedServer, call: Call, *, scheme: str = "http", **options: Any) -> Any:
    """Make a call with one half of the client; the sync half on a thread."""
    url = f"{scheme}://127.0.0.1:{server.port}"
    if half == "async":
        async with AsyncDiscue(url, KEY, **options) as client:
            return await call(client)

    def on_thread() -> Any:
        with Discue(url, KEY, **options) as client:
            return call(client)

    return await asyncio.to_thread(on_thread)


def publish(client: Any) -> Any:
    return client.publish("orders", {"n": 1})


def keys(server: ScriptedServer) -> list[str]:
    return [request.headers["idempotency-key"] for request in server.requests]


both = pytest.mark.parametrize("half", ["async", "sync"])


@both
async def test_creation_is_sent_again_with_the_same_idempotency_key_and_body(half: str) -> None:
    scripts: list[Script] = [[READ, FAILED, CLOSE], [READ, RESET], [READ, problem(500), CLOSE], [READ, STORED]]
    async with ScriptedServer(scripts) as server:
        message = await called(half, server, publish)

    assert message.id == "m"
    assert len(server.requests) == 4
    assert len(set(keys(server))) == 1
    assert {request.body for request in server.requests} == {b'{"data":{"n":1}}'}


@both
async def test_retry_is_logged_with_its_reason(half: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "discue_client")
    async with ScriptedServer([[READ, problem(503, "retry-after: 0"), CLOSE], [READ, STORED]]) as server:
        await called(half, server, publish)

    (line,) = [record.getMessage() for record in caplog.records if record.name == "discue_client"]
    assert re.fullmatch(r"Trying again in 0\.[01] s: POST /queues/orders/messages: 503: T", line)


@both
async def test_two_creations_have_different_idempotency_keys(half: str) -> None:
    async with ScriptedServer([[READ, STORED, CLOSE]]) as server:
        await called(half, server, publish)
        await called(half, server, publish)

    assert len(set(keys(server))) == 2


@both
async def test_request_that_may_have_had_an_effect_is_not_repeated_without_a_key(half: str) -> None:
    async with ScriptedServer([[READ, RESET]]) as server:
        with pytest.raises(ConnectionFailed):
            await called(half, server, lambda client: client.listeners.test("orders", "billing"))
    assert len(server.requests) == 1


async def test_error_of_a_hook_is_not_taken_for_one_of_the_connection() -> None:
    calls: list[object] = []

    async def fail(request: httpx2.Request) -> None:
        calls.append(request)
        raise LookupError from FileNotFoundError("token")

    async with ScriptedServer([[READ, STORED]]) as server, httpx2.AsyncClient(event_hooks={"request": [fail]}) as given:
        with pytest.raises(LookupError):
            await called("async", server, publish, http_client=given)

    assert len(calls) == 1


@both
async def test_rate_limited_request_is_repeated_whatever_it_does(half: str) -> None:
    scripts: list[Script] = [[READ, problem(429, "retry-after: 0"), CLOSE], [READ, problem(404)]]
    async with ScriptedServer(scripts) as server:
        with pytest.raises(NotFound):
            await called(half, server, lambda client: client.listeners.test("orders", "billing"))
    assert len(server.requests) == 2


@both
async def test_deletion_whose_response_was_lost_counts_as_done(half: str) -> None:
    async with ScriptedServer([[READ, RESET], [READ, problem(404)]]) as server:
        await called(half, server, lambda client: client.queues.delete("orders"))
    assert len(server.requests) == 2


@both
async def test_deletion_of_what_does_not_exist_fails(half: str) -> None:
    async with ScriptedServer([[READ, problem(404)]]) as server:
        with pytest.raises(NotFound):
            await called(half, server, lambda client: client.queues.delete("orders"))


@both
async def test_client_gives_up_rather_than_wait_beyond_its_deadline(half: str) -> None:
    async with ScriptedServer([[READ, problem(503, "retry-after: 3600")]]) as server:
        with pytest.raises(Unavailable) as caught:
            await called(half, server, publish)

    assert caught.value.retry_after == 3600
    assert len(server.requests) == 1


@both
async def test_key_is_sent_and_redirects_are_not_followed(half: str) -> None:
    async with ScriptedServer([[READ, response(307, "", "location: /elsewhere"), HANG]]) as server:
        with pytest.raises(UnexpectedResponse):
            await called(half, server, publish)

    assert [request.headers["x-api-key"] for request in server.requests] == [KEY]


@both
async def test_closed_client_refuses_requests(half: str) -> None:
    async def use_async() -> None:
        client = AsyncDiscue("http://127.0.0.1:1", KEY)
        await client.aclose()
        await client.queues.get("orders")

    def use_sync() -> None:
        client = Discue("http://127.0.0.1:1", KEY)
        client.close()
        client.queues.get("orders")

    with pytest.raises(RuntimeError, match="closed"):
        await (use_async() if half == "async" else asyncio.to_thread(use_sync))


@both
@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_name_that_leads_to_another_path_is_refused(half: str, name: str) -> None:
    async with ScriptedServer([[READ, STORED]]) as server:
        with pytest.raises(ValueError, match="not the id or the alias"):
            await called(half, server, lambda client: client.messages.delete("orders", name))
    assert server.requests == []


@both
async def test_swapped_arguments_are_explained(half: str) -> None:
    data: Any = {"order": 17}
    async with ScriptedServer([[READ, STORED]]) as server:
        with pytest.raises(ValueError, match=r"^\{'order': 17\} is not the id or the alias of"):
            await called(half, server, lambda client: client.publish(data, "orders"))
    assert server.requests == []


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, "a\r\nb: c"])
async def test_idempotency_key_that_no_header_can_carry_is_refused(key: str) -> None:
    async with ScriptedServer([[READ, STORED]]) as server:
        with pytest.raises(ValueError, match="idempotency key"):
            await called("sync", server, lambda client: client.publish("orders", 1, idempotency_key=key))
    assert server.requests == []


# The connection of the first loop could be closed only while that loop ran.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_client_outlives_the_event_loop_of_its_first_request() -> None:
    async with ScriptedServer([[READ, STORED, READ, STORED]]) as server:
        client = AsyncDiscue(f"http://127.0.0.1:{server.port}", KEY)
        for _ in range(2):
            await asyncio.to_thread(asyncio.run, _published(client))
        del client
        gc.collect()

    assert (len(server.requests), server.connections) == (2, 2)


async def _published(client: AsyncDiscue) -> None:
    await publish(client)


async def test_client_works_in_a_child_process_that_was_forked() -> None:
    program = """
import os, sys
from discue_client import Discue

client = Discue()
client.publish("orders", 1)
child = os.fork()
client.publish("orders", 2)
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    async with ScriptedServer([[READ, STORED, READ, STORED], [READ, STORED]]) as server:
        environment = {
            "DISCUE_URL": f"http://127.0.0.1:{server.port}",
            "DISCUE_API_KEY": KEY,
            "PYTHONPATH": str(PACKAGE.parent),
        }
        run = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=environment)
        code = await asyncio.wait_for(run.wait(), 20)

    # The child must not write into the connection of its parent.
    assert (code, server.connections) == (0, 2)
    assert sorted(request.body for request in server.requests) == [b'{"data":1}', b'{"data":2}', b'{"data":2}']
