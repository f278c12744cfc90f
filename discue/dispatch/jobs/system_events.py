"""The job that reports missed deliveries as system events."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final

from discue.control.context import ControlContext
from discue.dispatch.cluster.leadership import Leadership
from discue.observability.logs import Log
from discue.store import missed_reports

_REPORTS_A_STEP: Final = 50
_LONGEST_PAUSE_SECONDS: Final = 15.0


class MissedReports:
    """Reports missed deliveries: this worker's at once, and those that other workers have left every few seconds.

    Only the leader looks for the latter. Several workers that report at the same time do no harm.
    """

    def __init__(self, control: ControlContext, log: Log, leadership: Leadership) -> None:
        self._control = control
        self._log = log
        self._leadership = leadership
        self._requested = asyncio.Event()
        self._next_at: int | None = None

    def request(self) -> None:
        """Report what a settle of this worker has just missed."""
        self._requested.set()

    async def round(self) -> None:
        """Wait until there may be something to report, and report it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause_seconds()):
                await self._requested.wait()
        now = self._control.clock.now()
        if self._requested.is_set() or self._leadership.is_held or (self._next_at or now + 1) <= now:
            self._requested.clear()
            await self.report()

    async def report(self) -> None:
        """Report everything that is due."""
        store, now = self._control.store, self._control.clock.now()
        # Usually nothing is due: this read spares an exclusive transaction.
        self._next_at = await store.read(missed_reports.next_at)
        while self._next_at is not None and self._next_at <= now:
            ids = [self._control.row_ids.next() for _ in range(_REPORTS_A_STEP)]
            for event in await store.write_exclusively(partial(missed_reports.report, now=now, event_ids=ids)):
                reasons = ",".join(f"{reason}:{count}" for reason, count in event.reasons.items())
                self._log.info(
                    "messages_missed",
                    listener=event.listener.id,
                    queue=event.queue.id,
                    count=event.count,
                    reasons=reasons,
                )
            self._next_at = await store.read(missed_reports.next_at)

    def _pause_seconds(self) -> float:
        if self._next_at is None:
            return _LONGEST_PAUSE_SECONDS
        until_due = (self._next_at - self._control.clock.now()) / 1_000
        return min(max(0.0, until_due), _LONGEST_PAUSE_SECONDS)
