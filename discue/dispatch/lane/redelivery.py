"""Making missed deliveries due again: what clients asked for, a few at a time, by the lane of their cursor."""

from functools import partial
from typing import Protocol

from discue.dispatch.lane.context import Surroundings
from discue.dispatch.lane.cursor_state import CursorState
from discue.domain.errors import Unavailable
from discue.store.cursors import LaneRecord
from discue.store.engine import Settle
from discue.store.redeliveries import RedeliveryBatch, next_batch

WAITING_RETRIES = 500
"""With more of them waiting the next step waits, too: however much was missed, so many rows are made of it at once."""

_READ_RETRY_MS = 250


class Host(Protocol):
    """The lane."""

    def is_kept(self) -> bool:
        """Whether it still has its cursor, and means to keep it."""
        ...

    def looked(self) -> None:
        """There may be something to store."""
        ...

    def wake_at(self, due_at: int) -> None: ...


class RedeliveryRunner:
    """One lane's. A step is read, put into the progress, and stored with it: all of it takes effect once, or none.

    `due_at` is when to go on, 0 when that is not known.
    """

    def __init__(self, record: LaneRecord, progress: CursorState, context: Surroundings, host: Host) -> None:
        self._record = record
        self._progress = progress
        self._context = context
        self._host = host
        self._is_reading = False
        self._must_look = False
        self._is_unstored = False
        self._may_have_more = False
        self.due_at = 0

    def look(self) -> None:
        """Something was asked for."""
        self._must_look = self._may_have_more = True
        self.go_on()

    def go_on(self) -> None:
        """Take the next step, if that may be."""
        if not self._may_have_more or self._is_reading or self._is_unstored or not self._host.is_kept():
            return
        # What a step settles must not come back with keys that were read before it: the keys come first.
        if not self._progress.knows_keys:
            return
        if self._progress.open_rows <= WAITING_RETRIES and self.due_at <= self._context.clock.now():
            self.due_at = 0
            self._is_reading = True
            self._context.spawn(self._take_step())

    def stored(self, settle: Settle) -> None:
        if settle.redelivery is not None:
            self._is_unstored = False
        self.go_on()

    async def _take_step(self) -> None:
        self._must_look = False
        try:
            read = partial(next_batch, cursor=self._record.key, queue=self._record.queue)
            step = await self._context.reads.read(read)
        except Unavailable:
            self._wait(_READ_RETRY_MS)
            return
        finally:
            self._is_reading = False
        if self._host.is_kept():
            self._apply(step)

    def _apply(self, step: RedeliveryBatch | None) -> None:
        if step is None:
            self._may_have_more = self._must_look
            self.go_on()
            return
        self._is_unstored = True
        if step.redelivery.pace is not None:
            self._wait(step.redelivered * 1_000 // step.redelivery.pace)
        self._progress.redeliver(step, self._context.clock.now())
        self._host.looked()

    def _wait(self, milliseconds: int) -> None:
        self.due_at = self._context.clock.now() + milliseconds
        self._host.wake_at(self.due_at)
