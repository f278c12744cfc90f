"""A cursor that this worker owns, with what the parts of its lane share, and the flush that stores its changes."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from functools import partial
from typing import Final, Protocol, TypeVar

from discue.dispatch.lane.context import LimitedReads, WorkerContext
from discue.dispatch.lane.cursor_state import CursorState
from discue.dispatch.lane.endpoint import Endpoint, InFlightAttempt
from discue.dispatch.lane.states import LANE_TRANSITIONS, LaneState, transition
from discue.dispatch.spans import SettledAs, recorded_trace, settle_span
from discue.dispatch.timers import Sleeper
from discue.domain.clock import Clock
from discue.domain.errors import StoreDamaged, StoreUnusable, Unavailable
from discue.observability.tracing import SpanContext
from discue.store.cursors import LaneRecord
from discue.store.engine import Settle
from discue.store.group_commit import SettleResult


class LaneCalls(Protocol):
    """The methods of a lane that its parts call. `Lane` documents them.

    After a change that lets the lane send, call `pump`; after a read, `advance`, which also stores what the read has
    changed; before a time, `wake_at`. Only `FairShare` calls `start` and `reopen`: other calls would bypass it.
    """

    def wake_at(self, due_at: int) -> None: ...

    def pump(self) -> None: ...

    def start(self) -> None: ...

    def reopen(self) -> None: ...

    def advance(self) -> None: ...

    def hand_over_in_flight(self) -> None: ...

    def on_flushed(self, settle: Settle) -> None: ...

    def on_ended(self) -> None: ...

    def on_lost(self) -> None: ...


class OwnedCursor:
    """A cursor with its listener, how far its lane has taken it over, and what its parts call."""

    __slots__ = ("cursor", "endpoint", "key", "lane", "reads", "record", "state", "worker")

    def __init__(
        self,
        record: LaneRecord,
        endpoint: Endpoint,
        cursor: CursorState,
        *,
        lane: LaneCalls,
        worker: WorkerContext,
        reads: LimitedReads,
    ) -> None:
        self.record = record
        self.key = record.key
        self.endpoint = endpoint
        """The configuration for all attempts from now on."""
        self.cursor = cursor
        self.worker = worker
        self.reads = reads
        self.lane = lane
        self.state = LaneState.LOADING_KEYS

    @property
    def is_active(self) -> bool:
        """Whether the lane has its cursor and does not give it up."""
        return self.state is not LaneState.DRAINING and self.state is not LaneState.CLOSED

    @property
    def is_closed(self) -> bool:
        return self.state is LaneState.CLOSED

    def enter(self, state: LaneState) -> None:
        """Change the state. Every change is made here."""
        self.state = transition(LANE_TRANSITIONS, self.state, state)

    def on_damage(self) -> None:
        """Report that data of the queue is damaged."""
        self.worker.store.damage.note((self.record.organization, self.record.queue))

    def retries_at(self, error: Unavailable) -> int:
        """Return when to repeat a read that failed, in milliseconds since the epoch. Reports damaged data.

        The store logs the cause.
        """
        if isinstance(error, StoreDamaged):
            self.on_damage()
        return self.worker.clock.now() + round(_pause_seconds(error) * 1_000)


T = TypeVar("T")

STORE_RETRY_SECONDS: Final = 0.25
"""How long to wait before a read or write is repeated."""

DAMAGED_RETRY_SECONDS: Final = 15.0
"""How long to wait before a read or write of damaged data is repeated."""


def _pause_seconds(error: Exception) -> float:
    return DAMAGED_RETRY_SECONDS if isinstance(error, StoreDamaged) else STORE_RETRY_SECONDS


async def write_until_stored(
    write: Callable[[], Awaitable[T]], *, is_wanted: Callable[[], bool] = lambda: True
) -> T | None:
    """Repeat a write while the store is unavailable. Returns its result, or None if it is not wanted any more."""
    while is_wanted():
        try:
            return await write()
        except (Unavailable, StoreUnusable) as error:
            await asyncio.sleep(_pause_seconds(error))
    return None


class DelayedFlushes:
    """The flushes that nothing waits for. All of a worker's are made together, 10 ms after the first was added.

    A message that is published meanwhile does not wait for their commit, and a worker with little to do commits less
    often. A crash repeats what was not stored: at most a quarter of a listener's slots.
    """

    def __init__(self, clock: Clock, wake_at: Callable[[Sleeper, int], None], delay_ms: int) -> None:
        self.wakes_at = 0
        self.is_closed = False
        self._clock = clock
        self._wake_at = wake_at
        self._delay_ms = delay_ms
        self._flushes: dict[Flush, None] = {}

    def add(self, flush: "Flush") -> None:
        if not self._flushes:
            self._wake_at(self, self._clock.now() + self._delay_ms)
        self._flushes[flush] = None

    def wake(self) -> None:
        flushes, self._flushes = self._flushes, {}
        for flush in flushes:
            flush.request()

    def on_clock_set_back(self, now: int) -> None:
        del now
        self.wake()


class FlushState(Enum):
    """How far the changes of a cursor are stored."""

    IDLE = auto()
    """Nothing is being stored. Changes may wait for the delayed flushes."""
    WAITING = auto()
    """Waits for a commit, which takes all changes when it begins."""
    STORING = auto()
    """A commit has taken changes. Later ones wait for the next."""
    REPEATING = auto()
    """The store is unavailable, and the same changes are stored again. No outcome could be stored meanwhile."""


class Flush:
    """Stores the changes of a cursor: the only part of a lane that writes it. A `store.group_commit.SettleSource`."""

    def __init__(self, owned: OwnedCursor, delayed: DelayedFlushes, may_wait: Callable[[], bool]) -> None:
        """`may_wait` says whether nothing waits for what is stored next."""
        self._owned = owned
        self._cursor = owned.cursor
        self._delayed = delayed
        self._may_wait = may_wait
        self._is_urgent = False
        """Whether the next flush must not be delayed."""
        self._releases = False
        self.state = FlushState.IDLE
        self._settle: Settle | None = None
        """The changes that a commit has taken, until they are stored."""
        self._ended: asyncio.Event | None = None
        """Set when the cursor is given up, or lost; None before the first call of `release`."""
        self._spans: list[Callable[[], None]] = []
        """Record the outcomes of sampled attempts that the next flush stores."""
        self._taken_spans: list[Callable[[], None]] = []

    @property
    def is_idle(self) -> bool:
        """Whether everything is stored."""
        return self.state is FlushState.IDLE and not self._cursor.dirty

    def trace(self, attempt: InFlightAttempt, state: SettledAs) -> None:
        """Record a span of an outcome once it is stored, if spans are exported and its trace is recorded."""
        tracer, record = self._owned.worker.tracer, self._owned.record
        if tracer is not None and (trace := recorded_trace(tracer, attempt)) is not None:
            end = settle_span(tracer, record, attempt.entry.id, attempt.number, state=state)
            place = SpanContext(parent=trace.span)
            self._spans.append(partial(end, "client", creation=trace.creation, span=place, started_at=tracer.now()))

    def request(self) -> None:
        """Store the changes, with the next commit or the one after."""
        if (self._cursor.dirty or self._releases) and not self._owned.is_closed:
            self._is_urgent = True
            if self.state is FlushState.IDLE:
                self.state = FlushState.WAITING
                self._add()

    def request_soon(self) -> None:
        """Store the changes like `request`, or with other lanes' a little later if nothing waits for them."""
        if self.state is FlushState.IDLE and self._cursor.dirty:
            if self._may_wait():
                self._delayed.add(self)
            else:
                self.request()

    async def release(self) -> None:
        """Store all changes, and release the cursor in the same commit. Returns when that has ended."""
        self._releases = True
        self.request()
        if self.state is not FlushState.IDLE:
            # A drain may release a cursor that a handover is releasing.
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()

    def take(self) -> Settle | None:
        """Return the changes, for the commit that begins."""
        # A closed lane must not repeat its write: with another history of the store the old version could fit.
        if self._owned.is_closed:
            self._end()
            return None
        if self._settle is None:
            cursor = self._cursor
            # The cursor is released by its last flush: details that do not fit are stored before.
            releases = self._releases and cursor.fits_one_flush
            if releases:
                self._owned.lane.hand_over_in_flight()
            self._is_urgent = False
            self._settle = cursor.take(releases=releases)
            self._taken_spans, self._spans = self._spans, []
        if self.state is FlushState.WAITING:
            self.state = FlushState.STORING
        return self._settle

    def on_result(self, result: SettleResult) -> None:
        """Continue after a commit. If the store was unavailable, store the same changes again later."""
        if result is True and self._settle is not None:
            self._on_stored(self._settle)
        elif isinstance(result, Unavailable | StoreUnusable):
            self.state = FlushState.REPEATING
            self._owned.worker.spawn(self._repeat(_pause_seconds(result)))
        else:
            # After a refused flush or an unexpected error, memory and store may differ: the lane is read again.
            self._end()
            if not self._owned.is_closed:
                self._owned.lane.on_lost()
            if isinstance(result, Exception):
                raise result

    def _on_stored(self, settle: Settle) -> None:
        spans, self._settle = self._taken_spans, None
        self.state = FlushState.IDLE
        self._cursor.on_stored(settle)
        try:
            for record_span in spans:
                record_span()
            self._owned.lane.on_flushed(settle)
        finally:
            # Even if a call above fails, the changes are stored, and `release` must return.
            if self._is_urgent or self._releases:
                self.request()
            else:
                self.request_soon()
            if self.state is FlushState.IDLE:
                self._end()

    async def _repeat(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._add()

    def _add(self) -> None:
        self._owned.worker.store.add_settle(self, self._owned.record.listener)

    def _end(self) -> None:
        self.state = FlushState.IDLE
        if self._ended is not None:
            self._ended.set()
