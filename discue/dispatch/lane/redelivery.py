"""Redelivery: makes missed deliveries of a cursor due again, a few at a time."""

from functools import partial
from typing import TYPE_CHECKING

from discue.dispatch.lane.states import REDELIVERY_TRANSITIONS, RedeliveryPhase, transition
from discue.dispatch.lane.store_check import READ_RETRY_MS
from discue.domain.errors import Unavailable
from discue.store.engine import Settle
from discue.store.redeliveries import RedeliveryBatch, next_batch

if TYPE_CHECKING:
    from discue.dispatch.lane.context import LaneContext
    from discue.dispatch.lane.lane import Lane


class RedeliveryRunner:
    """Takes the steps of a lane's redeliveries.

    A step is read, applied to the cursor state, and stored with its next flush: all of it takes effect once, or none.
    """

    def __init__(self, lane: "Lane", context: "LaneContext") -> None:
        self._lane = lane
        self._context = context
        self._is_requested = False
        """Whether a redelivery was requested during the read: it may not have been found."""
        self.phase = RedeliveryPhase.IDLE
        self.due_at = 0
        """When the next step may be read, in milliseconds since the epoch; 0 for now."""

    def request(self) -> None:
        """Look for open redeliveries."""
        if self.phase is RedeliveryPhase.READING:
            self._is_requested = True
        elif self.phase is RedeliveryPhase.IDLE:
            self._enter(RedeliveryPhase.READY)
        self.advance()

    def advance(self) -> None:
        """Read the next step, if it may be taken now."""
        if self.phase is not RedeliveryPhase.READY or not self._lane.is_active:
            return
        cursor = self._lane.cursor
        # Keys come first: otherwise keys that were read earlier would bring back what the step has settled.
        if not cursor.knows_keys or cursor.open_rows > self._context.tuning.waiting_retries:
            return
        if self.due_at <= self._context.clock.now():
            self.due_at = 0
            self._is_requested = False
            self._enter(RedeliveryPhase.READING)
            self._context.spawn(self._take_step())

    def on_flushed(self, settle: Settle) -> None:
        if settle.redelivery is not None:
            self._enter(RedeliveryPhase.READY)
        self.advance()

    async def _take_step(self) -> None:
        record = self._lane.record
        try:
            batch = await self._context.reads.read(partial(next_batch, cursor=record.key, queue=record.queue))
        except Unavailable:
            self._enter(RedeliveryPhase.READY)
            self._wait(READ_RETRY_MS)
            return
        except BaseException:
            self._enter(RedeliveryPhase.READY)
            raise
        if self._lane.is_active:
            self._apply(batch)

    def _apply(self, batch: RedeliveryBatch | None) -> None:
        if batch is None:
            self._enter(RedeliveryPhase.READY if self._is_requested else RedeliveryPhase.IDLE)
            self.advance()
            return
        ordering = self._lane.cursor.ordering
        if ordering is not None and not all(ordering.holds(row.seq) for row in batch.keys):
            # A key of the batch was freed since it was read: its message was deleted.
            self._enter(RedeliveryPhase.READY)
            self._wait(READ_RETRY_MS)
            return
        self._enter(RedeliveryPhase.STORING)
        if batch.redelivery.pace is not None:
            self._wait(batch.redelivered * 1_000 // batch.redelivery.pace)
        self._lane.cursor.redeliver(batch, self._context.clock.now())
        self._lane.advance()

    def _wait(self, milliseconds: int) -> None:
        self.due_at = self._context.clock.now() + milliseconds
        self._lane.wake_at(self.due_at)

    def _enter(self, phase: RedeliveryPhase) -> None:
        self.phase = transition(REDELIVERY_TRANSITIONS, self.phase, phase)
