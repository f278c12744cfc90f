"""Limits of connections, and which of the open sockets a server closes."""

import asyncio
import socket
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import pytest

from discue.server.connection_limits import ConnectionLimits, accepted_connections

LIMIT = 8
SHARE = LIMIT // 4


class Waiting:
    """Answers no request."""

    async def __rsgi__(self, _scope: Any, _exchange: Any) -> None:
        await asyncio.sleep(0)


class Server:
    """Accepts connections from addresses on loopback and reads nothing."""

    def __init__(self, stack: ExitStack, **options: Any) -> None:
        self._stack = stack
        self._listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.limits = ConnectionLimits(Waiting(), max_connections=LIMIT, **options)

    def connect(self, host: str = "127.0.0.1") -> "Client":
        ours = self._stack.enter_context(socket.socket())
        ours.bind((host, 0))
        ours.connect(self._listening.getsockname())
        self._stack.enter_context(self._listening.accept()[0])
        return Client(self, ours)

    async def sweep(self) -> None:
        await self.limits._sweep(self._listening.getsockname()[1])


class Client:
    """A connection."""

    def __init__(self, server: Server, ours: socket.socket) -> None:
        self._server = server
        self._ours = ours
        self._ours.setblocking(False)

    def request(self) -> Coroutine[Any, Any, None]:
        """Begin a request, which lasts until it is closed."""
        host, port = self._ours.getsockname()
        request = self._server.limits.__rsgi__(cast("Any", SimpleNamespace(client=f"{host}:{port}")), cast("Any", self))
        request.send(None)
        return request

    def use(self) -> None:
        """Make a request."""
        self.request().close()

    @property
    def is_open(self) -> bool:
        try:
            self._ours.recv(1)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        return False


@contextmanager
def server(**options: Any) -> Iterator[Server]:
    with ExitStack() as stack:
        yield Server(stack, **options)


def are_open(clients: list[Client]) -> list[bool]:
    return [client.is_open for client in clients]


async def test_connection_without_a_request_is_closed_in_time() -> None:
    with server(first_request_seconds=0.0) as serving:
        silent, used, busy = (serving.connect() for _ in range(3))
        used.use()
        request = busy.request()
        for _ in range(3):
            await serving.sweep()
        assert are_open([silent, used, busy]) == [False, True, True]
        request.close()


async def test_request_of_an_earlier_connection_from_the_same_port_does_not_count() -> None:
    with server(first_request_seconds=0.0) as serving:
        later = serving.connect()
        later.use()
        for _ in range(3):
            serving.limits._round += 1
        await serving.sweep()
        await serving.sweep()
        assert not later.is_open


async def test_address_keeps_its_share_when_half_of_the_places_are_taken() -> None:
    with server() as serving:
        crowd = [serving.connect("127.0.0.2") for _ in range(LIMIT // 2)]
        await serving.sweep()
        assert all(are_open(crowd))
        others = [serving.connect(f"127.0.1.{number}") for number in range(2)]
        crowd[0].use()
        await serving.sweep()
        assert all(are_open(others))
        # Used connections stay.
        assert are_open(crowd) == [True, False, False, True]


async def test_proxies_have_no_share() -> None:
    with server(trusted_proxies=(ip_network("127.0.0.2/32"),)) as serving:
        crowd = [serving.connect("127.0.0.2") for _ in range(LIMIT)]
        await serving.sweep()
        assert all(are_open(crowd))


async def test_silent_connections_make_room_for_newcomers_before_used_ones() -> None:
    with server() as serving:
        used = [serving.connect(f"127.0.2.{number}") for number in range(LIMIT)]
        for client in used:
            client.use()
        silent = [serving.connect(f"127.0.3.{number}") for number in range(2)]
        await serving.sweep()
        assert all(are_open(used))
        assert not any(are_open(silent))


async def test_idle_connections_make_room_for_newcomers_before_busy_ones() -> None:
    with server() as serving:
        busy, idle, *others = (serving.connect(f"127.0.4.{number}") for number in range(LIMIT))
        request = busy.request()
        idle.use()
        await serving.sweep()
        newcomer = serving.connect("127.0.5.1")
        for client in (*others, newcomer):
            client.use()
        await serving.sweep()
        assert are_open([busy, idle, newcomer]) == [True, False, True]
        assert all(are_open(others))
        request.close()


@pytest.mark.parametrize("limit", [1, 10, 10_000])
def test_more_connections_are_accepted_than_stay(limit: int) -> None:
    assert accepted_connections(limit) >= limit + 16
