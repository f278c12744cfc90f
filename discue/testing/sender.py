"""The sender of a server under test: knows its requests in flight, and calls applications without a socket."""

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote

from msgspec.structs import replace

from discue.domain.attempts import Outcome, Timings, Trace
from discue.sending.classify import classify_response
from discue.sending.request import AttemptRequest, RequestHeads, RequestInvalid, attempt_head
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender
from discue.testing.clock import MovableClock, SendingClock
from discue.testing.requests import Received, Reply

_EXCERPT_BYTES = 16_384


class AttemptKey(NamedTuple):
    """Names an attempt, as its request does."""

    listener_id: str
    message_id: str
    number: int
    replay_id: str = ""


Respond = Callable[[Received], "Future[Reply]"]
"""Passes a request to an application, on whatever thread that runs."""


class KitSender(Sender):
    """A sender whose requests to some addresses go to applications of the test."""

    def __init__(self, clock: MovableClock, limits: SenderLimits, **options: Any) -> None:
        sending_clock = SendingClock(clock)
        super().__init__(clock=sending_clock, limits=limits, **options)
        self._moved = clock
        self._sent_at = sending_clock
        self._preambles = RequestHeads()
        self._open: dict[AttemptKey, int] = {}
        """The end of each request in flight, in milliseconds since the epoch on the clock of the test."""
        self.applications: dict[tuple[str, int], Respond] = {}
        """By host and port."""

    def is_busy(self, but: Collection[AttemptKey] = ()) -> bool:
        """Whether a request is in flight, except for those of `but`."""
        return any(key not in but for key in self._open)

    def next_deadline(self, of: Collection[AttemptKey]) -> int | None:
        """Return when the first of these requests times out, in milliseconds since the epoch."""
        return min((at for key, at in self._open.items() if key in of), default=None)

    def send(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        key = AttemptKey(request.listener_id, request.message_id, request.number, request.replay_id)
        # The timer that applies timeouts compares fractions of a millisecond.
        self._open[key] = self._moved.now() + request.timeout_ms + 1

        def end(outcome: Outcome) -> None:
            self._open.pop(key, None)
            done(outcome)

        respond = self.applications.get((request.target.host, request.target.port))
        if respond is None:
            super().send(request, end)
            return
        try:
            head = attempt_head(self._preambles.preamble(request), request, self._sent_at.now() // 1_000)
            received = self._received(request, head)
        except RequestInvalid as error:
            outcome = Outcome(0, "internal", str(error), 0)
            asyncio.get_running_loop().call_soon(end, outcome)
            return
        _Call(
            respond, received, request.timeout_ms, end=partial(self._traced, head, end), now=self._sent_at.now
        ).start()

    def _traced(self, head: bytes, end: Callable[[Outcome], None], outcome: Outcome, reply: Reply | None) -> None:
        """End an attempt, with its details if they are kept."""
        if self._traces_all or (self._traces_failures and outcome.error):
            first_byte_ms = None if reply is None else outcome.duration_ms
            timings = Timings(None, None, None, first_byte_ms, outcome.duration_ms)
            fields = () if reply is None else reply.headers
            headers = tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields)
            size = 0 if reply is None else len(reply.body)
            outcome = replace(outcome, trace=Trace(head, headers, outcome.excerpt, size, "", False, timings))
        end(outcome)

    def _received(self, request: AttemptRequest, head: bytes) -> Received:
        start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = start.split(" ")
        pairs = [line.partition(": ") for line in lines]
        path, _, query = target.partition("?")
        headers = tuple((name, "testserver" if name == "host" else value) for name, _, value in pairs)
        return Received(method, unquote(path), query, headers, request.body)


class _Call:
    """A request that an application answers. Ends once: with its response, or after the timeout."""

    def __init__(
        self,
        respond: Respond,
        received: Received,
        timeout_ms: int,
        *,
        end: Callable[[Outcome, Reply | None], None],
        now: Callable[[], int],
    ) -> None:
        self._respond = respond
        self._received = received
        self._timeout_ms = timeout_ms
        self._end = end
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = self._loop.call_later(self._timeout_ms / 1_000, self._expire)
        self._respond(self._received).add_done_callback(self._finish_soon)

    def _expire(self) -> None:
        detail = f"No complete response within {self._timeout_ms} ms."
        self._settle(Outcome(0, "timeout", detail, self._duration_ms))

    def _finish_soon(self, responded: "Future[Reply]") -> None:
        # It may come on another thread, and when the server has ended.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish, responded)

    def _finish(self, responded: "Future[Reply]") -> None:
        if responded.cancelled():
            self._settle(Outcome(0, "reset", "The application was stopped before the response.", self._duration_ms))
            return
        reply = responded.result()
        headers = {name.lower(): value.encode("latin-1") for name, value in reply.headers}
        outcome = classify_response(
            reply.status,
            reply.body[:_EXCERPT_BYTES],
            self._duration_ms,
            retry_after=headers.get("retry-after", b""),
            no_retry=headers.get("webhook-no-retry", b""),
            now=self._now(),
        )
        self._settle(outcome, reply)

    @property
    def _duration_ms(self) -> int:
        return int((self._loop.time() - self._started_at) * 1_000)

    def _settle(self, outcome: Outcome, reply: Reply | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._end(outcome, reply)
