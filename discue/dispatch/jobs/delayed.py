"""Delayed messages and runs of schedules: the leader delivers them when they are due."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from discue.dispatch.dispatcher import Dispatcher
from discue.dispatch.jobs.schedules import ScheduleRuns
from discue.domain.clock import Clock
from discue.domain.messages import decode_options
from discue.store import message_log, schedules
from discue.store.engine import Appended, Notification, QueueKey, Transaction
from discue.store.store import Store

_LATENESS_SECONDS: Final = 0.001
_MAX_PAUSE_SECONDS: Final = 60.0
"""Due times are by the wall clock, which may be set forward while this waits."""


class Scheduler:
    """Knows when the next message or run is due: from the poller, and from its own publishes.

    A brief split-brain is harmless: only the worker that removes a message's row, or advances a schedule, delivers it.
    """

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        runs: ScheduleRuns,
        clock: Clock,
        *,
        is_leader: Callable[[], bool],
    ) -> None:
        self._store = store
        self.notify_heads: Callable[[Iterable[tuple[QueueKey, int]]], None] = dispatcher.on_heads
        """Called with the new heads of the queues in which messages were stored."""
        self._runs = runs
        self._clock = clock
        self._is_leader = is_leader
        self._sooner = asyncio.Event()
        self.next_at: int | None = None
        """When the next one is due, in milliseconds since the epoch; None if none is known to wait."""

    def on_appended(self, appended: Appended) -> None:
        """Note delayed messages that this worker has stored."""
        for entry in appended.entries:
            if entry.is_delayed and self._expect(decode_options(entry.extra).deliver_at):
                self._sooner.set()

    def on_snapshot(self, due_at: int | None) -> None:
        """Note when the next one is due, by a snapshot of the store; None: none waits."""
        self._expect(due_at)
        # Always: this worker may have become the leader.
        if self.next_at is not None:
            self._sooner.set()

    async def round(self) -> None:
        """Wait until a message or run is due, and deliver it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause_seconds()):
                await self._sooner.wait()
        self._sooner.clear()
        if self._is_due():
            await self.deliver_due()

    async def deliver_due(self) -> None:
        """Deliver all that is due. Returns when none is left, and the next due time is known."""
        while self._is_leader() and await self._is_anything_due():
            # Delayed messages first: a schedule that cannot run must not hold them up.
            self._announce(await self._append_delayed())
            self._announce(await self._runs.run_due())

    async def _append_delayed(self) -> dict[QueueKey, int]:
        now = self._clock.now()
        due = await self._store.read(partial(message_log.due_messages, now=now))
        if not due:
            return {}
        return await self._store.write_exclusively(partial(message_log.append_due, messages=due, now=now))

    def _announce(self, heads: dict[QueueKey, int]) -> None:
        self.notify_heads(heads.items())
        if heads and self._store.has_other_workers:
            self._store.engine.notify(Notification(heads=tuple(heads.items())))

    async def _is_anything_due(self) -> bool:
        before = self.next_at
        # A message that is published during the read may be due earlier than all that it finds.
        self.next_at = None
        try:
            found = await self._store.read(_next_at)
            self._expect(found)
            return found is not None and found <= self._clock.now()
        except BaseException:
            self._expect(before)
            raise

    def _expect(self, due_at: int | None) -> bool:
        """Note a due time. Returns whether it is earlier than the known one."""
        is_sooner = due_at is not None and (self.next_at is None or due_at < self.next_at)
        if is_sooner:
            self.next_at = due_at
        return is_sooner

    def _is_due(self) -> bool:
        return self.next_at is not None and self.next_at <= self._clock.now() and self._is_leader()

    def _pause_seconds(self) -> float | None:
        if self.next_at is None or not self._is_leader():
            return None
        until_due = (self.next_at - self._clock.now()) / 1_000 + _LATENESS_SECONDS
        return min(max(0.0, until_due), _MAX_PAUSE_SECONDS)


async def _next_at(tx: Transaction) -> int | None:
    known = [
        instant
        for instant in (await message_log.next_delayed_at(tx), await schedules.next_at(tx))
        if instant is not None
    ]
    return min(known, default=None)
