"""Connections on which nothing is said take no places from other clients."""

import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from tests.security.neighbour import assert_unharmed, publishing, quiet, tenant
from tests.support.served_process import ServedProcess, served_process

_PLACES = 64
_PATIENCE_SECONDS = 20.0

# Connections of the same address as those of clients would take a share of the places with them.
_ATTACKER = ("127.0.0.2", 0)

# The beginning of a connection of each protocol, which does not go on.
_BEGINNINGS = {"nothing": b"", "http/1.1": b"GET / HT", "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    database = f"sqlite:///{tmp_path_factory.mktemp('silent')}/discue.db"
    with served_process(database, max_connections=_PLACES) as running:
        yield running


@pytest.mark.parametrize("said", _BEGINNINGS)
def test_silent_connections_leave_places_for_clients(server: ServedProcess, said: str) -> None:
    neighbour = tenant(server, f"com.example.{said.replace('/', '-').replace('.', '-')}")
    before = quiet(neighbour)
    with ExitStack() as stack, publishing(neighbour) as during:
        for _ in range(_PLACES * 3):
            attacker = stack.enter_context(closing(_attacker(server)))
            attacker.sendall(_BEGINNINGS[said])
        # Each on a connection of its own.
        healthy = [httpx.get(f"{server.url}/health/ready", timeout=_PATIENCE_SECONDS).status_code for _ in range(20)]
        during.wait()
    assert healthy == [200] * 20
    assert_unharmed(before, during)


def test_connections_that_have_been_used_make_room(server: ServedProcess) -> None:
    with ExitStack() as stack:
        # The preface, empty settings: such a connection stays open for as long as its client answers pings.
        greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
        attackers = [stack.enter_context(closing(_attacker(server))) for _ in range(_PLACES * 2)]
        for attacker in attackers:
            attacker.sendall(greeting)
        assert httpx.get(f"{server.url}/health/live", timeout=_PATIENCE_SECONDS).status_code == 200
        assert select.select(attackers, [], [], _PATIENCE_SECONDS)[0]


def test_silent_connections_are_closed(server: ServedProcess, tmp_path: Path) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    database = f"sqlite:///{tmp_path}/discue.db"
    with served_process(database, tls_self_signed="true") as with_tls, ExitStack() as stack:
        silent, before_tls, after_tls = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_SECONDS)))
            for port in (server.port, with_tls.port, with_tls.port)
        ]
        greeted = stack.enter_context(context.wrap_socket(after_tls))
        assert [_ended(each) for each in (silent, before_tls, greeted)] == [True] * 3


def _attacker(server: ServedProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), source_address=_ATTACKER)


def _ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(65_536) == b""
    except ConnectionResetError:
        return True
