"""The flush of a lane: its only writes, repeated until the store has answered."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from discue.dispatch.lane.endpoint import InFlightAttempt
from discue.dispatch.lane.owned_cursor import OwnedCursor
from discue.dispatch.spans import PushedOutcome, SettledAs, record_pushed_settled, recorded_trace
from discue.domain.errors import StoreDamaged, StoreUnusable, Unavailable
from discue.observability.tracing import Tracer

T = TypeVar("T")

STORE_RETRY_SECONDS: Final = 0.25
"""How long a write waits until it is repeated."""

DAMAGED_RETRY_SECONDS: Final = 15.0
"""How long to wait before a read or write of damaged data is repeated."""


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
        except (Unavailable, StoreUnusable) as error:
            on_unavailable()
            await asyncio.sleep(DAMAGED_RETRY_SECONDS if isinstance(error, StoreDamaged) else STORE_RETRY_SECONDS)
    return None


class Flush:
    """The only task of a lane that writes its cursor."""

    def __init__(self, owned: OwnedCursor, tracer: Tracer | None) -> None:
        self._owned = owned
        self._cursor = owned.cursor
        self._tracer = tracer
        self._task: asyncio.Task[None] | None = None
        self._releases = False
        self._traced: list[PushedOutcome] = []
        """Outcomes of sampled attempts that the next flush stores."""
        self.is_stalled = False
        """Whether the store is unavailable, and the same write is repeated. No outcome could be stored meanwhile."""

    @property
    def is_idle(self) -> bool:
        """Whether everything is stored."""
        return self._task is None and not self._cursor.dirty

    def trace(self, attempt: InFlightAttempt, state: SettledAs) -> None:
        """Record a span of an outcome once it is stored, if spans are exported and its trace is recorded."""
        tracer = self._tracer
        if tracer is not None and (trace := recorded_trace(tracer, attempt)) is not None:
            self._traced.append(PushedOutcome(attempt, trace, state, tracer.now()))

    def request(self) -> None:
        """Store the changes, now or after the flush that runs."""
        if self._task is None and (self._cursor.dirty or self._releases) and not self._owned.is_closed:
            self._task = self._owned.worker.spawn(self._run())

    async def release(self) -> None:
        """Store everything, and give the cursor up with that. Returns when that has ended."""
        self._releases = True
        self.request()
        if self._task is not None:
            # A caller that stops waiting must not cancel the flush.
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        owned, cursor = self._owned, self._cursor
        stored: bool | None = True
        try:
            while (cursor.dirty or self._releases) and not owned.is_closed:
                # The row that gives the cursor up must be the last one: details that do not fit are stored before.
                releases = self._releases and cursor.fits_one_flush
                if releases:
                    owned.lane.hand_over_in_flight()
                settle = cursor.take(releases=releases)
                traced, self._traced = self._traced, []
                stored = None
                stored = await write_until_stored(
                    partial(owned.worker.store.settle, settle),
                    # A closed lane must not repeat its write: with another history of the store the old version could
                    # fit.
                    is_wanted=lambda: not owned.is_closed,
                    on_unavailable=self._on_unavailable,
                )
                self.is_stalled = False
                if not stored:
                    return
                cursor.on_stored(settle)
                if self._tracer is not None:
                    for outcome in traced:
                        record_pushed_settled(self._tracer, owned.record, outcome)
                owned.lane.on_flushed(settle)
        finally:
            self._task = None
            # A refused flush means that memory and store differ: the lane is read again. So does an unexpected error.
            if not stored and not owned.is_closed:
                owned.lane.on_lost()

    def _on_unavailable(self) -> None:
        self.is_stalled = True
