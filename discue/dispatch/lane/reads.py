"""Reads of lanes from the store, which take turns."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from discue.domain.reservations import ReadBound
from discue.store.engine import LogPage, QueueKey, Work
from discue.store.store import Store

T = TypeVar("T")

PAGE_BYTES: Final = 1 << 20
"""The largest page of the log that a lane reads."""


class LimitedReads:
    """Reads of lanes, a few at once in the order of the requests, so that thousands of lanes do not delay others.

    A message that is published to hundreds of lanes, or a restart, lets all of them read. The reads of SQLite let
    nothing else run, so there is a pause after each. Both methods raise Unavailable, as those of the store do.
    """

    def __init__(self, store: Store, slots: asyncio.Semaphore | None = None) -> None:
        """`slots` are shared with other reads: all of them take turns."""
        self._store = store
        self.slots = slots or asyncio.Semaphore(store.engine.concurrency.lane_reads)

    async def read(self, work: Work[T]) -> T:
        async with self.slots:
            # The store does not report it: only the lane knows which queue is damaged.
            found = await self._store.engine.read(work)
            await asyncio.sleep(0)
            return found

    async def page(self, queue: QueueKey, after: int, rows: int, max_bytes: Callable[[], int]) -> LogPage:
        """Read a page of the log. `max_bytes` returns its size when the read begins."""
        async with self.slots:
            page = await self._store.page(*queue, after, rows, max_bytes=max_bytes())
            await asyncio.sleep(0)
            return page


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
