"""Looks at the database once a second, and at once when something is said to have happened there."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from discue.auth.control_plane_cache import ControlPlaneCache
from discue.dispatch.cluster.lease import Lease
from discue.dispatch.cluster.ownership import Ownership
from discue.dispatch.dispatcher import Dispatcher
from discue.dispatch.jobs.delayed import Scheduler
from discue.dispatch.jobs.retention import Retention
from discue.dispatch.pull.broker import PullBroker
from discue.domain.clock import Clock
from discue.domain.errors import Unavailable
from discue.observability.logs import Log
from discue.store.engine import Notification, QueueKey
from discue.store.store import Store

_INTERVAL_SECONDS: Final = 1.0
_SHORTEST_PAUSE_SECONDS: Final = 0.01
_LONGEST_PAUSE_SECONDS: Final = 0.25
# Looking takes a tenth of the time at most, however many hints come and queues there are.
_PAUSE_FOR_EACH_SECOND: Final = 10


@dataclass(frozen=True, slots=True)
class Watched:
    """Whom what was seen concerns."""

    lease: Lease
    cache: ControlPlaneCache
    dispatcher: Dispatcher
    ownership: Ownership
    retention: Retention
    scheduler: Scheduler
    pulls: PullBroker


class Poller:
    """One look at a time; hints that come meanwhile are one hint."""

    def __init__(self, store: Store, watched: Watched, clock: Clock, log: Log) -> None:
        self._store = store
        self._watched = watched
        self._clock = clock
        self._log = log
        self._hinted = asyncio.Event()
        self._rests_until = 0.0
        self._is_in_doubt = False
        self._fails = False

    def begin(self) -> None:
        """Hear from now on what other processes tell."""
        self._store.engine.listen(self.heard, self.lost)

    def heard(self, hint: Notification) -> None:
        """Something was committed by another process."""
        if hint.heads:
            self._watched.dispatcher.on_heads(hint.heads)
            self._watched.pulls.on_heads(hint.heads)
        if hint.feed or hint.cursors or hint.anything:
            self.look_soon()

    def lost(self) -> None:
        """The store may be another server: what was read before is in doubt, and read again when it works."""
        self._is_in_doubt = True
        # At once: what a lane settles now may reach the other server before its tokens are renewed there.
        self._watched.dispatcher.invalidate()
        self._watched.pulls.invalidate()
        self._watched.lease.invalidate()
        self.look_soon()

    def look_soon(self) -> None:
        self._hinted.set()

    async def round(self) -> None:
        """Wait for the time of the next look, and look. A store that does not work is no failure of this."""
        await self._due()
        try:
            await self._look()
        except Unavailable as error:
            self._rests_until = self._clock.monotonic() + _INTERVAL_SECONDS
            self._store.on_failure()
            if not self._fails:
                self._log.warning("store_lost", reason=error.detail)
            self._fails = True
        else:
            if self._fails:
                self._log.info("store_found")
            self._fails = False

    async def _due(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_INTERVAL_SECONDS):
                await self._hinted.wait()
        if (rest := self._rests_until - self._clock.monotonic()) > 0:
            await asyncio.sleep(rest)
        self._hinted.clear()

    async def _look(self) -> None:
        lease, dispatcher = self._watched.lease, self._watched.dispatcher
        if self._is_in_doubt:
            await self._start_over()
        elif not lease.is_held():
            await lease.renew()
        began_at = self._clock.monotonic()
        # Alone, whoever appends has told the lanes: nobody else could have raised a head.
        polled = await self._store.engine.poll(self._queues() if self._store.has_other_workers else ())
        self._rest(began_at)
        await self._watched.cache.saw(polled.epoch, polled.feed_version)
        dispatcher.on_heads(polled.heads.items())
        self._watched.pulls.on_snapshot_heads(polled.heads)
        dispatcher.check_inherited()
        if await self._watched.ownership.on_snapshot(polled):
            self.look_soon()
        self._watched.scheduler.on_snapshot(polled.scheduled_at)
        if polled.has_jobs and self._watched.ownership.is_leader:
            self._watched.retention.request_purge()

    async def _start_over(self) -> None:
        self._is_in_doubt = False
        try:
            await self._watched.lease.renew()
            await self._watched.cache.reset()
            await self._watched.dispatcher.reset()
        except BaseException:
            self._is_in_doubt = True
            raise

    def _queues(self) -> Sequence[QueueKey]:
        """Whose heads somebody here must know."""
        of_lanes, of_pulls = self._watched.dispatcher.queues, self._watched.pulls.queues
        return tuple({*of_lanes, *of_pulls}) if of_pulls else of_lanes

    def _rest(self, began_at: float) -> None:
        now = self._clock.monotonic()
        pause = (now - began_at) * _PAUSE_FOR_EACH_SECOND
        self._rests_until = now + min(max(pause, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
