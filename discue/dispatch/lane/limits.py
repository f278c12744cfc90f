"""Limits of lanes: slots for requests in flight, their fair share, memory, and reads of the store."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from discue.domain.clock import Clock
from discue.domain.concurrency import AdaptiveLimit, Claim, may_send, may_take_slot
from discue.store.engine import CursorKey, LogPage, QueueKey, Work
from discue.store.store import Store

if TYPE_CHECKING:
    from discue.dispatch.lane.lane import Lane

T = TypeVar("T")

_TRIED_PER_RELEASE: Final = 4
_READS_AT_ONCE: Final = 3


class BodyBudget:
    """How many bytes of message bodies the lanes of a worker hold in memory. Other messages are read again later."""

    __slots__ = ("_limit", "held")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    @property
    def left(self) -> int:
        return max(0, self._limit - self.held)

    def take(self, size: int) -> bool:
        """Take `size` bytes if they are left."""
        if self.held + size > self._limit:
            return False
        self.held += size
        return True

    def force(self, size: int) -> None:
        """Take `size` bytes beyond the limit, for the page that a lane needs to go on. Pages are bounded themselves."""
        self.held += size

    def give_back(self, size: int) -> None:
        self.held -= size


class LimitedReads:
    """Reads of lanes, a few at once in the order of the requests, so that thousands of lanes do not delay others.

    Both methods raise Unavailable, as those of the store do.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._slots = asyncio.Semaphore(_READS_AT_ONCE)

    async def read(self, work: Work[T]) -> T:
        async with self._slots:
            return await self._store.read(work)

    async def page(self, queue: QueueKey, after: int, rows: int, max_bytes: int) -> LogPage:
        async with self._slots:
            return await self._store.page(*queue, after, rows, max_bytes=max_bytes)


class Slots:
    """The slots of one lane, or of one probed URL, for requests in flight."""

    __slots__ = ("adaptive", "in_flight", "is_queued", "organization", "pump")

    def __init__(self, organization: int, adaptive: AdaptiveLimit, pump: Callable[[], None]) -> None:
        self.organization = organization
        self.adaptive = adaptive
        self.pump = pump
        """Called when a slot of the worker may be free, after `ConcurrencyLimiter.acquire` had none."""
        self.in_flight = 0
        self.is_queued = False
        """Whether it waits for a slot of the worker."""

    @property
    def limit(self) -> int:
        return self.adaptive.allowed


class ConcurrencyLimiter:
    """A worker's cap on requests in flight, shared fairly between organizations and their listeners."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self.in_flight = 0
        self._by_organization: dict[int, int] = {}
        self._waiting: dict[int, deque[Slots]] = {}

    def acquire(self, slots: Slots) -> bool:
        """Take a slot. False if there is none; then the slots are queued, and `pump` is called later."""
        organization = slots.organization
        taken = self._by_organization.get(organization, 0)
        if may_send(self._cap, self.in_flight, taken, slots.in_flight, lane_limit=slots.limit):
            self.in_flight += 1
            slots.in_flight += 1
            self._by_organization[organization] = taken + 1
            return True
        if slots.in_flight < slots.limit and not slots.is_queued:
            slots.is_queued = True
            self._waiting.setdefault(organization, deque()).append(slots)
        return False

    def release(self, slots: Slots) -> None:
        """Give a slot back. This pumps nobody yet: `pump_waiting` does."""
        self.in_flight -= 1
        slots.in_flight -= 1
        taken = self._by_organization[slots.organization] - 1
        if taken:
            self._by_organization[slots.organization] = taken
        else:
            del self._by_organization[slots.organization]

    def pump_waiting(self) -> None:
        """Pump a few of the queued slots: the organizations in turn, and their slots in turn."""
        tried = 0
        while self._waiting and tried < _TRIED_PER_RELEASE:
            organization = next(iter(self._waiting))
            queued = self._waiting.pop(organization)
            slots = queued.popleft()
            if queued:
                self._waiting[organization] = queued
            slots.is_queued = False
            before = self.in_flight
            slots.pump()
            # Slots that had nothing to send any more have used nobody's turn.
            tried += slots.is_queued or self.in_flight != before


class FairShare:
    """Shares a listener's slots and rate between its live lane and its replays on this worker.

    A lane that wants a slot and gets none waits, and the others leave it its share and its turn. So neither live
    messages nor replays hold each other up. Requests of lanes that were closed keep their slots until they end.
    """

    def __init__(self, clock: Clock, on_over: Callable[[], None]) -> None:
        self._clock = clock
        self._on_over = on_over
        """Called when the last replay, and the last request of one, has ended."""
        self._live: Lane | None = None
        self._replays: dict[CursorKey, Lane] = {}
        self._closed: list[Lane] = []
        """Lanes that left and have requests in flight."""
        self._waiting: dict[Lane, None] = {}
        self._turns: dict[Lane, int] = {}
        self._turn = 0
        self._was_open = False
        self._is_pumping = False
        self._is_over = False

    @property
    def is_open(self) -> bool:
        """Whether replays may send: the live lane sends, and its circuit breaker is closed."""
        return self._live is not None and self._live.is_wide_open

    def join(self, lane: "Lane") -> None:
        lane.fair_share = self
        self.on_start(lane)
        if lane.key[2]:
            self._replays[lane.key] = lane
            self._follow_live(lane)
            return
        self._live = lane
        self._was_open = lane.is_wide_open
        for replay in self._replays.values():
            self._follow_live(replay)
            self._waiting[replay] = None

    def leave(self, lane: "Lane") -> None:
        """Remove a lane. Its requests in flight keep their slots."""
        self._waiting.pop(lane, None)
        if lane is self._live:
            self._live = None
            for replay in self._replays.values():
                self._follow_live(replay)
        elif self._replays.get(lane.key) is lane:
            del self._replays[lane.key]
        self._closed.append(lane)
        self._pump_waiting()

    def on_start(self, lane: "Lane") -> None:
        """Note that the lane starts a request, or joined: the turns of the others come first."""
        self._turn += 1
        self._turns[lane] = self._turn

    def pump(self, lane: "Lane") -> None:
        """Let the lane start what it may, then the lanes that wait."""
        self._waiting.pop(lane, None)
        if lane not in self._closed:
            lane.start()
        self._check_whether_open()
        self._pump_waiting()

    def may_start(self, lane: "Lane") -> bool:
        """Whether the lane may start a request. If not, it is called when it may."""
        if self._may_start(lane):
            self._waiting.pop(lane, None)
            return True
        self._waiting[lane] = None
        return False

    def _follow_live(self, replay: "Lane") -> None:
        """Let the limits of the live lane hold for a replay."""
        replay.lead = self._live or replay
        replay.slots.adaptive = replay.lead.adaptive

    def _may_start(self, lane: "Lane") -> bool:
        live = self._live
        if live is None or self._wait_seconds(live) > 0:
            return False
        lanes = (live, *self._replays.values())
        if any(each.inherited is not None and not each.inherited.is_known for each in lanes):
            return False
        taken = sum(each.slots_taken for each in lanes) + sum(each.slots.in_flight for each in self._closed)
        waiting = [self._claim(each) for each in self._waiting if each is not lane]
        return may_take_slot(live.slots.limit, taken, self._claim(lane), waiting)

    def _wait_seconds(self, live: "Lane") -> float:
        """Return how long until the listener's rate allows the next request."""
        return live.rate.wait_seconds(self._clock.monotonic())

    def _claim(self, lane: "Lane") -> Claim:
        return Claim(lane.slots_taken, self._turns[lane])

    def _check_whether_open(self) -> None:
        was_open, self._was_open = self._was_open, self.is_open
        if self._was_open and not was_open:
            for replay in self._replays.values():
                replay.reopen()
                self._waiting[replay] = None

    def _pump_waiting(self) -> None:
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while (lane := self._next()) is not None:
                # It starts at least one request, or does not wait any more.
                del self._waiting[lane]
                lane.start()
        finally:
            self._is_pumping = False
        self._wake_next()
        self._end_if_over()

    def _next(self) -> "Lane | None":
        return next((lane for lane in self._waiting if self._may_start(lane)), None)

    def _wake_next(self) -> None:
        wait_seconds = 0.0 if self._live is None else self._wait_seconds(self._live)
        if wait_seconds > 0 and self._waiting:
            next(iter(self._waiting)).wake_at(self._clock.now() + math.ceil(wait_seconds * 1_000))

    def _end_if_over(self) -> None:
        self._closed = [lane for lane in self._closed if lane.slots.in_flight]
        lanes = {self._live, *self._replays.values()}
        self._turns = {lane: turn for lane, turn in self._turns.items() if lane in lanes}
        if self._replays or self._closed or self._is_over:
            return
        self._is_over = True
        self._on_over()
        if self._live is not None:
            self._live.fair_share = None
            self._live.start()
