"""A replay: delivers a part of the log once more, in a lane of its own that ends."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from discue.dispatch.lane.backlog import PAGE_BYTES
from discue.dispatch.lane.context import LaneContext, LimitedReads
from discue.dispatch.lane.cursor_state import CursorState
from discue.dispatch.lane.endpoint import Endpoint
from discue.dispatch.lane.flush import write_until_stored
from discue.dispatch.lane.lane import Lane
from discue.dispatch.lane.states import LaneState
from discue.domain.clock import Clock
from discue.domain.messages import Entry
from discue.domain.reservations import ReadBound
from discue.store import replays
from discue.store.cursors import LaneRecord, ReplayPlan
from discue.store.engine import DeliveryRow, LogPage, QueueKey, ReplayStep, Settle
from discue.store.store import Store

_EXPIRED: Final = frozenset({"expired", "too_old"})


class ReservedReads(LimitedReads):
    """Reads of replays, with a reservation. Live lanes need none: see docs/architecture/event-loop-limits.md."""

    def __init__(self, store: Store, organization: int, slots: asyncio.Semaphore) -> None:
        super().__init__(store, slots)
        self._ledger = store.ledger
        self._organization = organization

    async def page(self, queue: QueueKey, after: int, rows: int, max_bytes: Callable[[], int]) -> LogPage:
        reservation = await self._ledger.reserve(self._organization, ReadBound(rows, PAGE_BYTES))
        try:
            return await super().page(queue, after, rows, max_bytes)
        finally:
            # The lane examines the messages in this step of the event loop, which is part of the read.
            asyncio.get_running_loop().call_soon(reservation.release)


class ReplayLane(Lane):
    """The lane of a replay. It sends while the listener's live lane is on this worker and sends without restrictions.

    It shares the listener's slots and rate with the live lane, and follows its circuit breaker.
    """

    def __init__(self, record: LaneRecord, plan: ReplayPlan, endpoint: Endpoint, context: LaneContext) -> None:
        reads = ReservedReads(context.store, record.organization, context.reads.slots)
        context = msgspec.structs.replace(context, reads=reads)
        super().__init__(record, endpoint, context, cursor=ReplayCursorState(record, context.clock))
        self._plan = plan

    def on_published(self, entries: tuple[Entry, ...]) -> None:
        """Do nothing: new messages are beyond the end of the replay."""

    def on_flushed(self, settle: Settle) -> None:
        super().on_flushed(settle)
        self._end_if_done()

    def start(self) -> None:
        slots = self._context.replay_slots
        if not self._can_start or self.backlog.is_read:
            slots.leave(self)
        elif not slots.take(self):
            return
        super().start()

    def advance(self) -> None:
        super().advance()
        self._end_if_done()

    async def miss_older_than(self, before: int) -> None:
        # The messages wait since the replay was created, however old they are.
        if self._plan.created_at < before:
            await super().miss_older_than(before)

    def begin_draining(self) -> None:
        super().begin_draining()
        self._context.replay_slots.leave(self)

    def close(self) -> None:
        super().close()
        self._context.replay_slots.leave(self)

    @property
    def _is_through(self) -> bool:
        return self.cursor.window.position >= self._plan.until_seq and not self.cursor.retrying

    def _end_if_done(self) -> None:
        if self.state is LaneState.RUNNING and self._is_through and not self.cursor.dirty:
            self._enter(LaneState.ENDING)
            self._context.spawn(self._end())

    async def _end(self) -> None:
        """Remove the cursor, unless something came up meanwhile."""
        try:
            ended = await write_until_stored(self._remove_cursor, is_wanted=self._may_end)
            if ended is not None and not self.is_closed:
                registry = self._context.registry
                (registry.drop if ended else registry.lose)(self)
        finally:
            if self.state is LaneState.ENDING:
                self._enter(LaneState.RUNNING)
                self.pump()

    def _may_end(self) -> bool:
        return self.state is LaneState.ENDING and self._is_through and self.is_settled

    async def _remove_cursor(self) -> bool:
        version, now = self.cursor.version, self._context.clock.now()
        end = partial(replays.end, key=self.key, token=self.record.token, version=version, now=now)
        return await self._context.store.write(end)


class ReplayCursorState(CursorState):
    """The cursor of a replay. A delivery that ends without success leaves no row: it is counted."""

    def __init__(self, record: LaneRecord, clock: Clock) -> None:
        super().__init__(record)
        self._clock = clock
        self._expired = 0
        """How many messages have expired since the last flush."""
        self._filtered = 0
        """How many messages were filtered since the last flush."""

    def skip_new(self, entry: Entry) -> None:
        super().skip_new(entry)
        self._filtered += 1

    def drop_filtered(self, seq: int) -> None:
        super().drop_filtered(seq)
        self._filtered += 1

    def miss_range(self, first: int, last: int, reason: str, now: int) -> None:
        del reason, now
        self.skip(first, last)
        self._expired += last - first + 1

    def _miss_one(self, row: DeliveryRow, *, has_row: bool) -> None:
        self.dirty = True
        if row.reason in _EXPIRED:
            self._expired += 1
        else:
            self.missed += 1
        if has_row:
            self.drop_row(row.seq)
        else:
            self.window.settle(row.seq)
            self._free_key(row.seq)

    def _replay_step(self) -> ReplayStep:
        step = ReplayStep(self._expired, self._filtered, self._clock.now())
        self._expired = self._filtered = 0
        return step
