"""Redelivery: makes missed deliveries of a cursor due again, a few at a time."""

from functools import partial

from discue.dispatch.lane.flush import READ_RETRY_MS, StoreCheck
from discue.dispatch.lane.owned_cursor import OwnedCursor
from discue.dispatch.lane.states import CheckState
from discue.store.engine import Settle
from discue.store.redeliveries import next_batch


class RedeliveryRunner(StoreCheck):
    """Takes the steps of a lane's redeliveries.

    A step is read, applied to the cursor state, and stored with its next flush: all of it takes effect once, or none.
    """

    def __init__(self, owned: OwnedCursor) -> None:
        super().__init__(owned)
        self._is_open = False
        """Whether a redelivery may be open."""
        self._is_storing = False
        """Whether a step waits for the flush that stores it."""

    def begin(self) -> None:
        """Take steps until no redelivery is open."""
        self._is_open = True
        if self.state is CheckState.RUNNING:
            # The read may have begun too early to find it.
            self.request()
        self.advance()

    def advance(self) -> None:
        """Read the next step, if it may be taken now."""
        if self.state is CheckState.IDLE and self._may_step and self.due_at <= self._worker.clock.now():
            self.request()

    def on_flushed(self, settle: Settle) -> None:
        if settle.redelivery is not None:
            self._is_storing = False
        self.advance()

    @property
    def _may_step(self) -> bool:
        cursor = self._owned.cursor
        if not self._is_open or self._is_storing or not self._owned.is_active:
            return False
        return cursor.knows_keys and cursor.open_rows <= self._worker.tuning.waiting_retries

    async def check_once(self) -> None:
        if not self._may_step:
            return
        owned, cursor = self._owned, self._owned.cursor
        batch = await owned.reads.read(partial(next_batch, cursor=owned.key, queue=owned.record.queue))
        if not owned.is_active:
            return
        if batch is None:
            self._is_open = self.state is CheckState.REQUESTED
            return
        now = self._worker.clock.now()
        if cursor.ordering is not None and not all(cursor.ordering.holds(row.seq) for row in batch.keys):
            # A key of the batch was freed since it was read: its message was deleted.
            self.request_at(now + READ_RETRY_MS)
            return
        self._is_storing = True
        if batch.redelivery.pace is not None:
            self.request_at(now + batch.redelivered * 1_000 // batch.redelivery.pace)
        cursor.redeliver(batch, now)
        owned.lane.advance()
