"""What lanes read from the store: a few of them at once, so that nobody else waits behind thousands of lanes."""

import asyncio
from typing import TypeVar

from discue.store.engine import LogPage, QueueKey, Work
from discue.store.store import Store

T = TypeVar("T")

_AT_ONCE = 3


class LimitedReads:
    """`Store.read` and `Store.page`, first come, first served. Both raise Unavailable as those do."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def read(self, work: Work[T]) -> T:
        async with self._places:
            return await self._store.read(work)

    async def page(self, queue: QueueKey, after: int, rows: int, max_bytes: int) -> LogPage:
        async with self._places:
            return await self._store.page(*queue, after, rows, max_bytes)
