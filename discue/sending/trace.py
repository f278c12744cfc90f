"""How long each stage of an attempt took, and the trace of an attempt."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from discue.domain.attempts import Timings, Trace
from discue.domain.egress import IPAddress

if TYPE_CHECKING:
    from discue.sending.connection import Connection, Exchange


class DialTimings:
    """When each stage of opening a connection ended: readings of the monotonic clock, 0 until the stage is over."""

    __slots__ = ("_now", "address", "connected_at", "opened_at", "resolved_at", "started_at")

    def __init__(self, now: Callable[[], float], started_at: float) -> None:
        self._now = now
        self.started_at = started_at
        self.resolved_at = 0.0
        self.connected_at = 0.0
        self.opened_at = 0.0
        self.address = ""
        """The address and port that were tried last."""

    def on_resolved(self) -> None:
        """Note that the host was resolved to addresses that egress allows."""
        self.resolved_at = self._now()

    def on_try(self, address: IPAddress, port: int) -> None:
        """Note the address that is connected to now."""
        self.address = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        self.connected_at = 0.0

    def on_connected(self) -> None:
        """Note that TCP is connected; only TLS may remain."""
        self.connected_at = self.connected_at or self._now()

    def on_opened(self, now: float) -> None:
        """Note that the connection is ready for a request."""
        self.opened_at = now
        self.connected_at = self.connected_at or now


def trace_of(exchange: "Exchange", connection: "Connection | None", excerpt: bytes, ended_at: float) -> Trace:
    """Make the trace of an attempt. `connection` carried the exchange; None if none did."""
    dial = exchange.dial
    timings = _timings(exchange, connection, ended_at)
    if connection is None:
        return Trace(exchange.head, (), b"", 0, dial.address if dial else "", False, timings)
    response = connection.response
    headers, size = tuple(response.headers), response.body_bytes
    return Trace(exchange.head, headers, excerpt, size, connection.address, dial is None, timings)


def _timings(exchange: "Exchange", connection: "Connection | None", ended_at: float) -> Timings:
    total_ms = _ms(exchange.started_at, ended_at)
    dial = exchange.dial
    if dial is None:
        first_byte_ms = _first_byte_ms(exchange, connection, exchange.started_at, ended_at)
        return Timings(None, None, None, first_byte_ms, total_ms)
    return Timings(
        resolve_ms=_ms(dial.started_at, dial.resolved_at or ended_at),
        connect_ms=_ms(dial.resolved_at, dial.connected_at or ended_at) if dial.resolved_at else None,
        tls_ms=_tls_ms(dial, ended_at),
        first_byte_ms=_first_byte_ms(exchange, connection, dial.opened_at, ended_at),
        total_ms=total_ms,
    )


def _tls_ms(dial: DialTimings, ended_at: float) -> int | None:
    """Return None without TLS: the connection is open as soon as it is connected."""
    if not dial.connected_at or dial.connected_at == dial.opened_at:
        return None
    return _ms(dial.connected_at, dial.opened_at or ended_at)


def _first_byte_ms(
    exchange: "Exchange", connection: "Connection | None", sent_at: float, ended_at: float
) -> int | None:
    """Return the time to the first byte. It equals the total time if the first bytes decided the response."""
    if connection is None or not connection.response.received:
        return None
    return _ms(sent_at, exchange.first_byte_at or ended_at)


def _ms(started_at: float, ended_at: float) -> int:
    return max(0, int((ended_at - started_at) * 1_000))
