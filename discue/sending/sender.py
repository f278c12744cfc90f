"""The sender: makes attempts, each one HTTP request with exactly one outcome, over pooled connections."""

import asyncio
import logging
import math
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from msgspec.structs import replace

from discue.domain.attempts import AttemptDetailLevel, Outcome
from discue.domain.clock import Clock
from discue.domain.egress import PUBLIC_ADDRESSES, EgressPolicy
from discue.observability.metrics import Measures
from discue.sending.connection import Connection, Exchange, IdleConnections, trace_of
from discue.sending.dialer import Dialer, DialTimings, Resolve, Resolver, system_tls_context
from discue.sending.request import AttemptRequest, Origin, attempt_head
from discue.sending.response import Failure, RequestFailed, SenderLimits, classify_lost_connection, classify_response

# One timer serves all deadlines. A timeout may come this much too late, never too early.
_SWEEP_SECONDS = 0.1
_CLOSING_SECONDS = 1.0

_CLOSED = Failure("internal", "The service stopped before a response came.")
_UNEXPECTED = Failure("internal", "The request could not be sent.")
_EXPIRED = Failure("connect_timeout", "The message expired before its request was sent.")

_logger = logging.getLogger(__name__)


class Sender:
    """Sends requests to listeners. Belongs to the event loop on which it is first used.

    Its connections call the methods named `on_…`.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        policy: EgressPolicy,
        limits: SenderLimits | None = None,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
        details: AttemptDetailLevel = "none",
        public: EgressPolicy = PUBLIC_ADDRESSES,
        measures: Measures | None = None,
    ) -> None:
        """`details` says which outcomes have a trace. `public` allows the addresses whose responses may be shown."""
        self._clock = clock
        self._policy = policy
        self._public = public
        self._measures = measures or Measures()
        self._first_byte_seconds = self._measures.stage_seconds["first_byte"]
        self._total_seconds = self._measures.stage_seconds["total"]
        self._traces_failures = details != "none"
        self._traces_all = details == "all"
        self._limits = limits or SenderLimits()
        self._dialer = Dialer(policy, resolve or Resolver(), ssl_context or system_tls_context())
        self._idle = IdleConnections(self._limits)
        # Dictionaries for their order: deadlines are applied, and dials ended, in the order in which they began.
        self._in_flight: dict[Exchange, None] = {}
        self._dials: dict[asyncio.Task[None], None] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._quieter = asyncio.Event()
        self.open_connections = 0
        """Established connections, in use or idle."""

    @property
    def in_flight(self) -> int:
        """How many requests have no outcome yet."""
        return len(self._in_flight)

    def send(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        """Make one attempt. `done` is called once, on the loop, after this has returned. Never raises.

        The request is written at most once: an attempt whose connection is lost fails, even if the connection was
        stale. Only an attempt of its own takes a token of the rate limit, and is recorded.
        """
        now = self._clock.monotonic()
        ends_at = now + request.timeout_ms / 1_000
        exchange = Exchange(request, done, now, ends_at, ends_at)
        self._in_flight[exchange] = None
        if self._sweep_timer is None:
            self._sweep_timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self.sweep)
        # Built before a connection is chosen: an idle one must not be taken for a request that cannot be sent.
        origin = self._prepare(exchange)
        if origin is None:
            return
        connection = self._idle.take(origin, now)
        if connection is None:
            self._dial(exchange, origin, now)
        else:
            self._measures.connections["true"] += 1
            connection.transmit(exchange)

    async def attempt(self, request: AttemptRequest) -> Outcome:
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def end(found: Outcome) -> None:
            # The caller may have been cancelled.
            if not outcome.done():
                outcome.set_result(found)

        self.send(request, end)
        return await outcome

    async def close(self, grace_seconds: float) -> None:
        """Stop. Waits for the requests in flight for at most `grace_seconds`; then the remaining ones fail."""
        self._closing = True
        self._idle.close_expired(math.inf)
        try:
            async with asyncio.timeout(grace_seconds):
                await self._until(lambda: not self._in_flight)
        except TimeoutError:
            for exchange in list(self._in_flight):
                self._give_up(exchange, _CLOSED, _CLOSED)
        await asyncio.gather(*self._dials, return_exceptions=True)
        # uvloop does not report the end of a connection whose address ran out of time just as it opened.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self._until(lambda: self.open_connections == 0)
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._quieter.clear()
            await self._quieter.wait()

    def _prepare(self, exchange: Exchange) -> Origin | None:
        """Build the head and return the origin. Returns None if the request cannot be sent; it fails then."""
        request, failure = exchange.request, _CLOSED
        try:
            now = self._clock.now()
            if self._is_expired(request, now):
                failure = _EXPIRED
            elif not self._closing:
                exchange.head = attempt_head(request, now // 1_000)
                return request.destination.origin
        except RequestFailed as error:
            failure = error.failure
        except Exception:
            _logger.exception("a request could not be built")
            failure = _UNEXPECTED
        # Later: `send` promises that its caller gets no outcome before it returns.
        exchange.dialing = asyncio.get_running_loop().call_soon(self._fail, exchange, failure)
        return None

    def _dial(self, exchange: Exchange, origin: Origin, now: float) -> None:
        exchange.deadline = min(now + self._limits.connect_timeout_ms / 1_000, exchange.ends_at)
        exchange.dial = timings = DialTimings(self._clock.monotonic, now)
        task = asyncio.get_running_loop().create_task(self._connect(exchange, origin, timings, exchange.deadline - now))
        exchange.dialing = task
        self._dials[task] = None
        task.add_done_callback(self._dials.pop)

    async def _connect(self, exchange: Exchange, origin: Origin, timings: DialTimings, timeout_seconds: float) -> None:
        to = exchange.request.destination
        proxy = self._policy.proxy_of(to.target) if to.target.scheme == "http" else None
        factory = partial(Connection, self, origin, exchange, self._limits, proxy=proxy)
        try:
            await self._dialer.dial(to.target, factory, timeout_seconds, timings, identity=to.identity)
        except RequestFailed as error:
            failure = error.failure
        except Exception:
            _logger.exception("a connection could not be opened")
            failure = _UNEXPECTED
        else:
            return
        # An exchange that ended meanwhile, or has a connection, gets its only outcome elsewhere.
        if exchange in self._in_flight and exchange.connection is None:
            self._fail(exchange, failure)

    def on_opened(self, connection: Connection) -> None:
        """Send the exchange on a connection that is ready."""
        exchange = connection.exchange
        # The exchange may have timed out meanwhile, or got another connection. This one is not counted: its dialing may
        # be cancelled, and then uvloop closes it without a call of `connection_lost`.
        if exchange is None or exchange not in self._in_flight or exchange.connection is not None:
            connection.exchange = None
            connection.abort()
            return
        self.open_connections += 1
        connection.is_counted = True
        connection.opened_at = self._clock.monotonic()
        dial = exchange.dial
        if dial is not None:
            dial.opened_at = connection.opened_at
            dial.connected_at = dial.connected_at or dial.opened_at
            self._measures.connections["false"] += 1
            stages = self._measures.stage_seconds
            stages["resolve"].observe(dial.resolved_at - dial.started_at)
            stages["connect"].observe(dial.connected_at - dial.resolved_at)
            if dial.has_tls:
                stages["tls"].observe(dial.opened_at - dial.connected_at)
            connection.address = dial.address
            connection.is_withheld = self._public.withholds(connection.address)
        exchange.deadline = exchange.ends_at
        exchange.dialing = None
        # Connecting takes up to seconds. The retry that follows is not made: the message is missed as expired.
        if self._is_expired(exchange.request, self._clock.now()):
            connection.exchange = None
            connection.abort()
            self._fail(exchange, _EXPIRED)
            return
        connection.transmit(exchange)

    def on_response_started(self, connection: Connection) -> None:
        """Note the time of the first bytes of a response of which more is expected."""
        if connection.exchange is not None:
            connection.exchange.first_byte_at = self._clock.monotonic()

    def on_response(self, connection: Connection) -> None:
        """End the exchange with its response, and keep the connection if it can be reused."""
        response = connection.response
        exchange = connection.detach()
        now = self._clock.monotonic()
        sent_at = exchange.started_at if exchange.dial is None else exchange.dial.opened_at
        self._first_byte_seconds.observe((exchange.first_byte_at or now) - sent_at)
        outcome = classify_response(
            response.status,
            response.take_excerpt(),
            int((now - exchange.started_at) * 1_000),
            retry_after=response.retry_after,
            no_retry=response.no_retry,
            now=self._clock.now() if response.retry_after else 0,
        )
        if self._traces_all or (self._traces_failures and outcome.error):
            outcome = replace(outcome, trace=trace_of(exchange, connection, outcome.excerpt, now))
        if connection.is_withheld:
            outcome = replace(outcome, withheld=True)
        # An idle connection holds no response.
        response.headers = []
        # First the connection, then the outcome: its callback may send the next request, which takes the connection.
        if connection.is_reusable and not self._closing:
            self._idle.put(connection, now)
        else:
            connection.abort()
        self._end(exchange, outcome, now)

    def on_failed(self, connection: Connection, failure: Failure) -> None:
        """End the exchange with a failure, and close the connection."""
        exchange = connection.detach()
        connection.abort()
        self._fail(exchange, failure, connection)

    def on_lost(self, connection: Connection, error: Exception | None) -> None:
        """Fail the exchange. The listener may have read the request, even on a connection that was stale."""
        exchange = connection.exchange
        is_reused = exchange is not None and exchange.dial is None
        response_started = connection.response.received > 0
        if is_reused and not response_started:
            self._idle.distrust(connection.origin, self._clock.monotonic())
        failure = classify_lost_connection(error, response_started=response_started, is_reused=is_reused)
        self.on_failed(connection, failure)

    def on_unexpected_data(self, connection: Connection) -> None:
        """Drop an idle connection whose peer sent something unsolicited, or closed it."""
        self._idle.discard(connection)
        connection.abort()

    def on_closed(self) -> None:
        """Note that a connection that was counted is closed. Called once for each."""
        self.open_connections -= 1
        self._quieter.set()

    def _is_expired(self, request: AttemptRequest, now: int) -> bool:
        return 0 < request.expires_at <= now

    def _fail(self, exchange: Exchange, failure: Failure, connection: Connection | None = None) -> None:
        now = self._clock.monotonic()
        status = connection.response.status if connection is not None else 0
        duration_ms = int((now - exchange.started_at) * 1_000)
        outcome = Outcome(status, failure.kind, failure.detail, duration_ms, cause=failure.cause)
        if self._traces_failures:
            excerpt = connection.response.take_excerpt() if connection is not None else b""
            outcome = replace(outcome, trace=trace_of(exchange, connection, excerpt, now))
        # Why a connection failed tells as much of the network as a response.
        tried = connection.address if connection is not None else exchange.dial.address if exchange.dial else ""
        if self._public.withholds(tried):
            outcome = replace(outcome, withheld=True)
        self._end(exchange, outcome, now)

    def _end(self, exchange: Exchange, outcome: Outcome, now: float) -> None:
        del self._in_flight[exchange]
        self._total_seconds.observe(now - exchange.started_at)
        if self._closing:
            self._quieter.set()
        exchange.done(outcome)

    def _give_up(self, exchange: Exchange, unconnected: Failure, unanswered: Failure) -> None:
        if exchange.connection is not None:
            self.on_failed(exchange.connection, unanswered)
            return
        if exchange.dialing is not None:
            exchange.dialing.cancel()
        self._fail(exchange, unconnected)

    def sweep(self) -> None:
        """Apply the deadlines of requests and idle connections. Runs again until there are none.

        Timers call it. A test that has moved the clock calls it, too.
        """
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        if self._in_flight or self._idle:
            self._sweep_timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self.sweep)
        now = self._clock.monotonic()
        # A list of its own: the callbacks of outcomes start and end other requests.
        for exchange in [exchange for exchange in self._in_flight if exchange.deadline <= now]:
            # The callback of another exchange may have closed the sender.
            if exchange in self._in_flight:
                waited_ms, timeout_ms = int((now - exchange.started_at) * 1_000), exchange.request.timeout_ms
                whose = "connect_timeout" if exchange.dial is None else exchange.dial.timeout
                unconnected = Failure(whose, f"No connection within {waited_ms} ms.")
                unanswered = Failure("timeout", f"No complete response within {timeout_ms} ms.")
                self._give_up(exchange, unconnected, unanswered)
        self._idle.close_expired(now)
