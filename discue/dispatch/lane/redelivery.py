"""Redelivery: makes missed deliveries of a cursor due again, a few at a time."""

from functools import partial
from typing import TYPE_CHECKING

from discue.dispatch.lane.flush import READ_RETRY_MS, StoreCheck
from discue.dispatch.lane.states import CheckState
from discue.store.engine import Settle
from discue.store.redeliveries import next_batch

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
        self._is_open = False
        """Whether a redelivery may be open."""
        self._is_storing = False
        """Whether a step waits for the flush that stores it."""
        self.check = StoreCheck(lane, context, self._take_step)

    def request(self) -> None:
        """Look for open redeliveries."""
        self._is_open = True
        if self.check.state is CheckState.RUNNING:
            # The read may have begun too early to find it.
            self.check.request()
        self.advance()

    def advance(self) -> None:
        """Read the next step, if it may be taken now."""
        if self.check.state is CheckState.IDLE and self._may_step and self.check.due_at <= self._context.clock.now():
            self.check.request()

    def on_flushed(self, settle: Settle) -> None:
        if settle.redelivery is not None:
            self._is_storing = False
        self.advance()

    @property
    def _may_step(self) -> bool:
        cursor = self._lane.cursor
        if not self._is_open or self._is_storing or not self._lane.is_active:
            return False
        # Keys come first: otherwise keys that were read earlier would bring back what the step has settled.
        return cursor.knows_keys and cursor.open_rows <= self._context.tuning.waiting_retries

    async def _take_step(self) -> None:
        if not self._may_step:
            return
        lane, cursor = self._lane, self._lane.cursor
        batch = await self._context.reads.read(partial(next_batch, cursor=lane.key, queue=lane.record.queue))
        if not lane.is_active:
            return
        if batch is None:
            self._is_open = self.check.state is CheckState.REQUESTED
            return
        now = self._context.clock.now()
        if cursor.ordering is not None and not all(cursor.ordering.holds(row.seq) for row in batch.keys):
            # A key of the batch was freed since it was read: its message was deleted.
            self.check.request_at(now + READ_RETRY_MS)
            return
        self._is_storing = True
        if batch.redelivery.pace is not None:
            self.check.request_at(now + batch.redelivered * 1_000 // batch.redelivery.pace)
        cursor.redeliver(batch, now)
        lane.advance()
