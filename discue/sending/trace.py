"""From what the sender noted on the way to the trace of an attempt."""

from discue.domain.attempt_trace import Timings, Trace
from discue.sending.connection import Connection, Exchange
from discue.sending.timings import Trip


def trace_of(exchange: Exchange, connection: Connection | None, excerpt: bytes, ended_at: float) -> Trace:
    """`connection` is the one that carried the exchange, None if none did."""
    trip = exchange.trip
    timings = _timings(exchange, connection, ended_at)
    if connection is None:
        return Trace(exchange.head, (), b"", 0, trip.address if trip else "", False, timings)
    answer = connection.answer
    headers, size = tuple(answer.headers), answer.body_bytes
    return Trace(exchange.head, headers, excerpt, size, connection.address, trip is None, timings)


def _timings(exchange: Exchange, connection: Connection | None, ended_at: float) -> Timings:
    total_ms = _ms(exchange.started_at, ended_at)
    trip = exchange.trip
    if trip is None:
        first_byte_ms = _first_byte_ms(exchange, connection, exchange.started_at, ended_at)
        return Timings(None, None, None, first_byte_ms, total_ms)
    return Timings(
        resolve_ms=_ms(trip.begun_at, trip.resolved_at or ended_at),
        connect_ms=_ms(trip.resolved_at, trip.connected_at or ended_at) if trip.resolved_at else None,
        tls_ms=_tls_ms(trip, ended_at),
        first_byte_ms=_first_byte_ms(exchange, connection, trip.opened_at, ended_at),
        total_ms=total_ms,
    )


def _tls_ms(trip: Trip, ended_at: float) -> int | None:
    """Without TLS a connection is opened as soon as it is connected."""
    if not trip.connected_at or trip.connected_at == trip.opened_at:
        return None
    return _ms(trip.connected_at, trip.opened_at or ended_at)


def _first_byte_ms(exchange: Exchange, connection: Connection | None, sent_at: float, ended_at: float) -> int | None:
    """When it came is noted only if the answer was not decided by what came with it."""
    if connection is None or not connection.answer.received:
        return None
    return _ms(sent_at, exchange.first_byte_at or ended_at)


def _ms(begun_at: float, ended_at: float) -> int:
    return max(0, int((ended_at - begun_at) * 1_000))
