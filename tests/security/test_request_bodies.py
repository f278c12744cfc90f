"""Bodies that are announced and do not arrive take nothing from other clients."""

import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import pytest

from tests.security.neighbour import Tenant, assert_unharmed, publishing, quiet, tenant
from tests.support.served_process import ServedProcess, served_process

_STRANGERS = 1_024
_BATCHES = 32
_BATCH_BYTES = 8_388_608
_FIRST_BYTE_SECONDS = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    with served_process(f"sqlite:///{tmp_path_factory.mktemp('bodies')}/discue.db") as running:
        yield running


@pytest.fixture(scope="module")
def neighbour(server: ServedProcess) -> Tenant:
    return tenant(server, "com.example.neighbour")


@contextmanager
def announced(server: ServedProcess, request: bytes, times: int) -> Iterator[list[socket.socket]]:
    """Open connections with this request on each."""
    with ExitStack() as stack:
        connections = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port)))) for _ in range(times)
        ]
        for connection in connections:
            connection.sendall(request)
        yield connections


def head(path: str, length: int, key: str = "") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {length}"]
    if key:
        lines.append(f"X-API-KEY: {key}")
    return "\r\n".join([*lines, "", ""]).encode()


def until_answered(connections: list[socket.socket], seconds: float) -> list[bytes]:
    """Wait until the first of these connections has a response, and return those that came with it."""
    deadline = time.monotonic() + seconds
    ready: list[socket.socket] = []
    polled = select.poll()
    for connection in connections:
        polled.register(connection, select.POLLIN)
    while not ready and time.monotonic() < deadline:
        found = {number for number, _ in polled.poll(100)}
        ready = [each for each in connections if each.fileno() in found]
    return [each.recv(65_536) for each in ready]


def test_strangers_that_announce_bodies_hold_up_nobody(server: ServedProcess, neighbour: Tenant) -> None:
    before = quiet(neighbour)
    with announced(server, head("/invitations", 65_536), _STRANGERS) as connections:
        with publishing(neighbour) as during:
            answers = until_answered(connections, _FIRST_BYTE_SECONDS * 2 + 2)
            during.wait()
        assert_unharmed(before, during)
        assert answers
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)


def test_a_tenant_that_announces_batches_holds_up_neither_others_nor_itself(
    server: ServedProcess, neighbour: Tenant
) -> None:
    attacker = tenant(server, "com.example.announcing")
    before = quiet(neighbour)
    request = head(f"{attacker.messages}/batch", _BATCH_BYTES, attacker.key)
    with announced(server, request, _BATCHES), publishing(neighbour) as during, publishing(attacker) as own:
        during.wait()
    assert_unharmed(before, during)
    assert not own.refused


def test_batches_that_stop_arriving_leave_room_for_other_tenants(server: ServedProcess, neighbour: Tenant) -> None:
    attacker = tenant(server, "com.example.stopping")
    request = head(f"{attacker.messages}/batch", _BATCH_BYTES, attacker.key)
    large = {"data": "x" * 200_000}
    with announced(server, request, _BATCHES) as connections, neighbour.client() as client:
        for connection in connections:
            connection.setblocking(False)
            _fill(connection, _BATCH_BYTES // 2)
        answers = [client.post(neighbour.messages, json=large).status_code for _ in range(20)]
    assert answers == [200] * 20


def test_large_bodies_of_one_tenant_take_turns(server: ServedProcess) -> None:
    busy = tenant(server, "com.example.busy")
    body = b"[" + b" " * (_BATCH_BYTES - 1)
    request = head(f"{busy.messages}/batch", len(body), busy.key)
    with announced(server, request, 12) as connections, ThreadPoolExecutor(len(connections)) as threads:
        for sent in [threads.submit(connection.sendall, body) for connection in connections]:
            sent.result()
        answers = [_answer(connection) for connection in connections]
    # All were read: none of them is JSON.
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 400 "] * 12


def _fill(connection: socket.socket, limit: int) -> None:
    """Send until the server takes no more, or up to the limit."""
    sent, idle_since = 0, time.monotonic()
    while sent < limit and time.monotonic() - idle_since < 0.05:
        try:
            sent += connection.send(b" " * 65_536)
            idle_since = time.monotonic()
        except BlockingIOError:
            select.select([], [connection], [], 0.01)


def _answer(connection: socket.socket) -> bytes:
    connection.settimeout(30)
    return connection.recv(65_536)
