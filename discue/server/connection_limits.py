"""Limits of clients' connections: silent ones are closed, no address takes most places, and newcomers find one free.

The HTTP server accepts connections up to a number and then accepts no more, not even a health check's, and it waits
for the first byte of a connection forever. Therefore this goes through the connections every second, and finds them
among the open files of this process.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from discue.auth.client_ip import ClientIpResolver, canonical, subject_of
from discue.config.types import Networks
from discue.http.rsgi import (
    Application,
    ClientConnection,
    HttpProtocol,
    HttpScope,
    descriptors,
    held,
    inode_of,
    peer_of,
    reset,
)
from discue.observability.logs import Log

FIRST_REQUEST_SECONDS: Final = 15.0
"""Time from the acceptance of a connection to its first request, TLS included."""

SHARES: Final = 4
"""The limit is divided into this many shares. Above half of the limit, an address keeps at most one share."""

_SCARCE_SECONDS: Final = 2.0
"""The time to the first request while there are more connections than the limit."""

_RESERVED: Final = 16
_SECONDS: Final = 1.0
_BUSY_SECONDS: Final = 0.1
_LOG_SECONDS: Final = 10.0
_FEW: Final = 256
"""Open files that are looked through in the event loop; more are looked through in a thread."""

_Key = tuple[int, int]
"""The descriptor of a socket and its inode: a descriptor is used again."""


def accepted_connections(max_connections: int) -> int:
    """Return how many connections to accept: above the limit, newcomers are accepted, and others are closed."""
    return max_connections + _RESERVED + max_connections // 16


@dataclass(slots=True, eq=False)
class _Known:
    """An open connection."""

    descriptor: int
    connection: ClientConnection
    subject: str
    """The holder of a share: an IPv4 address, or a network of IPv6 addresses. Empty for proxies."""
    first_round: int
    """The round in which it was opened: an earlier request is that of another connection from the same port."""
    seen_at: float


class ConnectionLimits:
    """Passes requests on to the application of a server, and closes connections that break the limits, each `round`."""

    def __init__(
        self,
        application: Application,
        *,
        max_connections: int,
        trusted_proxies: Networks = (),
        log: Log | None = None,
        first_request_seconds: float = FIRST_REQUEST_SECONDS,
    ) -> None:
        """Addresses in `trusted_proxies` have no limit of their own: theirs are the connections of all clients."""
        self._application = application
        self._max = max_connections
        self._share = max(1, max_connections // SHARES)
        self._proxies = ClientIpResolver(trusted_proxies)
        self._log = log or Log()
        self._first_request_seconds = first_request_seconds
        self._known: dict[_Key, _Known | None] = {}
        """By socket; None for sockets that are not connections of this server."""
        self._count = 0
        """The number of open connections."""
        self._round = 0
        self._requested: dict[str, int] = {}
        """The round of the last request of each client, which is an address and a port."""
        self._in_flight: dict[int, str] = {}
        self._closed = 0
        self._logged_at = 0.0

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        self._requested[scope.client] = self._round
        number = id(exchange)
        self._in_flight[number] = scope.client
        try:
            await self._application.__rsgi__(scope, exchange)
        finally:
            del self._in_flight[number]

    async def round(self, port: int) -> None:
        """Close what breaks the limits, and wait until the next round."""
        started_at = time.monotonic()
        await self._sweep(port)
        pause = _SECONDS if self._count <= self._max // 2 else _BUSY_SECONDS
        # 10,000 connections take 30 ms: a twentieth of one core, or a fifth while newcomers need places.
        share = 20 if self._count <= self._max else 5
        await asyncio.sleep(max(pause, (time.monotonic() - started_at) * (share - 1)))

    async def _sweep(self, port: int) -> None:
        self._round += 1
        found, busy = descriptors(), set(self._in_flight.values())
        if len(found) <= _FEW:
            clients = self._enforce(found, port, busy)
        else:
            clients = await asyncio.to_thread(self._enforce, found, port, busy)
        if len(self._requested) > 2 * len(clients) + _FEW:
            # Requests of this round may be on connections that were opened after the look.
            self._requested = {
                client: number
                for client, number in self._requested.items()
                if client in clients or number == self._round
            }
        now = time.monotonic()
        if self._closed and now - self._logged_at >= _LOG_SECONDS:
            self._log.warning("connections_closed", count=self._closed, limit=self._max)
            self._closed, self._logged_at = 0, now

    def _enforce(self, found: list[int], port: int, busy: set[str]) -> set[str]:
        """Go through the open files and close what breaks the limits. Returns the clients that are connected."""
        now = time.monotonic()
        known: dict[_Key, _Known | None] = {}
        for descriptor in found:
            inode = inode_of(descriptor)
            if inode is not None:
                key = descriptor, inode
                known[key] = self._known[key] if key in self._known else self._new(descriptor, port)
        self._known = known
        connections = [each for each in known.values() if each is not None]
        self._count = len(connections)
        for each in self._excess(connections, busy, now):
            with held(each.descriptor) as connection:
                if connection is not None and peer_of(connection) == each.connection:
                    reset(connection)
                    self._closed += 1
        return {each.connection.client for each in connections}

    def _new(self, descriptor: int, port: int) -> _Known | None:
        with held(descriptor) as found:
            connection = None if found is None else peer_of(found)
        if connection is None or connection.port != port:
            return None
        address = canonical(connection.client)
        subject = "" if self._proxies.is_proxy(address) else subject_of(address)
        return _Known(descriptor, connection, subject, self._round - 1, time.monotonic())

    def _last_request(self, known: _Known) -> int:
        """Return the round of the last request on a connection; -1 if there was none."""
        last = self._requested.get(known.connection.client, -1)
        return last if last >= known.first_round else -1

    def _excess(self, connections: list[_Known], busy: set[str], now: float) -> Iterator[_Known]:
        left = []
        seconds = self._first_request_seconds
        if len(connections) > self._max:
            seconds = min(seconds, _SCARCE_SECONDS)
        for each in connections:
            if self._last_request(each) < 0 and now - each.seen_at > seconds:
                yield each
            else:
                left.append(each)
        if len(left) <= self._max // 2:
            return
        # Connections without a request go first, then those that have been idle for longest.
        left.sort(key=lambda each: (each.connection.client in busy, self._last_request(each), each.seen_at))
        counts = Counter(each.subject for each in left)
        too_many = len(left) - self._max
        kept = []
        for each in left:
            if each.subject and counts[each.subject] > self._share:
                counts[each.subject] -= 1
                too_many -= 1
                yield each
            else:
                kept.append(each)
        yield from kept[: max(0, too_many)]
