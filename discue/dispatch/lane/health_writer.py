"""Stores what is known of listeners: soon what others must know, and counts when there is time."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from discue.dispatch.lane.flush import STORE_RETRY_SECONDS, Spawn
from discue.dispatch.timers import Sleeper
from discue.domain.clock import Clock
from discue.domain.errors import StoreUnusable, Unavailable
from discue.domain.listener_health import Liveness, needs_notification
from discue.observability.logs import Log
from discue.store import listener_health
from discue.store.cursors import LaneRecord
from discue.store.listener_health import HealthRecord
from discue.store.store import Store

LATE_MS: Final = 60_000

_AT_ONCE: Final = 128


class Stored(Protocol):
    """What storing needs to know of a lane."""

    record: LaneRecord
    closed: bool

    def standing(self) -> HealthRecord:
        """What is to be stored of its listener now."""
        ...


class WakeAt(Protocol):
    def __call__(self, sleeper: Sleeper, due_at: int) -> None: ...


class HealthWriter:
    """All of a worker's that are not stored yet, written many in a commit.

    What changes what a lane may do is written at once. What only counts (another success of a stable listener) waits,
    for a minute at most, and is lost when the process is killed.
    """

    def __init__(self, store: Store, clock: Clock, log: Log, spawn: Spawn, wake_at: WakeAt) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._spawn = spawn
        self._wake_at = wake_at
        self._late: dict[Stored, None] = {}
        self._due: dict[Stored, None] = {}
        self._task: asyncio.Task[None] | None = None
        self.wakes_at = 0
        self.closed = False

    def probed(self, lane: Stored, before: Liveness, after: Liveness) -> None:
        """A probe has brought something."""
        if before.state != after.state:
            say = self._log.warning if after.state == "inactive" else self._log.info
            say("liveness", listener=lane.record.listener_public_id, state=after.state, before=before.state)
        if needs_notification(before, after):
            self._late.pop(lane, None)
            self._due[lane] = None
            self._start()
        else:
            self.note(lane)

    def note(self, lane: Stored) -> None:
        """Something changed that can wait."""
        if not self._late:
            self._wake_at(self, self._clock.now() + LATE_MS)
        if lane not in self._due:
            self._late[lane] = None

    def wake(self) -> None:
        """A minute is over."""
        self._due.update(self._late)
        self._late.clear()
        self._start()

    async def store(self, lanes: Collection[Stored]) -> None:
        """Store what is known of these, before their cursors are given up: once, for what may be lost is counts."""
        unstored = [lane for lane in lanes if lane in self._late or lane in self._due]
        with suppress(Unavailable, StoreUnusable):
            for start in range(0, len(unstored), _AT_ONCE):
                await self._write(unstored[start : start + _AT_ONCE])

    def close(self) -> None:
        """Store nothing more."""
        self.closed = True

    def _start(self) -> None:
        if self._task is None and self._due and not self.closed:
            self._task = self._spawn(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._due and not self.closed:
                lanes = list(self._due)[:_AT_ONCE]
                try:
                    await self._write(lanes)
                except (Unavailable, StoreUnusable):
                    await asyncio.sleep(STORE_RETRY_SECONDS)
        finally:
            self._task = None

    async def _write(self, lanes: list[Stored]) -> None:
        for lane in lanes:
            self._late.pop(lane, None)
            self._due.pop(lane, None)
        health_writer = [lane.standing() for lane in lanes if not lane.closed]
        if not health_writer:
            return
        try:
            # Whoever lost a cursor has its lane dropped: what is refused for that is of no use to anybody.
            await self._store.write(partial(listener_health.write_health, records=health_writer))
        except (Unavailable, StoreUnusable):
            self._due.update((lane, None) for lane in lanes)
            raise
