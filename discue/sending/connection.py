"""One connection to a listener's server, and the exchange that it carries: one at a time."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from discue.domain.model import Outcome
from discue.sending.attempt_request import AttemptRequest
from discue.sending.classify import Failure
from discue.sending.request import Origin
from discue.sending.response import AnswerHeadTooLarge, AnswerMalformed, AnswerReader
from discue.sending.sender_limits import SenderLimits
from discue.sending.timings import Trip

# Below this, copying head and body together is cheaper than a second system call.
_LARGEST_JOINED_BODY = 65_536

_MALFORMED = Failure("protocol", "The answer is not valid HTTP.")
_HEAD_TOO_LARGE = Failure("response_too_large", "The head of the answer is too large.")


class Carrier(Protocol):
    """Who decides what happens on connections."""

    def opened(self, connection: "Connection") -> None:
        """It is ready for its exchange."""
        ...

    def answer_begun(self, connection: "Connection") -> None:
        """The first part of an answer has come, and more of it is expected."""
        ...

    def answered(self, connection: "Connection") -> None:
        """The answer to its exchange is decided."""
        ...

    def failed(self, connection: "Connection", failure: Failure) -> None:
        """What came is no answer."""
        ...

    def lost(self, connection: "Connection", error: Exception | None) -> None:
        """The peer went away before the answer to its exchange was whole."""
        ...

    def spoke_idle(self, connection: "Connection") -> None:
        """The peer sent something that nobody asked for, or closed, while the connection was idle."""
        ...

    def closed(self) -> None:
        """A connection is gone. Comes once for each, after `opened`."""
        ...


class Exchange:
    """A request, where it is, and until when. Instants are readings of the monotonic clock.

    Until `connection` carries it, `dialing` is what will bring about a connection or an outcome. `trip` is how that was
    connected, None for one that was there.
    """

    __slots__ = (
        "connection",
        "deadline",
        "dialing",
        "done",
        "ended",
        "ends_at",
        "first_byte_at",
        "head",
        "request",
        "started_at",
        "trip",
    )

    def __init__(self, request: AttemptRequest, done: Callable[[Outcome], None], now: float) -> None:
        self.request = request
        self.done = done
        self.started_at = now
        self.ends_at = now + request.timeout_ms / 1_000
        self.deadline = self.ends_at
        self.head = b""
        self.connection: Connection | None = None
        self.dialing: asyncio.Task[None] | asyncio.Handle | None = None
        self.ended = False
        self.trip: Trip | None = None
        self.first_byte_at = 0.0


class Connection(asyncio.Protocol):
    """Connected for one exchange, and used for others of the same origin as long as the peer agrees."""

    __slots__ = (
        "_carrier",
        "_transport",
        "address",
        "answer",
        "exchange",
        "opened_at",
        "origin",
        "requests_sent",
        "reusable_until",
    )

    _transport: asyncio.Transport

    def __init__(self, carrier: Carrier, origin: Origin, exchange: Exchange, limits: SenderLimits) -> None:
        self._carrier = carrier
        self.origin = origin
        self.exchange: Exchange | None = exchange
        self.answer = AnswerReader(limits)
        self.requests_sent = 0
        self.opened_at = 0.0
        self.address = ""
        self.reusable_until = 0.0

    def transmit(self, exchange: Exchange) -> None:
        """Send the exchange's request and expect its answer."""
        self.exchange = exchange
        exchange.connection = self
        self.requests_sent += 1
        self.answer.begin()
        body = exchange.request.body
        if len(body) <= _LARGEST_JOINED_BODY:
            self._transport.write(exchange.head + body)
        else:
            self._transport.writelines((exchange.head, body))

    def detach(self) -> Exchange:
        """Take the exchange off the connection."""
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            raise RuntimeError("the connection carries no exchange")
        exchange.connection = None
        return exchange

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._transport.abort()

    @property
    def is_reused(self) -> bool:
        return self.requests_sent > 1

    @property
    def is_reusable(self) -> bool:
        """Whether, after a whole answer, both sides agree on where the next one begins."""
        answer = self.answer
        return (
            answer.keep_alive
            and not answer.surplus
            and self._transport.get_write_buffer_size() == 0
            and not self._transport.is_closing()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._carrier.opened(self)

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self._carrier.spoke_idle(self)
            return
        try:
            decided = self.answer.feed(data)
        except AnswerMalformed:
            self._carrier.failed(self, _MALFORMED)
        except AnswerHeadTooLarge:
            self._carrier.failed(self, _HEAD_TOO_LARGE)
        else:
            if decided:
                self._carrier.answered(self)
            elif self.answer.received == len(data):
                self._carrier.answer_begun(self)

    def eof_received(self) -> None:
        self._ended_by_peer(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended_by_peer(exc)
        self.answer.close()
        self._carrier.closed()

    def _ended_by_peer(self, error: Exception | None) -> None:
        if self.exchange is None:
            self._carrier.spoke_idle(self)
        elif not isinstance(error, ssl.SSLError) and self.answer.end():
            # Servers that close without having read everything reset the connection after a good answer.
            self._carrier.answered(self)
        else:
            self._carrier.lost(self, error)
