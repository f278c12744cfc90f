"""Faults on the way to the service: what a person reads, and what was sent. Both halves of the client."""

import asyncio
import gc
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from discue_client import APIError, AsyncDiscue, ConnectionFailed, Discue, TimedOut, Unauthorized, UnexpectedResponse
from tests.clients.python.test_transport import KEY, STORED, both, called, problem, publish, response
from tests.support.authority import authority_file, server_context, trusting_context
from tests.support.ports import free_port
from tests.support.scripted_server import CLOSE, HANG, READ, Drip, Script, ScriptedServer
from tests.support.self_signed import self_signed_context
from tests.support.served_api import Cast

REQUEST = "POST /queues/orders/messages"


@both
async def test_refused_connection_is_named(half: str) -> None:
    away = ScriptedServer([], port=free_port())
    with pytest.raises(ConnectionFailed) as caught:
        await called(half, away, publish, attempts=2)

    url = f"http://127.0.0.1:{away.port}"
    assert str(caught.value) == f"{REQUEST}: no response from {url} in attempt 2: Connection refused."


@both
async def test_unknown_host_is_named(half: str) -> None:
    async def use_async() -> None:
        async with AsyncDiscue("http://discue.invalid", KEY, attempts=1) as client:
            await publish(client)

    def use_sync() -> None:
        with Discue("http://discue.invalid", KEY, attempts=1) as client:
            publish(client)

    with pytest.raises(ConnectionFailed) as caught:
        await (use_async() if half == "async" else asyncio.to_thread(use_sync))

    # The reason is a text of the system.
    assert re.fullmatch(rf"{REQUEST}: no response from http://discue\.invalid: [\w ]+\.", str(caught.value))


@both
@pytest.mark.parametrize(
    "script",
    [
        [READ, HANG],
        [READ, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", HANG],
        [READ, Drip(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 10_000, 0.01)],
        [READ, Drip(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n" + b"x" * 10_000, 0.01)],
    ],
    ids=["silent", "silent-body", "dripping-head", "dripping-body"],
)
async def test_slow_server_is_left_after_the_timeout(half: str, script: Script) -> None:
    async with ScriptedServer([script]) as server:
        with pytest.raises(TimedOut) as caught:
            await called(half, server, publish, timeout=0.2, attempts=1)
        await server.until_open(0)

    assert str(caught.value) == f"{REQUEST}: no response from http://127.0.0.1:{server.port} within 0.2 s."


@both
async def test_deadline_covers_all_attempts(half: str) -> None:
    async with ScriptedServer([[READ, problem(503, "retry-after: 0"), CLOSE], [READ, HANG]]) as server:
        started_at = asyncio.get_running_loop().time()
        with pytest.raises(TimedOut, match="in attempt 2 within"):
            # The first attempt and the wait after it take a small part of it, also on a busy machine.
            await called(half, server, publish, deadline=2)

    assert asyncio.get_running_loop().time() - started_at < 5, "the default timeout of an attempt is 15 s"


@both
async def test_server_that_restarts_gets_the_request_once_it_is_back(half: str) -> None:
    async with ScriptedServer([[READ, HANG]], port=free_port()) as before:
        running = asyncio.create_task(called(half, before, publish))
        await before.until_open(1)
    async with ScriptedServer([[READ, STORED]], port=before.port) as after:
        message = await running

    keys = {request.headers["idempotency-key"] for request in (*before.requests, *after.requests)}
    assert (message.id, len(keys)) == ("m", 1)


NOT_DISCUE = f"{REQUEST}: 404 from something other than discue: "
UNREADABLE = f"{REQUEST}: the response cannot be read: "


@both
@pytest.mark.parametrize(
    ("garbage", "line"),
    [
        (response(200, "<html>Welcome to the hotel</html>"), f"{UNREADABLE}JSON is malformed: invalid character"),
        (response(200, "[]"), f"{UNREADABLE}Expected `object`, got `array`"),
        (response(200, '{"message":{"id":7}}'), f"{UNREADABLE}Expected `str`, got `int` - at `$.message.id`"),
        (response(200, ""), f"{UNREADABLE}Input data was truncated"),
        (response(200, "no gzip", "content-encoding: gzip"), f"{UNREADABLE}Error -3 while decompressing"),
        (response(302, "", "location: http://127.0.0.1/elsewhere"), NOT_DISCUE.replace("404", "302")),
        (response(404, "<html>nginx</html>"), f"{NOT_DISCUE}<html>nginx</html>"),
    ],
    ids=["html", "array", "field", "empty", "gzip", "redirect", "proxy"],
)
async def test_response_of_another_server_is_refused_at_once(half: str, garbage: bytes, line: str) -> None:
    async with ScriptedServer([[READ, garbage]]) as server:
        with pytest.raises(UnexpectedResponse) as caught:
            await called(half, server, publish)

    assert str(caught.value).startswith(line)
    assert len(server.requests) == 1


@both
@pytest.mark.parametrize("garbage", [b"\x15\x03\x01\x00\x02\x02\x16", b"SSH-2.0-OpenSSH\r\n"])
async def test_server_without_http_is_a_failed_connection(half: str, garbage: bytes) -> None:
    async with ScriptedServer([[READ, garbage, CLOSE]]) as server:
        with pytest.raises(ConnectionFailed) as caught:
            await called(half, server, publish, attempts=1)

    prefix = f"{REQUEST}: no response from http://127.0.0.1:{server.port}: "
    assert str(caught.value).startswith(prefix)
    assert "\n" not in str(caught.value)


_REMEDY = ". Set SSL_CERT_FILE to a file with the issuers to trust"
_YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        (server_context("127.0.0.1", is_trusted=False), f"unable to get local issuer certificate{_REMEDY}"),
        (self_signed_context(), f"self-signed certificate{_REMEDY}"),
        (server_context("127.0.0.1", not_after=_YESTERDAY), "certificate has expired"),
        (server_context("a.example"), "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        (None, ""),
    ],
    ids=["issuer", "self-signed", "expired", "host", "no TLS"],
)
@both
async def test_failure_of_tls_is_explained_without_retries(
    half: str, tls: ssl.SSLContext | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also a test of the remedy: the issuer in the file is trusted.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority_file(tmp_path)))
    async with ScriptedServer([[b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE]], tls=tls) as server:
        with pytest.raises(ConnectionFailed) as caught:
            await called(half, server, publish, scheme="https")

    no_tls = "it does not speak TLS at this port: use http:// or another port"
    said = f"its certificate is not valid: {reason}" if reason else no_tls
    # Another attempt would be named.
    assert str(caught.value) == f"{REQUEST}: no response from https://127.0.0.1:{server.port}: {said}."


@both
async def test_connection_is_closed_when_the_time_passes_during_its_tls_handshake(half: str) -> None:
    gc.disable()  # It would close the connection as well, at some time.
    try:
        async with ScriptedServer([[HANG]]) as server:
            with pytest.raises(TimedOut):
                await called(half, server, publish, scheme="https", timeout=0.1, attempts=1)
            async with asyncio.timeout(10):
                await server.until_open(0)
    finally:
        gc.enable()

    assert server.connections == 1


@both
async def test_private_authority_is_trusted_by_a_client_that_is_given(half: str) -> None:
    context = trusting_context()
    given = httpx2.AsyncClient(verify=context) if half == "async" else httpx2.Client(verify=context)
    async with ScriptedServer([[READ, STORED]], tls=server_context("127.0.0.1")) as server:
        message = await called(half, server, publish, scheme="https", http_client=given)
        await (given.aclose() if isinstance(given, httpx2.AsyncClient) else asyncio.to_thread(given.close))

    assert message.id == "m"


@both
async def test_private_authority_in_the_environment_is_trusted(
    half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority_file(tmp_path)))
    async with ScriptedServer([[READ, STORED]], tls=server_context("127.0.0.1")) as server:
        message = await called(half, server, publish, scheme="https")

    assert message.id == "m"


@both
async def test_revoked_key_ends_requests_at_once(half: str, cast: Cast, async_client: AsyncDiscue) -> None:
    made = await async_client.api_keys.create()
    assert made.key is not None

    async def use_async() -> None:
        async with AsyncDiscue(cast.service.url, made.key) as client:
            await client.queues.update("orders")
            await async_client.api_keys.delete(made.id)
            await publish(client)

    def use_sync(revoke: Any) -> None:
        with Discue(cast.service.url, made.key) as client:
            client.queues.update("orders")
            revoke()
            publish(client)

    def revoke() -> None:
        with Discue(cast.service.url, cast.alice.headers["x-api-key"]) as client:
            client.api_keys.delete(made.id)

    with pytest.raises(Unauthorized) as caught:
        await (use_async() if half == "async" else asyncio.to_thread(use_sync, revoke))

    line = f"{REQUEST}: 401 key_unknown: The API key in the header X-API-KEY is malformed or does not exist. "
    assert str(caught.value).startswith(line)
    assert isinstance(caught.value, APIError)
    assert made.key not in str(caught.value)
