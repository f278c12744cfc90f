"""Listeners that misbehave: classified, and bounded in time and memory."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
import uvloop

from discue.domain.attempts import Outcome
from discue.domain.egress import EgressPolicy
from discue.sending.connection import Connection
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender
from tests.dispatch.stage import until
from tests.support.attempts import MovableClock, a_sender, attempt, begin, request_to
from tests.support.authority import server_context, trusting_context
from tests.support.coroutines import TEST_SECONDS
from tests.support.scripted_server import CLOSE, HANG, READ, READ_HEAD, RESET, Drip, Flood, Script, ScriptedServer, Step
from tests.support.self_signed import self_signed_context

TIMEOUT_MS = 300
# One sweep late, and a machine that is busy with other tests.
AT_MOST_MS = 1_500
OK = b"HTTP/1.1 200 OK\r\n"

NewLoop = Callable[[], asyncio.AbstractEventLoop]


async def outcome_of(*script: Step, body: bytes = b"{}", timeout_ms: int = TIMEOUT_MS) -> Outcome:
    """Return the outcome of an attempt at a server with this script. No connection may remain."""
    async with ScriptedServer([script]) as server, a_sender() as sender:
        outcome = await attempt(sender, request_to(server.url, body=body, timeout_ms=timeout_ms))
        assert sender.in_flight == 0
        if not outcome.acknowledged:
            await server.until_open(0)
    return outcome


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ((HANG,), 0),
        ((READ, HANG), 0),
        ((READ, OK, HANG), 0),
        ((READ, OK + b"Content-Length: 5\r\n\r\nbod", HANG), 200),
        ((READ, OK + b"\r\nbody without end", HANG), 200),
        ((READ, Drip(OK + b"X-Drip: drop\r\n" * 1_000)), 0),
        ((READ, OK + b"Content-Length: 1000\r\n\r\n", Drip(b"x")), 200),
        ((READ, b"HTTP/1.1 100 Continue\r\n\r\n", HANG), 0),
    ],
)
async def test_endless_response_times_out_never_early(script: Script, status: int) -> None:
    outcome = await outcome_of(*script)
    assert (outcome.error, outcome.status) == ("timeout", status)
    assert TIMEOUT_MS <= outcome.duration_ms <= AT_MOST_MS
    assert str(TIMEOUT_MS) in outcome.detail


@pytest.fixture
def unreachable_port() -> Iterator[int]:
    """A port whose backlog of connections is full, so that it no longer answers."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


async def test_silent_address_ends_with_the_connect_timeout(unreachable_port: int) -> None:
    limits = SenderLimits(connect_timeout_ms=TIMEOUT_MS)
    async with a_sender(limits=limits) as sender:
        outcome = await attempt(sender, request_to(f"http://127.0.0.1:{unreachable_port}/"))
    assert outcome.error == "connect_timeout"
    assert TIMEOUT_MS <= outcome.duration_ms <= AT_MOST_MS


async def test_connect_timeout_does_not_limit_the_response() -> None:
    limits = SenderLimits(connect_timeout_ms=TIMEOUT_MS // 2)
    async with ScriptedServer([(HANG,)]) as server, a_sender(limits=limits) as sender:
        outcome = await attempt(sender, request_to(server.url, timeout_ms=TIMEOUT_MS))
    assert outcome.error == "timeout"
    assert outcome.duration_ms >= TIMEOUT_MS


async def test_connecting_ends_with_the_timeout_of_the_attempt(unreachable_port: int) -> None:
    async with a_sender() as sender:
        url = f"http://127.0.0.1:{unreachable_port}/"
        outcome = await attempt(sender, request_to(url, timeout_ms=TIMEOUT_MS))
    assert outcome.error == "connect_timeout"
    assert TIMEOUT_MS <= outcome.duration_ms <= AT_MOST_MS


@pytest.mark.parametrize(
    ("head", "part", "acknowledged"),
    [
        (OK + b"Content-Length: 100000000\r\n\r\n", b"x" * 65_536, True),
        (OK + b"\r\n", b"x" * 65_536, True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000, True),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 100000000\r\n\r\n", b"x" * 65_536, False),
    ],
)
async def test_response_of_a_hundred_megabytes_is_mostly_unread_and_its_status_counts(
    head: bytes, part: bytes, *, acknowledged: bool
) -> None:
    script = (READ, head, Flood(part))
    async with ScriptedServer([script]) as server, a_sender() as sender:
        outcome = await attempt(sender, request_to(server.url, timeout_ms=5_000))
        await server.until_open(0)
    assert outcome.acknowledged is acknowledged
    assert outcome.excerpt == b"x" * 16_384
    # The buffers of the kernel hold some megabytes, too.
    assert server.flooded < 20_000_000


@pytest.mark.parametrize(
    "flood",
    [
        Flood(b"X-More: and more\r\n" * 1_000),
        Flood(b"X" * 10_000),
        Flood(b"\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n" * 1_000),
    ],
)
async def test_heads_without_end_are_too_large(flood: Flood) -> None:
    outcome = await outcome_of(
        READ, OK if b"100" not in flood.data else b"HTTP/1.1 100 Continue\r\n", flood, timeout_ms=5_000
    )
    assert (outcome.error, outcome.status) == ("response_too_large", 0)


async def test_response_is_not_decompressed() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    assert len(bomb) < 16_384
    head = OK + f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    assert (await outcome_of(READ, head + bomb)).excerpt == bomb


@pytest.mark.parametrize(
    ("script", "error", "status"),
    [
        ((READ, bytes(range(256)) * 8), "protocol", 0),
        ((READ, b"SSH-2.0-OpenSSH_9.6\r\n"), "protocol", 0),
        ((READ, OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "protocol", 200),
        ((CLOSE,), "reset", 0),
        ((READ, CLOSE), "reset", 0),
        ((READ, RESET), "reset", 0),
        ((READ, OK, RESET), "reset", 0),
        ((READ, OK + b"Content-Length: 9\r\n\r\nbody", RESET), "reset", 200),
        ((READ, OK + b"Content-Length: 9\r\n\r\nbody", CLOSE), "reset", 200),
    ],
)
async def test_invalid_response_differs_from_a_lost_connection(script: Script, error: str, status: int) -> None:
    outcome = await outcome_of(*script, timeout_ms=5_000)
    assert (outcome.error, outcome.status) == (error, status)
    assert outcome.excerpt == b""


@pytest.mark.parametrize("ending", [HANG, CLOSE, RESET])
async def test_response_before_a_large_body_was_read_counts_and_closes_the_connection(ending: str) -> None:
    early = b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n"
    outcome = await outcome_of(READ_HEAD, early, ending, body=b"x" * 20_000_000, timeout_ms=5_000)
    assert (outcome.error, outcome.status) == ("status", 413)


async def test_a_large_body_arrives_complete() -> None:
    body = bytes(range(256)) * 8_192
    script = (READ, OK + b"Content-Length: 0\r\n\r\n") * 2
    async with ScriptedServer([script]) as server, a_sender() as sender:
        for _ in range(2):
            assert (await attempt(sender, request_to(server.url, body=body))).acknowledged
        assert [received.body == body for received in server.requests] == [True, True]
        assert server.connections == 1


ANSWER = (READ, OK + b"Content-Length: 4\r\n\r\nbody") * 2


async def over_tls(tls: ssl.SSLContext | None, *script: Step, connect_timeout_ms: int = 5_000) -> Outcome:
    """Return the outcome of an attempt over TLS, at a server that may not support it."""
    trusting, limits = trusting_context(), SenderLimits(connect_timeout_ms=connect_timeout_ms)
    async with ScriptedServer([script], tls) as server, a_sender(ssl_context=trusting, limits=limits) as sender:
        outcome, again = [await attempt(sender, request_to(f"https://127.0.0.1:{server.port}/")) for _ in range(2)]
        assert sender.open_connections <= 1
    assert outcome.error == again.error
    return outcome


async def test_a_listener_with_a_good_certificate_is_trusted() -> None:
    outcome = await over_tls(server_context("127.0.0.1"), *ANSWER)
    assert (outcome.status, outcome.excerpt) == (200, b"body")


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        (
            server_context("127.0.0.1", not_after=datetime.now(UTC) - timedelta(days=1)),
            "The certificate of 127.0.0.1 has expired.",
        ),
        (server_context("127.0.0.2"), "The certificate of the server is not for 127.0.0.1."),
        (server_context("other.example"), "The certificate of the server is not for 127.0.0.1."),
        (server_context("127.0.0.1", is_trusted=False), "The issuer of the certificate of 127.0.0.1 is unknown."),
        (self_signed_context(), "The certificate of 127.0.0.1 is self-signed."),
    ],
)
async def test_invalid_certificate_is_refused_with_a_reason(tls: ssl.SSLContext, reason: str) -> None:
    outcome = await over_tls(tls, *ANSWER)
    assert (outcome.error, outcome.status) == ("tls", 0)
    assert outcome.detail == reason


@pytest.mark.parametrize("script", [(b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE), (CLOSE,), (RESET,)])
async def test_port_without_tls_is_reported(script: Script) -> None:
    outcome = await over_tls(None, *script)

    assert outcome.error == "tls"
    assert outcome.detail in {
        "127.0.0.1 does not speak TLS at this port: the URL needs http:// or another port.",
        "The connection was closed during the TLS handshake.",
    }
    assert ("speak TLS" in outcome.detail) is (len(script) > 1)


async def test_handshake_that_hangs_is_a_connect_timeout() -> None:
    assert (await over_tls(None, HANG, connect_timeout_ms=TIMEOUT_MS)).error == "connect_timeout"


async def test_healthy_listener_is_served_next_to_a_hundred_that_hang() -> None:
    answer = (READ, OK + b"Content-Length: 0\r\n\r\n") * 20
    clock = MovableClock()
    async with ScriptedServer([(HANG,)]) as bad, ScriptedServer([answer]) as good, a_sender(clock=clock) as sender:
        hanging = [begin(sender, request_to(bad.url)) for _ in range(100)]
        for _ in range(20):
            assert (await attempt(sender, request_to(good.url))).acknowledged
        await until(lambda: sender.open_connections == 101)
        clock.added_seconds += 6
        assert {outcome.error for outcome in await asyncio.gather(*hanging)} == {"timeout"}
        await bad.until_open(0)


class _LateSender(Sender):
    """Each connection opens just after its attempt has timed out."""

    clock: MovableClock

    def on_opened(self, connection: Connection) -> None:
        self.clock.added_seconds += 6
        self.sweep()
        super().on_opened(connection)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_connection_that_opens_as_its_attempt_times_out_is_closed_and_not_counted(new_loop: NewLoop) -> None:
    async def work() -> None:
        clock = MovableClock()
        sender = _LateSender(clock=clock, policy=EgressPolicy(allow_private=True))
        sender.clock = clock
        async with ScriptedServer([(HANG,)]) as server:
            assert (await attempt(sender, request_to(server.url))).error == "connect_timeout"
            await server.until_open(0)
            assert (server.connections, sender.open_connections) == (1, 0)
            await sender.close(0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(work(), TEST_SECONDS))
