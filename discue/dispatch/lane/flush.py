"""Storing what a lane has brought about: one settle at a time, again and again until it is stored."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from discue.dispatch.lane.cursor_state import CursorState
from discue.domain.errors import StoreUnusable, Unavailable
from discue.store.engine import Settle
from discue.store.store import Store

STORE_RETRY_SECONDS = 0.25

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Settled(Protocol):
    """Who hears how storing goes: the lane."""

    def part(self) -> None:
        """The settle that releases the cursor is about to be made: put into it what is still under way."""
        ...

    def stored(self, settle: Settle) -> None: ...

    def lose(self) -> None:
        """A settle was refused: what is known here is not what the store holds."""
        ...


class Flush:
    """Runs while a progress has something to store.

    `is_stalled` while the store cannot write: what is sent then could not be recorded.
    """

    def __init__(self, progress: CursorState, store: Store, spawn: Spawn, settled: Settled) -> None:
        self._progress = progress
        self._store = store
        self._spawn = spawn
        self._settled = settled
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._releases = False
        self.is_stalled = False

    @property
    def is_running(self) -> bool:
        return self._task is not None

    def start(self) -> None:
        """Store what there is, if that is not being done."""
        if self._task is None and self._progress.dirty and not self._is_closed:
            self._task = self._spawn(self._settle_all())

    def close(self) -> None:
        """Store nothing more."""
        self._is_closed = True

    async def release(self) -> None:
        """Store everything, and give the cursor up with that. Returns when it is stored, refused, or closed."""
        self._releases = True
        if self._task is None and not self._is_closed:
            self._task = self._spawn(self._settle_all())
        if self._task is not None:
            # Whoever gives up waiting for it must not cancel it.
            await asyncio.wait([self._task])

    async def _settle_all(self) -> None:
        """If it fails for good, the lane is lost: it must be read again."""
        stored = True
        try:
            while (self._progress.dirty or self._releases) and not self._is_closed:
                taken = self._take()
                stored = False
                stored = await self._settle(taken)
                if not stored:
                    return
                self._progress.stored()
                self._settled.stored(taken)
        finally:
            self._task = None
            if not stored and not self._is_closed:
                self._settled.lose()

    def _take(self) -> Settle:
        releases = self._releases and not self._progress.overflows
        if releases:
            self._settled.part()
        return self._progress.take(releases=releases)

    async def _settle(self, settle: Settle) -> bool:
        # One that is closed never tries again: the cursor may have got another history, in which it would fit.
        while not self._is_closed:
            try:
                stored = await self._store.settle(settle)
            except (Unavailable, StoreUnusable):
                self.is_stalled = True
                await asyncio.sleep(STORE_RETRY_SECONDS)
            else:
                self.is_stalled = False
                return stored
        return False
