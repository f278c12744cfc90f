"""Idle connections: how many are kept, for how long, and what they hold."""

import asyncio
import socket
import weakref
from types import SimpleNamespace
from typing import cast

import pytest

from discue.sending.connection import Connection, Exchange, IdleConnections
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender
from tests.support.attempts import request_to

NOW = 1_000.0


class Host(str):
    """A host's name that can be watched going out of memory."""

    __slots__ = ("__weakref__",)


class Line(asyncio.Transport):
    """A transport that knows whether it was cut. On its socket nothing happens."""

    def __init__(self) -> None:
        here, self._peer = socket.socketpair()
        super().__init__({"socket": here})
        self.is_cut = False

    def abort(self) -> None:
        self.is_cut = True
        self._peer.close()
        self.get_extra_info("socket").close()

    def is_closing(self) -> bool:
        return self.is_cut


def connected(host: Host, limits: SenderLimits, opened_at: float) -> tuple[Connection, Line]:
    exchange = Exchange(request_to("http://127.0.0.1:1/"), lambda _: None, opened_at, opened_at + 15, opened_at + 15)
    ignoring = cast(Sender, SimpleNamespace(on_opened=lambda _: None))
    connection, line = Connection(ignoring, ("http", host, 80, ""), exchange, limits), Line()
    connection.connection_made(line)
    connection.opened_at = opened_at
    return connection, line


@pytest.mark.parametrize(
    "limits", [SenderLimits(age_seconds=60.0), SenderLimits(age_seconds=120.0, idle_connections_per_origin=0)]
)
def test_connection_that_is_not_pooled_is_released(limits: SenderLimits) -> None:
    idle = IdleConnections(limits)
    host = Host("example.com")
    watched = weakref.ref(host)
    connection, line = connected(host, limits, NOW - 60.0)
    idle.put(connection, NOW)
    assert (len(idle), line.is_cut) == (0, True)
    del host, connection
    assert watched() is None


def test_connection_is_kept_up_to_its_maximum_age() -> None:
    limits = SenderLimits(age_seconds=60.0)
    idle = IdleConnections(limits)
    connection, line = connected(Host("example.com"), limits, NOW - 59.0)
    idle.put(connection, NOW)
    assert idle.take(connection.origin, NOW) is connection
    idle.put(connection, NOW)
    assert idle.take(connection.origin, NOW + 1.0) is None
    assert (len(idle), line.is_cut) == (0, True)
