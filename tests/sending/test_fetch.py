"""The fetcher: single requests to checked addresses, limited in bytes and time."""

import asyncio
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from discue.domain.egress import PUBLIC_ADDRESSES, EgressPolicy, IPAddress, Target, parse_target
from discue.sending.fetch import KEPT_BYTES, Fetcher, FetchResult
from tests.support.authority import server_context, trusting_context
from tests.support.scripted_server import CLOSE, HANG, READ, READ_HEAD, RESET, Drip, Flood, Script, ScriptedServer

OK = b"HTTP/1.1 200 OK\r\n"
ANYWHERE = EgressPolicy(allow_private=True)


async def _loopback(_host: str, _port: int) -> Sequence[IPAddress]:
    return [ip_address("127.0.0.1")]


def a_fetcher(**changes: Any) -> Fetcher:
    """A fetcher that finds every name on loopback."""
    given: dict[str, Any] = {"policy": ANYWHERE, "public": ANYWHERE, "resolve": _loopback, **changes}
    return Fetcher(**given)


async def fetched(script: Script, *, tls: ssl.SSLContext | None = None, seconds: float = 5.0) -> FetchResult:
    """Fetch from a server with this script."""
    async with ScriptedServer([script], tls) as server:
        return await a_fetcher(ssl_context=trusting_context()).get(_target(server), seconds)


def _target(server: ScriptedServer, host: str = "files.example") -> Target:
    scheme = "https" if server.tls else "http"
    return parse_target(f"{scheme}://{host}:{server.port}/a/file?x=1", "/url")


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 4\r\n\r\nfile",
        OK + b"\r\nfile",
    ],
)
async def test_the_body_comes_however_it_is_framed(answer: bytes) -> None:
    assert await fetched((READ_HEAD, answer, CLOSE)) == FetchResult(200, b"file")


async def test_a_request_is_a_plain_get_that_ends_its_connection() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK + b"Content-Length: 0\r\n\r\n")
        assert await reader.read() == b""
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert await a_fetcher().get(parse_target(f"http://files.example:{port}/a/file", "/url"), 5) == FetchResult(
            200, b""
        )
    line, *lines = heads[0].decode().strip().split("\r\n")
    headers = dict(each.split(": ", 1) for each in lines)
    assert line == "GET /a/file HTTP/1.1"
    assert headers.pop("user-agent").startswith("discue/")
    assert headers == {
        "host": f"files.example:{port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "close",
    }


@pytest.mark.parametrize("status", [204, 301, 302, 404, 500, 999])
async def test_any_status_is_a_response_and_redirects_are_not_followed(status: int) -> None:
    answer = b"HTTP/1.1 %d X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" % status
    assert await fetched((READ_HEAD, answer)) == FetchResult(status, b"")


async def test_only_the_beginning_of_a_long_body_is_read() -> None:
    async with ScriptedServer([(READ_HEAD, OK + b"Content-Length: 100000000\r\n\r\n", Flood(b"x" * 65_536))]) as server:
        assert await a_fetcher().get(_target(server), 5) == FetchResult(200, b"x" * KEPT_BYTES)
        await server.until_open(0)
        assert server.flooded < 20_000_000


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ((READ_HEAD, CLOSE), "reset"),
        ((READ_HEAD, RESET), "reset"),
        ((READ_HEAD, OK + b"Content-Length: 4\r\n\r\nfi", CLOSE), "reset"),
        ((READ_HEAD, b"SSH-2.0-OpenSSH\r\n"), "protocol"),
        ((READ_HEAD, OK + b"X: " + b"x" * 20_000), "response_too_large"),
    ],
)
async def test_missing_response_has_a_reason(script: Script, error: str) -> None:
    assert (await fetched(script)).error == error


@pytest.mark.parametrize("step", [HANG, Drip(OK + b"Content-Length: 500\r\n\r\n" + b"x" * 300)])
async def test_slow_response_times_out(step: str | Drip) -> None:
    assert await fetched((READ_HEAD, step), seconds=0.2) == FetchResult(0, b"", "timeout")


async def test_tls_handshake_ends_with_the_connect_timeout() -> None:
    async with ScriptedServer([(HANG,)]) as server:
        fetcher = a_fetcher(connect_seconds=0.1)
        target = parse_target(f"https://files.example:{server.port}/", "/url")
        assert await fetcher.get(target, 10) == FetchResult(0, b"", "connect_timeout")
        await server.until_open(0)


async def test_a_certificate_must_be_valid_and_name_the_host() -> None:
    script = (READ_HEAD, OK + b"Content-Length: 4\r\n\r\nfile")
    assert await fetched(script, tls=server_context("files.example")) == FetchResult(200, b"file")
    other = await fetched(script, tls=server_context("other.example"))
    assert other == FetchResult(0, b"", "tls", "The certificate of the server is not for files.example.")
    unknown = await fetched(script, tls=server_context("files.example", is_trusted=False))
    assert unknown == FetchResult(0, b"", "tls", "The issuer of the certificate of files.example is unknown.")


async def test_failure_of_tls_at_a_private_address_has_no_detail() -> None:
    async with ScriptedServer([()], server_context("other.example")) as server:
        fetcher = a_fetcher(ssl_context=trusting_context(), public=PUBLIC_ADDRESSES)

        assert await fetcher.get(_target(server), 5.0) == FetchResult(0, b"", "tls")


async def test_name_with_a_refused_address_is_not_requested() -> None:
    async with ScriptedServer([(READ_HEAD, OK)]) as server:
        assert (await a_fetcher(policy=EgressPolicy()).get(_target(server), 5)).error == "refused_address"
        assert server.connections == 0


async def test_unexpected_error_is_an_internal_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_host: str, _port: int) -> Sequence[IPAddress]:
        raise RuntimeError("a bug")

    fetcher = a_fetcher(resolve=broken)
    assert (await fetcher.get(parse_target("https://files.example/", "/url"), 5)).error == "internal"
    assert "could not be opened" in caplog.text
    strange = Target("http", "files.example", 80, "files.example", "/\r\nx: y", None)
    assert (await fetcher.get(strange, 5)).error == "internal"


async def test_a_fetch_that_is_cancelled_leaves_no_connection() -> None:
    async with ScriptedServer([(READ_HEAD, HANG)]) as server:
        fetcher = a_fetcher()
        task = asyncio.get_running_loop().create_task(fetcher.get(_target(server), 5))
        await server.until_open(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until_open(0)


async def test_form_is_posted_and_its_response_kept_up_to_the_limit() -> None:
    answer = OK + b"Content-Length: 5000\r\n\r\n" + b"x" * 5_000
    async with ScriptedServer([(READ, answer)]) as server:
        fetcher = a_fetcher(kept_bytes=4_000)
        fetched = await fetcher.post_form(_target(server), "Basic eDp5", b"a=1&b=2", 5)
    [request] = server.requests
    assert (fetched.status, len(fetched.body)) == (200, 4_000)
    assert (request.line, request.body) == ("POST /a/file?x=1 HTTP/1.1", b"a=1&b=2")
    assert request.headers["authorization"] == "Basic eDp5"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
