"""Requests that outlast their lane: the cursor has, or soon has, another owner, and each request has its row."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from discue.dispatch.lane.flush import STORE_RETRY_SECONDS, Spawn
from discue.dispatch.lane.in_flight_attempt import InFlightAttempt
from discue.domain.errors import StoreUnusable, Unavailable
from discue.store import handover
from discue.store.engine import CursorKey
from discue.store.handover import RequestEnd
from discue.store.store import Store

_ENDS_AT_ONCE = 64
_BYTES_AT_ONCE = 1 << 20


class HandoverOutcomes:
    """All of a worker's that have not ended, or whose end is not stored. `stored` is called after each write."""

    def __init__(self, store: Store, spawn: Spawn, stored: Callable[[], None]) -> None:
        self._store = store
        self._spawn = spawn
        self._stored = stored
        self._of_cursor: dict[CursorKey, set[tuple[int, int]]] = {}
        self._ends: list[RequestEnd] = []
        self._storing: asyncio.Task[None] | None = None
        self._emptied = asyncio.Event()
        self._is_closed = False
        self.under_way = 0

    def of_cursor(self, key: CursorKey) -> frozenset[tuple[int, int]]:
        """Seq and number of each attempt."""
        return frozenset(self._of_cursor.get(key, ()))

    def expect(self, key: CursorKey, attempts_in_flight: Iterable[InFlightAttempt]) -> None:
        for attempt in attempts_in_flight:
            self._of_cursor.setdefault(key, set()).add((attempt.seq, attempt.number))
            self.under_way += 1

    def end(self, end: RequestEnd) -> None:
        """Store what became of a request, again and again until the store has taken it."""
        self._ends.append(end)
        self._begin_storing()

    async def empty(self) -> None:
        """Returns when nothing is under way, and everything is stored."""
        while self.under_way:
            self._emptied.clear()
            await self._emptied.wait()

    async def stored(self) -> None:
        """Returns when what has ended is stored."""
        while self._storing is not None:
            await asyncio.wait([self._storing])

    def close(self) -> None:
        """Store nothing more."""
        self._is_closed = True

    def _begin_storing(self) -> None:
        if self._storing is None and self._ends and not self._is_closed:
            self._storing = self._spawn(self._store_all())

    async def _store_all(self) -> None:
        has_failed = False
        try:
            while self._ends and not self._is_closed:
                taken = self._first_ends()
                try:
                    await self._store.write(partial(handover.record_ends, ends=taken))
                except (Unavailable, StoreUnusable):
                    await asyncio.sleep(STORE_RETRY_SECONDS)
                    continue
                except BaseException as error:
                    # This batch is given up, and the error is reported by the task. A cancelled task ends for good.
                    has_failed = isinstance(error, Exception)
                    self._forget(taken)
                    raise
                self._forget(taken)
                self._stored()
        finally:
            self._storing = None
            if has_failed:
                self._begin_storing()

    def _first_ends(self) -> list[RequestEnd]:
        size, number = 0, 0
        for number, end in enumerate(self._ends[:_ENDS_AT_ONCE]):
            size += len(end.detail)
            if number and size > _BYTES_AT_ONCE:
                return self._ends[:number]
        return self._ends[: number + 1]

    def _forget(self, ends: list[RequestEnd]) -> None:
        del self._ends[: len(ends)]
        for end in ends:
            attempts = self._of_cursor[end.key]
            attempts.discard((end.attempt.seq, end.attempt.number))
            if not attempts:
                del self._of_cursor[end.key]
        self.under_way -= len(ends)
        if not self.under_way:
            self._emptied.set()
