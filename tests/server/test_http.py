"""Shutdown of the HTTP server: requests in flight are answered, and idle connections do not delay it."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from discue.http.rsgi import ClientConnection, connection_of, descriptors, held, peer_of
from discue.server.http import Address, HttpServer
from tests.support.held_address import held_address

# The start of an HTTP/2 connection: the preface and empty settings.
H2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
PATIENCE_SECONDS = 20


class Slow:
    """Answers each request when the test says so."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.answer = asyncio.Event()

    async def __rsgi__(self, scope: Any, exchange: Any) -> None:
        self.arrived.set()
        await self.answer.wait()
        exchange.response_str(200, [], "done")


class Named:
    """Says on which connection a request came, and whether that is the only one that is open."""

    def __init__(self) -> None:
        self.connections: list[ClientConnection] = []

    async def __rsgi__(self, scope: Any, exchange: Any) -> None:
        self.connections.append(connection_of(scope))
        self.connections += [
            each for each in map(connection_at, descriptors()) if each is not None and each.port == scope_port(scope)
        ]
        exchange.response_str(200, [], "done")


def connection_at(descriptor: int) -> ClientConnection | None:
    with held(descriptor) as found:
        return None if found is None else peer_of(found)


def scope_port(scope: Any) -> int:
    return int(scope.server.rpartition(":")[2])


@pytest.fixture
def address() -> Iterator[Address]:
    with held_address() as free:
        yield free


@asynccontextmanager
async def connected(server: HttpServer, greeting: bytes) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.address.port)
    writer.write(greeting)
    try:
        yield reader
    finally:
        writer.close()


async def ended_within(server: HttpServer, grace_seconds: float) -> float:
    began_at = time.monotonic()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await server.stop(grace_seconds)
    return time.monotonic() - began_at


async def test_a_connection_of_http_2_that_has_nothing_to_do_does_not_delay_the_end(address: Address) -> None:
    server = HttpServer(Slow(), address, max_connections=10)
    await server.start()
    async with connected(server, H2_GREETING) as reader:
        # The server's settings: the connection is open now. Later frames are never answered.
        await reader.readexactly(9)
        assert await ended_within(server, PATIENCE_SECONDS * 2) < PATIENCE_SECONDS


def threads() -> set[Path]:
    return set(Path("/proc/self/task").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="Other systems have no such policy.")
async def test_threads_of_the_server_wait_for_a_core_and_the_event_loop_does_not(address: Address) -> None:
    own = os.sched_getscheduler(0)
    before = threads()
    server = HttpServer(Slow(), address, max_connections=10)
    await server.start()
    # A policy that was set for the process stays.
    expected = os.SCHED_BATCH if own == os.SCHED_OTHER else own
    assert {os.sched_getscheduler(int(thread.name)) for thread in threads() - before} == {expected}
    assert os.sched_getscheduler(0) == own
    await server.stop(0)


async def test_stopped_server_leaves_no_file_open(address: Address) -> None:
    before = len(descriptors())
    for _ in range(5):
        server = HttpServer(Named(), address, max_connections=10)
        await server.start()
        await server.stop(1)

    # Some are closed a moment after the end.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(descriptors()) >= before + 5:  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(0.01)


async def test_request_in_flight_is_answered_even_if_slower_than_an_idle_shutdown(address: Address) -> None:
    application = Slow()
    server = HttpServer(application, address, max_connections=10)
    await server.start()
    async with (
        connected(server, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n") as reader,
        connected(server, H2_GREETING),
    ):
        await application.arrived.wait()
        stopping = asyncio.ensure_future(server.stop(10))
        ended, _ = await asyncio.wait({stopping}, timeout=1)
        assert not ended
        application.answer.set()
        assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await stopping


async def test_a_request_that_never_ends_is_given_its_grace_and_no_more(address: Address) -> None:
    application = Slow()
    server = HttpServer(application, address, max_connections=10)
    await server.start()
    async with connected(server, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"):
        await application.arrived.wait()
        assert await ended_within(server, 1) >= 0.9
    application.answer.set()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_connection_of_a_request_is_found_among_the_open_sockets(host: str) -> None:
    application = Named()
    with held_address(host) as address:
        server = HttpServer(application, address, max_connections=10)
        await server.start()
        reader, writer = await asyncio.open_connection(host, address.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await reader.readuntil(b"done")
        writer.close()
        await server.stop(1)
    named, *found = application.connections
    assert named in found
