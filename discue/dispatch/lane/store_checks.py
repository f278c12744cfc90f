"""Reads of the store that a lane repeats on demand: held keys, deleted messages, and steps of redeliveries."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import Final

from discue.dispatch.lane.ordering import Ordering
from discue.dispatch.lane.owned_cursor import STORE_RETRY_SECONDS, OwnedCursor
from discue.dispatch.lane.states import CHECK_TRANSITIONS, CheckState, transition
from discue.domain.errors import Unavailable
from discue.store import delivery_rows
from discue.store.delivery_rows import read_open_keys
from discue.store.engine import DeliveryRow, Settle
from discue.store.redeliveries import next_batch


class StoreCheck(ABC):
    """A read of the store that a lane repeats on request: one at a time, coalesced, and again after a failure."""

    needs_keys = True
    """Whether requests have no effect before the keys are known: the lane requests the check again then."""

    def __init__(self, owned: OwnedCursor) -> None:
        self._owned = owned
        self._worker = owned.worker
        self.state = CheckState.IDLE
        self.due_at = 0
        """When the next check is due, in milliseconds since the epoch; 0 if none is scheduled."""

    @property
    def is_due(self) -> bool:
        """Whether a check runs, or is scheduled."""
        return self.state is not CheckState.IDLE or self.due_at > 0

    @abstractmethod
    async def check_once(self) -> None:
        """Read, and apply the result if the lane is still active. Raises Unavailable."""

    def request(self) -> None:
        """Check now, or once more after the check that is running."""
        # Keys that were read before a check and arrive after it would bring back, and hold for ever, those it settled.
        if self.needs_keys and not self._owned.cursor.knows_keys:
            return
        self.due_at = 0
        if self.state is CheckState.REQUESTED:
            return
        was_idle = self.state is CheckState.IDLE
        self._enter(CheckState.REQUESTED)
        if was_idle:
            self._worker.spawn(self._run())

    def request_at(self, due_at: int) -> None:
        """Check at a time in milliseconds since the epoch, unless a check is requested before."""
        self.due_at = due_at
        self._owned.lane.wake_at(due_at)

    async def _run(self) -> None:
        try:
            while self.state is CheckState.REQUESTED and self._owned.is_active:
                self._enter(CheckState.RUNNING)
                await self.check_once()
        except Unavailable as error:
            self.request_at(self._owned.retries_at(error))
        finally:
            self._enter(CheckState.IDLE)

    def _enter(self, state: CheckState) -> None:
        self.state = transition(CHECK_TRANSITIONS, self.state, state)


PUSH_STATES: Final = frozenset({"missed", "retry"})
"""States in which the lane of a push listener may write a row. Rows in other states are another worker's to write."""


class KeyReader(StoreCheck):
    """Reads the keys that rows in the store hold, when a lane begins."""

    needs_keys = False

    def __init__(self, owned: OwnedCursor, ordering: Ordering) -> None:
        super().__init__(owned)
        self._ordering = ordering

    async def check_once(self) -> None:
        key = self._owned.key
        rows = await self._owned.reads.read(partial(read_open_keys, key=key))
        if self._ordering.blocks:
            rows += await self._owned.reads.read(partial(delivery_rows.blocking_rows, key=key))
        if self._owned.is_active:
            self._ordering.add_rows(rows, PUSH_STATES, complete=True)
            self._owned.lane.advance()


class DeletionWatch(StoreCheck):
    """Frees the keys of missed messages that were deleted.

    The change feed reports deletions. A deletion before the message was missed is found after that is stored.
    """

    def on_flushed(self, rows: Iterable[DeliveryRow]) -> None:
        if any(row.state == "missed" for row in rows):
            self.request()

    async def check_once(self) -> None:
        deleted = await self._owned.reads.read(partial(delivery_rows.deleted_blocking_rows, key=self._owned.key))
        if self._owned.is_active:
            for row in deleted:
                self._owned.cursor.release_key(row)
            if len(deleted) == delivery_rows.ROWS_A_STEP:
                self.request()
            self._owned.lane.advance()


_WAITS_FOR_KEY_MS: Final = 10_000


class RedeliveryRunner(StoreCheck):
    """Takes the steps of a lane's redeliveries.

    A step is read, applied to the cursor state, and stored with its next flush: all of it takes effect once, or none.
    """

    def __init__(self, owned: OwnedCursor) -> None:
        super().__init__(owned)
        self.is_open = False
        """Whether a redelivery may be open."""
        self._is_storing = False
        """Whether a step waits for the flush that stores it."""
        self._waits_for = frozenset[int]()
        """The seqs of messages one of which must be settled before the next step."""

    def begin(self) -> None:
        """Take steps until no redelivery is open."""
        self.is_open = True
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
        if self._waits_for:
            missed = (row.seq for row in settle.delivery_rows if row.state == "missed")
            if not self._waits_for.isdisjoint((*settle.resolved, *missed)):
                self._waits_for, self.due_at = frozenset(), 0
        self.advance()

    @property
    def _may_step(self) -> bool:
        cursor = self._owned.cursor
        if not self.is_open or self._is_storing or not self._owned.is_active:
            return False
        return not cursor.trial.seq and cursor.knows_keys and cursor.open_rows <= self._worker.tuning.waiting_retries

    async def check_once(self) -> None:
        if not self._may_step:
            return
        owned, cursor = self._owned, self._owned.cursor
        read = partial(next_batch, cursor=owned.key, queue=owned.record.queue, ordered=owned.record.ordered)
        batch = await owned.reads.read(read)
        if not owned.is_active:
            return
        if batch is None:
            self.is_open = self.state is CheckState.REQUESTED
            return
        now = self._worker.clock.now()
        if cursor.ordering is not None and not all(cursor.ordering.holds(row.seq) for row in batch.keys):
            # A key of the batch was freed since it was read: its message was deleted.
            self.request_at(now + round(STORE_RETRY_SECONDS * 1_000))
            return
        if batch.is_empty:
            # The flush that settles one of the messages usually comes before this time.
            self._waits_for = batch.waits_for
            self.request_at(now + _WAITS_FOR_KEY_MS)
            return
        self._is_storing = True
        if batch.redelivery.pace is not None:
            self.request_at(now + batch.redelivered * 1_000 // batch.redelivery.pace)
        cursor.redeliver(batch, now)
        owned.lane.advance()
