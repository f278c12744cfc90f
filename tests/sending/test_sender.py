"""The sender: signed requests, reused connections, and exactly one outcome for each request."""

import asyncio
import socket
import struct
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address

import pytest

from discue.domain.attempts import Outcome
from discue.domain.egress import IPAddress, Target
from discue.sending.dialer import system_tls_context
from discue.sending.response import SenderLimits
from tests.support.attempts import MovableClock, a_sender, attempt, begin, request_to
from tests.support.scripted_server import CLOSE, HANG, READ, READ_HEAD, RESET, Script, ScriptedServer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GOOD: Script = (READ, OK) * 50


async def test_attempts_one_after_another_share_a_connection() -> None:
    async with ScriptedServer([GOOD]) as server, a_sender() as sender:
        for number in range(1, 6):
            assert (await attempt(sender, request_to(server.url, number=number))).acknowledged
        assert [received.headers["discue-attempt"] for received in server.requests] == list("12345")
        assert (server.connections, sender.open_connections) == (1, 1)


async def test_the_connection_used_last_is_used_first() -> None:
    async with ScriptedServer([GOOD]) as server, a_sender() as sender:
        await asyncio.gather(*[attempt(sender, request_to(server.url)) for _ in range(3)])
        for _ in range(4):
            await attempt(sender, request_to(server.url))
        assert len({received.connection for received in server.requests[3:]}) == 1


async def test_concurrent_attempts_use_separate_connections_and_few_are_kept() -> None:
    limits = SenderLimits(idle_connections_per_origin=3)
    async with ScriptedServer([GOOD]) as server, a_sender(limits=limits) as sender:
        await asyncio.gather(*[attempt(sender, request_to(server.url)) for _ in range(8)])
        assert server.connections == 8
        await server.until_open(3)


async def test_idle_connections_are_limited_and_the_oldest_is_closed_first() -> None:
    limits = SenderLimits(idle_connections=2)
    async with (
        ScriptedServer([GOOD]) as first,
        ScriptedServer([GOOD]) as second,
        ScriptedServer([GOOD]) as third,
        a_sender(limits=limits) as sender,
    ):
        for server in (first, second, third):
            await attempt(sender, request_to(server.url))
        await first.until_open(0)
        await attempt(sender, request_to(second.url))
        assert (second.connections, second.open, third.open) == (1, 1, 1)


@pytest.mark.parametrize(
    "script",
    [
        (READ, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        (READ, b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (READ, OK + b"HTTP/1.1 200 OK"),
        (READ, OK + b"\x00"),
        (READ, b"HTTP/1.1 200 OK\r\n\r\nuntil close", CLOSE),
    ],
)
async def test_connection_with_unclear_framing_is_closed(script: Script) -> None:
    async with ScriptedServer([script]) as server, a_sender() as sender:
        for connections in (1, 2):
            assert (await attempt(sender, request_to(server.url))).acknowledged
            await server.until_open(0)
            assert server.connections == connections


async def test_response_before_the_end_of_the_request_closes_the_connection() -> None:
    async with ScriptedServer([(READ_HEAD, OK)]) as server, a_sender() as sender:
        for connections in (1, 2):
            assert (await attempt(sender, request_to(server.url, body=b"x" * 30_000_000))).acknowledged
            assert server.connections == connections


async def test_connection_that_was_idle_for_too_long_is_not_reused() -> None:
    clock = MovableClock()
    async with ScriptedServer([GOOD]) as server, a_sender(clock=clock) as sender:
        await attempt(sender, request_to(server.url))
        clock.added_seconds += 16
        await attempt(sender, request_to(server.url))
        assert server.connections == 2


async def test_an_idle_connection_is_closed_without_another_request() -> None:
    clock = MovableClock()
    async with ScriptedServer([GOOD]) as server, a_sender(clock=clock) as sender:
        await attempt(sender, request_to(server.url))
        clock.added_seconds += 16
        await server.until_open(0)


@pytest.mark.parametrize("ending", [CLOSE, RESET])
@pytest.mark.parametrize("read", [READ, READ_HEAD])
async def test_request_that_may_have_been_read_is_not_written_again(read: str, ending: str) -> None:
    async with ScriptedServer([(READ, OK, read, ending), GOOD]) as server, a_sender() as sender:
        outcomes = [await attempt(sender, request_to(server.url, number=number)) for number in (1, 2, 3)]
        assert [outcome.error for outcome in outcomes] == ["", "reset", ""]
        assert outcomes[1].detail.startswith("The reused connection was ")
        arrived = [(received.connection, received.headers["discue-attempt"]) for received in server.requests]
        assert [each for each in arrived if each[1] == "2"] == ([(0, "2")] if read == READ else [])
        assert arrived[-1] == (1, "3")
        assert server.connections == 2


async def test_server_that_closes_connections_without_notice_loses_few_requests() -> None:
    clock = MovableClock()
    async with ScriptedServer([(READ, OK, READ, CLOSE)]) as server, a_sender(clock=clock) as sender:
        lost_at: list[int] = []
        for second in range(200):
            outcomes = [await attempt(sender, request_to(server.url)) for _ in range(2)]
            assert outcomes[0].acknowledged
            lost_at += [second] * (outcomes[1].error == "reset")
            clock.added_seconds += 1
        assert lost_at == [0, 1, 3, 7, 15, 31, 63, 123, 183]


async def test_connections_are_reused_again_soon_after_a_server_has_lost_one() -> None:
    clock = MovableClock()
    scripts: list[Script] = [(READ, OK, READ, CLOSE), GOOD]
    async with ScriptedServer(scripts) as server, ScriptedServer([GOOD]) as other, a_sender(clock=clock) as sender:
        errors = [(await attempt(sender, request_to(server.url))).error for _ in range(4)]
        assert (errors, server.connections) == (["", "reset", "", ""], 3)
        for _ in range(2):
            assert (await attempt(sender, request_to(other.url))).acknowledged
        assert other.connections == 1
        clock.added_seconds += 1
        for _ in range(3):
            assert (await attempt(sender, request_to(server.url))).acknowledged
        assert server.connections == 4


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
async def test_connection_that_closed_before_the_write_is_replaced(*, is_reset: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        request = request_to(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        async with a_sender() as sender:
            outcome = begin(sender, request)
            peer = await respond_once(listener)
            assert (await outcome).acknowledged
            if is_reset:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # The event loop does not learn of it before the next request is sent.
            peer.close()
            outcome = begin(sender, request)
            with await respond_once(listener):
                assert (await outcome).acknowledged


async def respond_once(listener: socket.socket) -> socket.socket:
    """Accept a connection and respond to its first request. Returns the connection."""
    loop = asyncio.get_running_loop()
    peer, _ = await loop.sock_accept(listener)
    while not (await loop.sock_recv(peer, 65_536)).endswith(b'{"hello":"world"}'):
        pass
    await loop.sock_sendall(peer, OK)
    return peer


@pytest.mark.parametrize(
    ("scripts", "errors", "connections"),
    [
        ([(READ, CLOSE), GOOD], ["reset"], 1),
        ([(READ, OK, READ, b"H", CLOSE), GOOD], ["", "reset"], 1),
    ],
    ids=["on a new connection", "after a response has begun"],
)
async def test_request_is_not_resent(scripts: list[Script], errors: list[str], connections: int) -> None:
    async with ScriptedServer(scripts) as server, a_sender() as sender:
        assert [(await attempt(sender, request_to(server.url))).error for _ in errors] == errors
        assert server.connections == connections


async def test_message_that_expires_before_it_can_be_written_is_not_sent() -> None:
    """Connecting takes time: the expiry is checked again before the first byte."""
    clock = MovableClock()

    async def resolve_slowly(_host: str, _port: int) -> Sequence[IPAddress]:
        clock.added_seconds += 2
        return [ip_address("127.0.0.1")]

    async with ScriptedServer([GOOD]) as server, a_sender(clock=clock, resolve=resolve_slowly) as sender:
        url = f"http://localhost:{server.port}/hook"
        lasting = await attempt(sender, request_to(url, expires_at=clock.now() + 60_000))
        assert lasting.acknowledged
        expired_at = clock.now()
        reused = await attempt(sender, request_to(url, expires_at=expired_at))
        clock.added_seconds += 60
        new = await attempt(sender, request_to(url, expires_at=clock.now() + 1_000))
        assert [each.error for each in (reused, new)] == ["connect_timeout"] * 2
        assert reused.detail == new.detail == "The message expired before its request was sent."
        assert len(server.requests) == 1
        assert (await attempt(sender, request_to(url))).acknowledged


@pytest.mark.parametrize(
    ("announced", "seconds", "connections"),
    [(b"timeout=3", 1.9, 1), (b"timeout=3", 2.1, 2), (b"max=5, Timeout=1", 0.0, 2), (b"timeout=60", 3.9, 1)],
)
async def test_connection_is_not_reused_shortly_before_the_server_closes_it(
    announced: bytes, seconds: float, connections: int
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: " + announced + b"\r\nContent-Length: 0\r\n\r\n"
    clock = MovableClock()
    async with ScriptedServer([(READ, answer) * 2]) as server, a_sender(clock=clock) as sender:
        await attempt(sender, request_to(server.url))
        clock.added_seconds += seconds
        assert (await attempt(sender, request_to(server.url))).acknowledged
        assert server.connections == connections


@pytest.mark.parametrize("script", [(READ, OK, OK), (READ, OK, b"\0"), (READ, OK, CLOSE), (READ, OK, RESET)])
async def test_bytes_on_an_idle_connection_close_it(script: Script) -> None:
    async with ScriptedServer([script, GOOD]) as server, a_sender() as sender:
        assert (await attempt(sender, request_to(server.url))).acknowledged
        await server.until_open(0)
        assert (await attempt(sender, request_to(server.url))).acknowledged
        assert server.connections == 2


async def test_request_can_be_sent_from_an_outcome_callback() -> None:
    async with ScriptedServer([GOOD]) as server, a_sender() as sender:
        outcomes: asyncio.Queue[Outcome] = asyncio.Queue()

        def again(outcome: Outcome) -> None:
            outcomes.put_nowait(outcome)
            sender.send(request_to(server.url), outcomes.put_nowait)

        sender.send(request_to(server.url), again)
        assert [(await outcomes.get()).status for _ in range(2)] == [200, 200]
        assert server.connections == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"message_id": "a\r\nb"},
        {"headers": (("X-Bad", "a\r\nb"),)},
        {"target": Target("http", "x.example", 80, "x.example", "/a b", None)},
        {"keys": ("no bytes",)},
    ],
)
async def test_a_request_that_cannot_be_built_has_an_outcome_too(changes: dict[str, object]) -> None:
    async with a_sender() as sender:
        outcome = await attempt(sender, request_to("http://127.0.0.1:9/", **changes))
        assert (outcome.error, outcome.status) == ("internal", 0)
        assert sender.in_flight == 0


async def test_every_request_has_exactly_one_outcome() -> None:
    scripts: list[Script] = [
        GOOD,
        (READ, OK, READ_HEAD, CLOSE),
        (READ, RESET),
        (READ, HANG),
        (READ, OK, READ, b"garbage\r\n\r\n"),
        (CLOSE,),
    ] * 20
    async with ScriptedServer(scripts) as server, a_sender() as sender:
        counts = [0] * 200
        all_in = asyncio.Event()

        def count(index: int, _: Outcome) -> None:
            counts[index] += 1
            if all(counts):
                all_in.set()

        for index in range(200):
            sender.send(request_to(server.url, timeout_ms=300), partial(count, index))
        assert sender.in_flight == 200
        await all_in.wait()
        assert sender.in_flight == 0
        await sender.close(0)
    assert counts == [1] * 200


async def test_close_waits_for_requests_in_flight() -> None:
    async with ScriptedServer([GOOD]) as server, a_sender() as sender:
        await attempt(sender, request_to(server.url))
        waiting = [begin(sender, request_to(server.url)) for _ in range(5)]
        await sender.close(10)
        assert all(outcome.result().acknowledged for outcome in waiting)
        assert sender.open_connections == 0
        await server.until_open(0)


async def test_close_fails_requests_after_the_grace_period() -> None:
    async with ScriptedServer([(HANG,)]) as server, a_sender() as sender:
        connected = begin(sender, request_to(server.url))
        await server.until_open(1)
        connecting = begin(sender, request_to(server.url))
        await sender.close(0.05)
        outcomes = [connected.result(), connecting.result()]
        assert [outcome.error for outcome in outcomes] == ["internal", "internal"]
        await server.until_open(0)


async def test_closed_sender_sends_nothing() -> None:
    async with ScriptedServer([GOOD]) as server, a_sender() as sender:
        await sender.close(0)
        assert (await attempt(sender, request_to(server.url))).error == "internal"
        assert server.connections == 0


def test_the_systems_context_verifies_names_and_is_not_older_than_tls_1_2() -> None:
    context = system_tls_context()
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert context.minimum_version.name == "TLSv1_2"
