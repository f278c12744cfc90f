"""Keys that are blocked by missed messages: free again when those are deleted."""

from functools import partial

from discue.dispatch.lane.context import Surroundings
from discue.dispatch.lane.cursor_state import CursorState
from discue.dispatch.lane.redelivery import Host
from discue.domain.errors import Unavailable
from discue.store import delivery_rows
from discue.store.cursors import LaneRecord
from discue.store.engine import Settle

_READ_RETRY_MS = 250


class DeletionWatch:
    """One lane's. A deletion is told by the change feed; one that came before the message was missed is found then.

    `due_at` is when to look again, 0 when that is not known.
    """

    def __init__(self, record: LaneRecord, progress: CursorState, context: Surroundings, host: Host) -> None:
        self._record = record
        self._progress = progress
        self._context = context
        self._host = host
        self._is_reading = False
        self._must_look = False
        self.due_at = 0

    def look(self) -> None:
        """Messages were deleted."""
        self._must_look = True
        self.go_on()

    def stored(self, settle: Settle) -> None:
        """Messages that block their keys may be gone already."""
        if any(row.state == "missed" for row in settle.delivery_rows):
            self.look()

    def go_on(self) -> None:
        if not self._must_look or self._is_reading or not self._host.is_kept() or not self._progress.knows_keys:
            return
        if self.due_at <= self._context.clock.now():
            self.due_at = 0
            self._is_reading = True
            self._context.spawn(self._release())

    async def _release(self) -> None:
        self._must_look = False
        try:
            gone = await self._context.reads.read(partial(delivery_rows.deleted_blocking_rows, key=self._record.key))
        except Unavailable:
            self._must_look = True
            self.due_at = self._context.clock.now() + _READ_RETRY_MS
            self._host.wake_at(self.due_at)
            return
        finally:
            self._is_reading = False
        if self._host.is_kept():
            for row in gone:
                self._progress.release(row)
            self._must_look |= len(gone) == delivery_rows.BLOCKING_ROWS
            self._host.looked()
            self.go_on()
