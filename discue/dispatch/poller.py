"""Polls the database once a second, and at once after a notification."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from discue.control.context import ControlContext
from discue.dispatch.dispatcher import Dispatcher
from discue.dispatch.ownership import Ownership
from discue.dispatch.pull.broker import PullBroker
from discue.domain.errors import Unavailable
from discue.observability.logs import Log
from discue.store.engine import Notification, QueueKey, WorkerRow

_INTERVAL_SECONDS: Final = 1.0
_SHORTEST_PAUSE_SECONDS: Final = 0.01
_LONGEST_PAUSE_SECONDS: Final = 0.25
_PAUSE_PER_SECOND: Final = 10
"""How many seconds of pause follow a second of polling: it takes a tenth of the time at most, however many
notifications come and queues there are."""
_QUEUES_AT_ONCE: Final = 500
"""How many queues' heads a poll reads. With 30,000 queues, a lost notification costs up to a minute."""
_QUEUES_AFTER_AN_END: Final = 3_000
"""How many heads a poll reads once a worker has ended: it may have stored messages that it did not announce."""
_BURST_SECONDS: Final = 0.05
"""How much of these pauses a few polls after a quiet time may skip together: resources are often made in a row."""


class Poller:
    """Runs one poll at a time. Notifications during a poll are merged into one more poll."""

    def __init__(
        self,
        control: ControlContext,
        log: Log,
        dispatcher: Dispatcher,
        ownership: Ownership,
        *,
        pulls: PullBroker,
        on_jobs: Callable[[], None],
        on_intake: Callable[[], None],
        requested: asyncio.Event,
    ) -> None:
        """`requested` is set to poll soon."""
        self._store = control.store
        self._cache = control.cache
        self._log = log
        self._dispatcher = dispatcher
        self._ownership = ownership
        self._lease = ownership.lease
        self._clock = ownership.lease.session.clock
        self._pulls = pulls
        self._on_jobs = on_jobs
        """Called when deleted resources have left data behind."""
        self._on_intake = on_intake
        """Called when messages wait in the intake."""
        self._is_requested = requested
        self._pauses_until = 0.0
        """When the next poll may start, in seconds of the monotonic clock."""
        self._is_polling = False
        self._must_reset = False
        """Whether the store may be another server, so that everything that was read is invalid."""
        self._is_failing = False
        self._unread: list[QueueKey] = []
        """Queues whose heads the next polls read."""
        self._faster_rounds = 0
        """How many rounds over all heads are left to read faster."""
        self._members: frozenset[int] = frozenset()
        """The sessions of the workers at the last poll."""
        self._must_read_heads = False
        """Whether the next poll reads all heads."""

    @property
    def is_busy(self) -> bool:
        """Whether a poll runs, or was requested."""
        return self._is_polling or self._is_requested.is_set()

    def listen(self) -> None:
        """Follow the notifications of other processes from now on."""
        self._store.engine.listen(self.on_notify, self.on_connection_lost)

    def on_notify(self, notification: Notification) -> None:
        """Follow a commit of another process."""
        if notification.heads:
            self._dispatcher.on_heads(notification.heads)
            self._pulls.on_heads(notification.heads)
        if notification.intake:
            self._on_intake()
        self._must_read_heads |= notification.anything
        if notification.feed or notification.cursors or notification.anything:
            self.request_poll()

    def on_connection_lost(self) -> None:
        """Invalidate everything that was read: the store may be another server. It is read again when it works."""
        self._must_reset = True
        # At once: a flush of a lane may reach the other server before its tokens are renewed there.
        self._dispatcher.registry.invalidate()
        self._pulls.invalidate()
        self._lease.invalidate()
        self.request_poll()

    def request_poll(self) -> None:
        self._is_requested.set()

    async def run_once(self) -> None:
        """Wait until the next poll is due, and poll. An unavailable store is logged, not raised."""
        await self._wait()
        try:
            await self._poll()
        except Unavailable as error:
            self._pauses_until = self._clock.monotonic() + _INTERVAL_SECONDS
            self._store.healthy = False
            self._must_read_heads = True
            if not self._is_failing:
                self._log.warning("database_unavailable", reason=error.detail)
            self._is_failing = True
        else:
            if self._is_failing:
                self._log.info("database_available")
            self._is_failing = False
        finally:
            self._is_polling = False

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_INTERVAL_SECONDS):
                await self._is_requested.wait()
        if (pause := self._pauses_until - self._clock.monotonic()) > 0:
            await asyncio.sleep(pause)
        self._is_polling = True
        self._is_requested.clear()

    async def _poll(self) -> None:
        lease, dispatcher = self._lease, self._dispatcher
        if self._must_reset:
            await self._reset()
        elif not lease.session.is_held():
            await lease.renew()
        started_at = self._clock.monotonic()
        polled = await self._store.poll(self._next_queues())
        # On SQLite, the poll does not suspend. It takes time for each queue, and so does what follows.
        await asyncio.sleep(0)
        now = self._clock.monotonic()
        pause = min(max((now - started_at) * _PAUSE_PER_SECOND, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        self._pauses_until = max(self._pauses_until, now - _BURST_SECONDS) + pause
        self._note_members(polled.members)
        await self._cache.saw(polled.epoch, polled.feed_version)
        dispatcher.on_heads(polled.heads.items())
        self._pulls.on_snapshot_heads(polled.heads)
        dispatcher.check_inherited()
        dispatcher.replay_slots.check()
        if await self._ownership.on_snapshot(polled):
            self.request_poll()
        if polled.has_jobs:
            self._on_jobs()
        if polled.has_intake:
            self._on_intake()

    def _next_queues(self) -> tuple[QueueKey, ...]:
        """Return the queues whose heads to read: all if a commit did not say what it changed, else the next ones.

        Notifications announce heads. This finds messages whose notification was lost.
        """
        # If there is no other worker, only this process raises heads, and its lanes and consumers know them. But the
        # last other worker may have ended before it announced what it stored.
        if not (self._store.has_other_workers or self._faster_rounds):
            return ()
        if self._must_read_heads or not self._unread:
            self._unread = list(self._dispatcher.lanes.queues)
        at_once = _QUEUES_AFTER_AN_END if self._faster_rounds else _QUEUES_AT_ONCE
        some = self._unread[:] if self._must_read_heads else self._unread[-at_once:]
        self._must_read_heads = False
        del self._unread[len(self._unread) - len(some) :]
        if self._faster_rounds and not self._unread:
            self._faster_rounds -= 1
        return tuple({*some, *self._pulls.queues})

    def _note_members(self, members: Sequence[WorkerRow]) -> None:
        """Read all heads once, and faster, after another worker has ended."""
        before = self._members
        self._members = frozenset(member.session_id for member in members if not member.dead)
        if not before <= self._members:
            if not self._faster_rounds:
                self._unread = []
            # A round that has begun continues: otherwise, if workers end one after another, the last queues are never
            # read.
            self._faster_rounds = 2 if self._unread else 1

    async def _reset(self) -> None:
        self._must_reset = False
        try:
            await self._lease.renew()
            await self._cache.reset()
            await self._dispatcher.registry.reset()
        except BaseException:
            self._must_reset = True
            raise
