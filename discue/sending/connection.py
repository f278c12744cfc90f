"""Connections to listeners' servers: each carries one exchange at a time, and is kept for reuse while it is idle."""

import asyncio
import select
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, cast

from discue.domain.attempts import Outcome, Timings, Trace
from discue.domain.egress import EgressProxy
from discue.sending.dialer import DialTimings
from discue.sending.request import AttemptRequest, Origin, for_proxy
from discue.sending.response import RequestFailed, ResponseReader, SenderLimits, reusable_seconds

if TYPE_CHECKING:
    from discue.sending.sender import Sender

# Below this, copying head and body together is cheaper than a second system call.
_LARGEST_JOINED_BODY = 65_536
_FIRST_DISTRUST_SECONDS = 1.0
_LONGEST_DISTRUST_SECONDS = 60.0
_MOST_DISTRUSTED = 10_000
_TRUSTED = (0.0, 0.0)
_CLOSING_SECONDS = 1.0


@dataclass(slots=True, eq=False, repr=False)
class Exchange:
    """A request on its way to an outcome. All times are readings of the monotonic clock, in seconds.

    It has no repr of its fields: the head contains signatures and credentials.
    """

    request: AttemptRequest
    done: Callable[[Outcome], None]
    started_at: float
    ends_at: float
    """When the attempt times out."""
    deadline: float
    """When the current stage times out: while connecting, earlier than `ends_at`."""
    head: bytes = b""
    connection: "Connection | None" = None
    """The connection that carries the request; None until there is one."""
    dialing: asyncio.Task[None] | asyncio.Handle | None = None
    """The task or callback that ends with a connection or an outcome; None once there is a connection."""
    dial: DialTimings | None = None
    """How the connection was opened; None for a connection that was used before."""
    first_byte_at: float = 0.0
    """When the response began; 0 if it was complete with its first bytes, or has not begun."""


@dataclass(slots=True, eq=False, repr=False)
class Connection(asyncio.Protocol):
    """A connection for one exchange, reused for others of the same origin as long as the peer keeps it open."""

    _sender: "Sender"
    origin: Origin
    exchange: Exchange | None
    limits: InitVar[SenderLimits]
    response: ResponseReader = field(init=False)
    opened_at: float = 0.0
    address: str = ""
    is_withheld: bool = False
    """Whether responses must not be shown to clients: the address is not public."""
    is_counted: bool = False
    """Whether it is one of the sender's `open_connections`."""
    proxy: EgressProxy | None = None
    """The proxy that reads the requests; None for a direct connection or a tunnel."""
    reusable_until: float = 0.0
    _events: "select.poll | None" = None
    _transport: asyncio.Transport = field(init=False)

    def __post_init__(self, limits: SenderLimits) -> None:
        self.response = ResponseReader(limits)

    def transmit(self, exchange: Exchange) -> None:
        """Send the exchange's request and expect its response."""
        self.exchange = exchange
        exchange.connection = self
        self.response.begin()
        head, body = exchange.head, exchange.request.body
        # The credentials of the proxy are added only here, so that no trace contains them.
        if self.proxy is not None:
            head = for_proxy(head, exchange.request.destination.target, self.proxy)
        if len(body) <= _LARGEST_JOINED_BODY:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def detach(self) -> Exchange:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            raise RuntimeError("the connection carries no exchange")
        exchange.connection = None
        return exchange

    def abort(self) -> None:
        """Close at once, even with an exchange in flight."""
        self._transport.abort()

    @property
    def is_disturbed(self) -> bool:
        """Whether the peer of an idle connection has closed it, or sent something unsolicited.

        Asks the system: the event loop may not have reported it yet. A request that is written after the peer has
        closed is lost, and must not be written again, because it is unknown whether it was read.
        """
        if self._transport.is_closing():
            return True
        if self._events is None:
            self._events = select.poll()
            self._events.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._events.poll(0))

    @property
    def is_reusable(self) -> bool:
        """Whether the connection can be reused: both sides agree where the next response begins."""
        response = self.response
        return (
            response.keep_alive
            and not response.surplus
            and self._transport.get_write_buffer_size() == 0
            and not self._transport.is_closing()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._sender.on_opened(self)

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self._sender.on_unexpected_data(self)
            return
        try:
            decided = self.response.feed(data)
        except RequestFailed as error:
            self._sender.on_failed(self, error.failure)
        else:
            if decided:
                self._sender.on_response(self)
            # These were the first bytes, and more are expected.
            elif self.response.received == len(data):
                self._sender.on_response_started(self)

    def eof_received(self) -> None:
        self._ended_by_peer(None)

    def connection_lost(self, exc: Exception | None) -> None:
        # Also called after `eof_received` and `abort`: by then the connection carries no exchange.
        self._ended_by_peer(exc)
        self.response.close()
        if self.is_counted:
            self._sender.on_closed()

    def _ended_by_peer(self, error: Exception | None) -> None:
        if self.exchange is None:
            self._sender.on_unexpected_data(self)
        elif not isinstance(error, ssl.SSLError) and self.response.end():
            # A server that closes before it has read the whole request resets the connection after a good response.
            self._sender.on_response(self)
        else:
            self._sender.on_lost(self, error)


class IdleConnections:
    """Idle connections by origin, limited per origin and in total.

    Times are readings of the monotonic clock, in seconds.
    """

    def __init__(self, limits: SenderLimits) -> None:
        self._limits = limits
        self._by_origin: dict[Origin, list[Connection]] = {}
        self._count = 0
        self._closes_at = 0.0
        self._distrusted: OrderedDict[Origin, tuple[float, float]] = OrderedDict()
        """Until when no connection of an origin is kept, and how many seconds that is."""

    def __len__(self) -> int:
        return self._count

    def take(self, origin: Origin, now: float) -> Connection | None:
        """Return the connection of an origin that was used last: it is the least likely to be stale."""
        idle = self._by_origin.get(origin)
        while idle:
            connection = idle[-1]
            self._remove(connection, idle)
            if now < connection.reusable_until and not connection.is_disturbed:
                return connection
            connection.abort()
        return None

    def put(self, connection: Connection, now: float) -> None:
        """Keep the connection for a while, or close it if a limit is reached."""
        limits = self._limits
        idle_seconds = limits.idle_seconds
        if connection.response.keep_alive_header:
            idle_seconds = min(idle_seconds, reusable_seconds(connection.response.keep_alive_header))
        connection.reusable_until = min(now + idle_seconds, connection.opened_at + limits.age_seconds)
        if self._distrusted and self._distrusted.get(connection.origin, _TRUSTED)[0] > now:
            connection.reusable_until = now
        idle = self._by_origin.get(connection.origin)
        waiting = 0 if idle is None else len(idle)
        if connection.reusable_until <= now or waiting >= limits.idle_connections_per_origin:
            connection.abort()
            return
        if idle is None:
            self._by_origin[connection.origin] = [connection]
        else:
            idle.append(connection)
        self._count += 1
        if self._count > limits.idle_connections:
            # The origin that has had idle connections for longest.
            self._close(next(iter(self._by_origin.values()))[0])

    def distrust(self, origin: Origin, now: float) -> None:
        """Keep no connection of an origin for a while: its server closed one without notice, and a request is lost.

        A second after the first time, and twice as long each time that it happens again soon: a server that always does
        so must not cost every other request, and one that crashed must not cost its connections for long.
        """
        until, seconds = self._distrusted.pop(origin, (0.0, 0.0))
        # Several requests that are lost together count once.
        if until <= now:
            is_recent = now < until + _LONGEST_DISTRUST_SECONDS
            seconds = min(seconds * 2, _LONGEST_DISTRUST_SECONDS) if is_recent else _FIRST_DISTRUST_SECONDS
            until = now + seconds
        self._distrusted[origin] = (until, seconds)
        if len(self._distrusted) > _MOST_DISTRUSTED:
            self._distrusted.popitem(last=False)
        while idle := self._by_origin.get(origin):
            self._close(idle[-1])

    def discard(self, connection: Connection) -> None:
        """Remove a connection that was closed, if it is here."""
        idle = self._by_origin.get(connection.origin, [])
        if connection in idle:
            self._remove(connection, idle)

    def close_expired(self, now: float) -> None:
        """Close expired connections. Does so at most once a second, because it looks at all connections."""
        if now < self._closes_at:
            return
        self._closes_at = now + _CLOSING_SECONDS
        expired = [each for idle in self._by_origin.values() for each in idle if each.reusable_until <= now]
        for connection in expired:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._remove(connection, self._by_origin[connection.origin])
        connection.abort()

    def _remove(self, connection: Connection, idle: list[Connection]) -> None:
        self._count -= 1
        idle.remove(connection)
        if not idle:
            del self._by_origin[connection.origin]


def trace_of(exchange: Exchange, connection: Connection | None, excerpt: bytes, ended_at: float) -> Trace:
    """Make the trace of an attempt. `connection` carried the exchange; None if none did."""
    dial = exchange.dial
    first_byte_ms = None
    if connection is not None and connection.response.received:
        sent_at = exchange.started_at if dial is None else dial.opened_at
        first_byte_ms = _ms(sent_at, exchange.first_byte_at or ended_at)
    total_ms = _ms(exchange.started_at, ended_at)
    if dial is None:
        timings = Timings(None, None, None, first_byte_ms, total_ms)
    else:
        timings = Timings(
            resolve_ms=_ms(dial.started_at, dial.resolved_at or ended_at),
            connect_ms=_ms(dial.resolved_at, dial.connected_at or ended_at) if dial.resolved_at else None,
            tls_ms=_ms(dial.connected_at, dial.opened_at or ended_at) if dial.has_tls else None,
            first_byte_ms=first_byte_ms,
            total_ms=total_ms,
        )
    if connection is None:
        return Trace(exchange.head, (), b"", 0, dial.address if dial else "", False, timings)
    response = connection.response
    headers, size = tuple(response.headers), response.body_bytes
    return Trace(exchange.head, headers, excerpt, size, connection.address, dial is None, timings)


def _ms(started_at: float, ended_at: float) -> int:
    return max(0, int((ended_at - started_at) * 1_000))
