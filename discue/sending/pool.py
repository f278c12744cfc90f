"""Idle connections, kept for reuse."""

from collections import OrderedDict

from discue.sending.connection import Connection
from discue.sending.request import Origin
from discue.sending.response import SenderLimits


class IdleConnections:
    """Idle connections by origin, limited per origin and in total. The longest idle one is closed first.

    Times are readings of the monotonic clock, in seconds.
    """

    def __init__(self, limits: SenderLimits) -> None:
        self._limits = limits
        self._by_origin: dict[Origin, list[Connection]] = {}
        self._by_age: OrderedDict[Connection, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_age)

    def take(self, origin: Origin, now: float) -> Connection | None:
        """Return the connection of an origin that was used last: it is the least likely to be stale."""
        idle = self._by_origin.get(origin)
        while idle:
            connection = idle[-1]
            self._remove(connection, idle)
            if now < connection.reusable_until:
                return connection
            connection.abort()
        return None

    def put(self, connection: Connection, now: float) -> None:
        """Keep the connection for a while, or close it if a limit is reached."""
        limits = self._limits
        connection.reusable_until = min(now + limits.idle_seconds, connection.opened_at + limits.age_seconds)
        waiting = len(self._by_origin.get(connection.origin, ()))
        if connection.reusable_until <= now or waiting >= limits.idle_connections_per_origin:
            connection.abort()
            return
        self._by_origin.setdefault(connection.origin, []).append(connection)
        self._by_age[connection] = None
        if len(self._by_age) > limits.idle_connections:
            self._close(next(iter(self._by_age)))

    def discard(self, connection: Connection) -> None:
        """Remove a connection that was closed, if it is here."""
        if connection in self._by_age:
            self._remove(connection, self._by_origin[connection.origin])

    def close_expired(self, now: float) -> None:
        while self._by_age:
            connection = next(iter(self._by_age))
            if now < connection.reusable_until:
                return
            self._close(connection)

    def close_all(self) -> None:
        while self._by_age:
            self._close(next(iter(self._by_age)))

    def _close(self, connection: Connection) -> None:
        self._remove(connection, self._by_origin[connection.origin])
        connection.abort()

    def _remove(self, connection: Connection, idle: list[Connection]) -> None:
        del self._by_age[connection]
        idle.remove(connection)
        if not idle:
            del self._by_origin[connection.origin]
