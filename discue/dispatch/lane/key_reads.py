"""Reads of the keys that rows in the store hold."""

from collections.abc import Iterable
from functools import partial
from typing import Final

from discue.dispatch.lane.flush import StoreCheck
from discue.dispatch.lane.ordering import Ordering
from discue.dispatch.lane.owned_cursor import OwnedCursor
from discue.store import delivery_rows
from discue.store.delivery_rows import read_open_keys
from discue.store.engine import DeliveryRow

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
            self._owned.lane.on_loaded()


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
