"""Storing what a lane has done: one flush at a time, repeated until the store takes it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from discue.dispatch.lane.cursor_state import CursorState
from discue.dispatch.lane.states import FLUSH_TRANSITIONS, FlushState, transition
from discue.domain.errors import StoreUnusable, Unavailable
from discue.store.engine import Settle

if TYPE_CHECKING:
    from discue.dispatch.lane.context import LaneContext
    from discue.dispatch.lane.lane import Lane

T = TypeVar("T")

STORE_RETRY_SECONDS: Final = 0.25

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Runs a coroutine as a task of the worker, which logs its failure."""


async def write_until_stored(
    write: Callable[[], Awaitable[T]],
    *,
    is_wanted: Callable[[], bool] = lambda: True,
    on_unavailable: Callable[[], None] = lambda: None,
) -> T | None:
    """Repeat a write while the store is unavailable. Returns its result, or None if it is not wanted any more."""
    while is_wanted():
        try:
            return await write()
        except (Unavailable, StoreUnusable):
            on_unavailable()
            await asyncio.sleep(STORE_RETRY_SECONDS)
    return None


class Flush:
    """The only task of a lane that writes its cursor."""

    def __init__(self, lane: "Lane", cursor: CursorState, context: "LaneContext") -> None:
        self._lane = lane
        self._cursor = cursor
        self._context = context
        self._task: asyncio.Task[None] | None = None
        self._releases = False
        self.state = FlushState.IDLE

    @property
    def is_idle(self) -> bool:
        """Whether everything is stored."""
        return self._task is None and not self._cursor.dirty

    @property
    def is_stalled(self) -> bool:
        return self.state is FlushState.STALLED

    def request(self) -> None:
        """Store the changes, now or after the flush that runs."""
        if self._task is None and self._cursor.dirty:
            self._start()

    async def release(self) -> None:
        """Store everything, and give the cursor up with that. Returns when that has ended."""
        self._releases = True
        if self._task is None:
            self._start()
        if self._task is not None:
            # A caller that stops waiting must not cancel the flush.
            await asyncio.wait([self._task])

    def _start(self) -> None:
        if not self._lane.is_closed:
            self._task = self._context.spawn(self._run())

    async def _run(self) -> None:
        stored: bool | None = True
        try:
            while (self._cursor.dirty or self._releases) and not self._lane.is_closed:
                settle = self._take()
                stored = None
                stored = await self._write(settle)
                if not stored:
                    return
                self._cursor.on_stored()
                self._lane.on_flushed(settle)
        finally:
            self._task = None
            # A refused flush means that memory and store differ: the lane is read again. So does an unexpected error.
            if not stored and not self._lane.is_closed:
                self._context.lose(self._lane)

    def _take(self) -> Settle:
        releases = self._releases and self._cursor.fits_one_flush
        if releases:
            self._lane.hand_over_in_flight()
        return self._cursor.take(releases=releases)

    async def _write(self, settle: Settle) -> bool | None:
        self._enter(FlushState.WRITING)
        try:
            # A closed lane must not repeat its write: with another history of the store the old version could fit.
            return await write_until_stored(
                lambda: self._attempt(settle),
                is_wanted=lambda: not self._lane.is_closed,
                on_unavailable=lambda: self._enter(FlushState.STALLED),
            )
        finally:
            if self.state is not FlushState.IDLE:
                self._enter(FlushState.IDLE)

    async def _attempt(self, settle: Settle) -> bool:
        return await self._context.store.settle(settle)

    def _enter(self, state: FlushState) -> None:
        if state is not self.state:
            self.state = transition(FLUSH_TRANSITIONS, self.state, state)
