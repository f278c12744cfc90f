"""Traces of attempts: stages, timings, request and response."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from discue.domain.attempts import AttemptDetailLevel, Outcome, Trace
from discue.domain.egress import EgressPolicy, IPAddress
from discue.sending.response import SenderLimits
from tests.dispatch.stage import until
from tests.support.attempts import KEY, MovableClock, a_sender, attempt, begin, request_to
from tests.support.authority import server_context, trusting_context
from tests.support.scripted_server import CLOSE, HANG, READ, Drip, Script, ScriptedServer, Step

OK = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nok"
ERROR = b"HTTP/1.1 500 Oh\r\nServer: x\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 5\r\n\r\nnever"
HEAD_ONLY = b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\npart"


class Slow:
    """A resolver that takes 1,500 ms by the test's clock."""

    def __init__(self, clock: MovableClock, *addresses: str) -> None:
        self._clock = clock
        self._addresses = addresses

    async def __call__(self, host: str, port: int) -> Sequence[IPAddress]:
        del host, port
        self._clock.added_seconds += 1.5
        if not self._addresses:
            raise OSError
        return [ip_address(address) for address in self._addresses]


def traced(outcome: Outcome) -> Trace:
    assert outcome.trace is not None
    return outcome.trace


async def traced_attempt(*script: Step, **sender: Any) -> tuple[Outcome, Trace, int]:
    """Make an attempt at a server with this script. Returns its outcome and trace, and the port of the server."""
    async with (
        ScriptedServer([script], tls=sender.pop("tls", None)) as server,
        a_sender(details="all", **sender) as made,
    ):
        outcome = await attempt(made, request_to(server.url))
        return outcome, traced(outcome), server.port


@pytest.mark.parametrize(
    ("details", "wanted"), [("none", (False, False)), ("failures", (False, True)), ("all", (True, True))]
)
async def test_only_configured_outcomes_are_traced(details: AttemptDetailLevel, wanted: tuple[bool, bool]) -> None:
    of_success, of_failure = wanted

    async with ScriptedServer([(READ, OK, READ, ERROR)]) as server, a_sender(details=details) as sender:
        assert ((await attempt(sender, request_to(server.url))).trace is not None) == of_success
        assert ((await attempt(sender, request_to(server.url))).trace is not None) == of_failure
    async with a_sender(details=details) as sender:
        unreachable = await attempt(sender, request_to(server.url))
        assert (unreachable.error, unreachable.trace is not None) == ("connect", of_failure)


async def test_trace_has_request_and_response() -> None:
    async with ScriptedServer([(READ, ERROR)]) as server, a_sender(details="failures") as sender:
        trace = traced(await attempt(sender, request_to(server.url, headers=(("X-Own", "1"),))))
        [received] = server.requests
        lines = trace.request_head.decode().removesuffix("\r\n\r\n").split("\r\n")
        assert lines[0] == received.line
        assert {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines[1:]} == received.headers
        assert trace.response_headers == (
            (b"server", b"x"),
            (b"x-two", b"1"),
            (b"x-two", b"2"),
            (b"content-length", b"5"),
        )
        assert (trace.excerpt, trace.body_bytes) == (b"never", 5)
        assert trace.address == f"127.0.0.1:{server.port}"
        assert bytes(KEY) not in trace.request_head


async def test_trace_has_nothing_of_an_earlier_response() -> None:
    bare = b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n"
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with ScriptedServer([(READ, ERROR, READ, interim + bare)]) as server, a_sender(details="all") as sender:
        await attempt(sender, request_to(server.url))
        trace = traced(await attempt(sender, request_to(server.url)))
        assert (trace.response_headers, trace.excerpt) == (((b"content-length", b"0"),), b"")


async def test_reused_connection_has_no_connect_timings() -> None:
    async with ScriptedServer([(READ, OK, READ, OK)]) as server, a_sender(details="all") as sender:
        first, second = [traced(await attempt(sender, request_to(server.url))) for _ in range(2)]
        assert (first.is_reused, second.is_reused) == (False, True)
        assert None not in (first.timings.resolve_ms, first.timings.connect_ms, first.timings.first_byte_ms)
        assert first.timings.tls_ms is None
        assert (second.timings.resolve_ms, second.timings.connect_ms, second.timings.tls_ms) == (None, None, None)
        assert second.timings.first_byte_ms is not None
        assert second.address == first.address == f"127.0.0.1:{server.port}"


async def test_reused_connection_that_is_lost_is_traced_as_reused() -> None:
    async with ScriptedServer([(READ, OK, READ, CLOSE), (READ, OK)]) as server, a_sender(details="all") as sender:
        first, lost, new = [traced(await attempt(sender, request_to(server.url))) for _ in range(3)]
        assert [first.is_reused, lost.is_reused, new.is_reused] == [False, True, False]
        assert lost.address == first.address


async def test_tls_is_measured_separately() -> None:
    tls = server_context("127.0.0.1")
    _, trace, _ = await traced_attempt(READ, OK, tls=tls, ssl_context=trusting_context())
    timings = trace.timings
    assert None not in (timings.resolve_ms, timings.connect_ms, timings.tls_ms, timings.first_byte_ms)


async def test_failed_handshake_has_a_tls_timing() -> None:
    untrusted = server_context("127.0.0.1", is_trusted=False)
    outcome, trace, port = await traced_attempt(READ, OK, tls=untrusted, ssl_context=trusting_context())
    assert outcome.error == "tls"
    assert trace.address == f"127.0.0.1:{port}"
    assert None not in (trace.timings.resolve_ms, trace.timings.connect_ms, trace.timings.tls_ms)
    assert trace.timings.first_byte_ms is None


async def test_refused_connection_has_no_timings_after_connect() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]

        async with a_sender(details="failures") as sender:
            outcome = await attempt(sender, request_to(f"http://127.0.0.1:{port}/"))
            trace = traced(outcome)
            assert (outcome.error, outcome.detail) == ("connect", "The connection was refused.")
            assert trace.address == f"127.0.0.1:{port}"
            assert trace.timings.connect_ms is not None
            assert (trace.timings.tls_ms, trace.timings.first_byte_ms) == (None, None)
            assert (trace.response_headers, trace.excerpt) == ((), b"")
            assert b"webhook-signature" in trace.request_head


async def test_trace_names_the_address_that_responded() -> None:
    clock = MovableClock()
    async with (
        ScriptedServer([(READ, ERROR)]) as server,
        a_sender(details="failures", clock=clock, resolve=Slow(clock, "127.0.0.9", "127.0.0.1")) as sender,
    ):
        trace = traced(await attempt(sender, request_to(f"http://shop.example.com:{server.port}/")))
        assert trace.address == f"127.0.0.1:{server.port}"
        assert trace.timings.resolve_ms is not None
        assert 1_500 <= trace.timings.resolve_ms <= trace.timings.total_ms


@pytest.mark.parametrize("addresses", [(), ("10.0.0.1", "169.254.169.254")])
async def test_forbidden_or_unresolved_host_leaves_no_address(addresses: tuple[str, ...]) -> None:
    clock = MovableClock()
    resolve = Slow(clock, *addresses)
    async with a_sender(details="all", clock=clock, resolve=resolve, policy=EgressPolicy()) as sender:
        outcome = await attempt(sender, request_to("http://shop.example.com/"))
        trace = traced(outcome)
        assert outcome.error == ("refused_address" if addresses else "resolve")
        assert (trace.address, trace.response_headers, trace.excerpt) == ("", (), b"")
        assert trace.timings.resolve_ms is not None
        assert trace.timings.resolve_ms >= 1_500
        assert (trace.timings.connect_ms, trace.timings.first_byte_ms) == (None, None)


async def test_truncated_response_is_traced_as_received() -> None:
    outcome, trace, _ = await traced_attempt(READ, HEAD_ONLY, CLOSE)
    assert (outcome.error, outcome.status) == ("reset", 500)
    assert (trace.response_headers, trace.excerpt) == (((b"content-length", b"100"),), b"part")
    assert trace.timings.first_byte_ms is not None


async def test_incomplete_response_has_a_first_byte_timing() -> None:
    clock = MovableClock()
    script: Script = (READ, HEAD_ONLY, HANG)
    async with ScriptedServer([script]) as server, a_sender(details="failures", clock=clock) as sender:
        pending = begin(sender, request_to(server.url))
        [exchange] = sender._in_flight
        await until(lambda: exchange.first_byte_at > 0)
        clock.added_seconds += 5
        outcome = await pending
        timings = traced(outcome).timings
        assert outcome.error == "timeout"
        assert timings.first_byte_ms is not None
        assert timings.first_byte_ms + 5_000 <= timings.total_ms


async def test_connect_timeout_has_a_connect_timing() -> None:
    clock = MovableClock()
    limits = SenderLimits(connect_timeout_ms=1_000)

    async def never(host: str, port: int) -> Sequence[IPAddress]:
        del host, port
        clock.added_seconds += 5
        nobody_answers: asyncio.Future[Sequence[IPAddress]] = asyncio.get_running_loop().create_future()
        return await nobody_answers

    async with a_sender(details="failures", clock=clock, limits=limits, resolve=never) as sender:
        outcome = await attempt(sender, request_to("http://shop.example.com/"))
        timings = traced(outcome).timings
        assert outcome.error == "connect_timeout"
        assert timings.resolve_ms is not None
        assert timings.resolve_ms >= 5_000
        assert timings.connect_ms is None


async def test_first_byte_of_a_slow_response_is_not_its_last() -> None:
    _, trace, _ = await traced_attempt(READ, Drip(ERROR, 0.005))
    assert trace.timings.first_byte_ms is not None
    assert trace.timings.total_ms >= trace.timings.first_byte_ms + 5 * (len(ERROR) - 2)
