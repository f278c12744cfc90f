"""Retention: deleting what is old or no longer needed, in steps so small that other writes do not wait."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from discue.control.context import ControlContext
from discue.dispatch.dispatcher import Dispatcher
from discue.dispatch.lease import Leadership
from discue.domain.errors import StoreDamaged
from discue.domain.idempotency import RETENTION_MS, SWEEP_MS, sweep_ranges
from discue.domain.lockout import HISTORY_MS
from discue.domain.rate import MINUTE_MS
from discue.domain.window import Interval
from discue.store import erasures, feed, idempotency, lockouts, purge, tallies
from discue.store.engine import Transaction
from discue.store.pagination import CLOCKS_APART_MS
from discue.store.purge import LogToTrim
from discue.store.tables import Key

_LOGS_READ = 128
"""How many logs one statement reads. SQLite's statement for more is too long to be kept prepared."""
_LOG_READS_A_RUN = 80
"""The next run continues with the logs that follow, so that a run takes as long with 100,000 queues as with 10,000."""
_CHANGES_A_STEP = 500
_CAUSE_STEPS_A_RUN = 20
_NO_CAUSE = (0, 0, 0)
_KEYS_KEPT_MS = RETENTION_MS + CLOCKS_APART_MS
_COUNTS_KEPT_MS = 48 * 3_600_000
_LISTENER_COUNTS_KEPT_MS = 25 * 3_600_000
_REDELIVERIES_KEPT_MS = 7 * 24 * 3_600_000
"""How long redeliveries, replays and erasures are kept after their end."""
_PERIODS_A_STEP = 3
_MINUTES_KEPT = 60
"""How many minutes of rate limiter counts are kept, for clocks that are set back."""


class DeleteEnded(Protocol):
    """Deletes some rows that ended before a time (ms since the epoch). Returns a false value if none is left."""

    def __call__(self, tx: Transaction, /, *, before: int) -> Awaitable[object]: ...


class Retention:
    """The jobs that delete data. Each method is one run, and returns when nothing is left to do for now.

    Most of them run on the leader only. A brief split-brain is harmless, only wasteful.
    """

    def __init__(
        self,
        control: ControlContext,
        dispatcher: Dispatcher,
        leadership: Leadership,
        *,
        delete_ended: Sequence[DeleteEnded] = (),
    ) -> None:
        self._settings = control.settings
        self._store = control.store
        self._cache = control.cache
        self._clock = control.clock
        self._dispatcher = dispatcher
        self._leadership = leadership
        self._delete_ended = delete_ended
        self._keys_swept_at = 0
        self._trimmed_through = (0, 0)
        """Organization and queue of the last log that was trimmed; the lowest values before the first one."""
        self._causes_through: Key = _NO_CAUSE
        """The last cause that was looked at."""
        self._purge_requested = asyncio.Event()

    def request_purge(self) -> None:
        """Request a purge: a resource was deleted and has left data behind."""
        self._purge_requested.set()

    async def purge_on_request(self) -> None:
        await self._purge_requested.wait()
        self._purge_requested.clear()
        await self.purge_deleted()

    async def purge_deleted(self) -> None:
        """Delete the data that deleted queues, listeners and organizations left behind, and finish erasures."""
        after = 0
        while self._leadership.is_held:
            job = await self._store.read(partial(purge.next_after, job_id=after))
            if job is None:
                break
            # A damaged queue must not delay the others. The next run repeats its job.
            with suppress(StoreDamaged):
                step = partial(erasures.step, now=self._clock.now()) if job.kind == "erase" else purge.step
                while not await self._store.write(partial(step, job=job)):
                    pass
            after = job.id

    async def run(self) -> None:
        """Miss deliveries of this worker's lanes that have waited too long; on the leader, delete old data."""
        await self._dispatcher.miss_too_old()
        if self._leadership.is_held:
            await self._delete_old()

    async def _delete_old(self) -> None:
        now = self._clock.now()
        ended_before = now - _REDELIVERIES_KEPT_MS
        steps: tuple[Callable[[Transaction], Awaitable[object]], ...] = (
            partial(purge.delete_missed, missed_before=now - self._settings.missed_retention_seconds * 1_000),
            partial(purge.delete_ended, table="redelivery", ended_before=ended_before),
            partial(purge.delete_ended, table="replay", ended_before=ended_before),
            partial(erasures.erase_late_attempts, now=now),
            partial(purge.delete_ended, table="erasure", ended_before=ended_before),
            partial(feed.trim, kept=feed.CHANGES_KEPT, limit=_CHANGES_A_STEP),
            partial(lockouts.delete_old, failed_before=now - HISTORY_MS),
            lockouts.delete_beyond,
            *(partial(delete, before=now) for delete in self._delete_ended),
            partial(tallies.delete_old_of_listeners, before=tallies.period_of(now - _LISTENER_COUNTS_KEPT_MS)),
            partial(tallies.delete_old_budgets, before_minute=now // MINUTE_MS - _MINUTES_KEPT),
            tallies.delete_beyond,
        )
        for step in steps:
            await self._repeat(step)
        await self._delete_idempotency_keys(now)
        await self._delete_history(now)
        await self._delete_causes()
        await self._trim_logs(now)

    async def _repeat(self, step: Callable[[Transaction], Awaitable[object]]) -> None:
        """Repeat a write until it has nothing left to delete or finds damaged data, which the store reports."""
        with suppress(StoreDamaged):
            while await self._store.write(step):
                pass

    async def _delete_idempotency_keys(self, now: int) -> None:
        """Delete old idempotency keys. Each run checks a share of all keys; the first one checks all."""
        kept_before = now - _KEYS_KEPT_MS
        for keys in sweep_ranges(self._keys_swept_at, now):
            left: Interval | None = keys
            while left is not None:
                left = await self._store.write(
                    partial(idempotency.delete_old_keys, interval=left, kept_before=kept_before)
                )
        self._keys_swept_at = now

    async def flush_key_usage(self) -> None:
        """Store when API keys were last used."""
        while await self._cache.flush_usage():
            pass

    async def store_listener_counts(self) -> None:
        """Store the outcomes of deliveries by listener. Counts whose write fails are lost, not counted twice."""
        while counted := self._store.listener_counts.take():
            await self._store.write(partial(tallies.add_of_listeners, counted=counted))

    async def _delete_history(self, now: int) -> None:
        """Delete old attempts, events and counts of every organization."""
        attempts_before = now - self._settings.attempt_retention_seconds * 1_000
        events_before = now - self._settings.event_retention_seconds * 1_000
        counts_before = tallies.period_of(now - _COUNTS_KEPT_MS)
        # By then all keys were swept, and those that name the responses are deleted.
        stored_before = now - _KEYS_KEPT_MS - SWEEP_MS
        steps = (
            partial(purge.delete_old, table="attempt_detail", made_before=attempts_before),
            partial(purge.delete_old, table="attempt", made_before=attempts_before),
            partial(purge.delete_old, table="event", made_before=events_before),
            partial(idempotency.delete_old_responses, kept_before=stored_before),
            partial(tallies.delete_old, before=counts_before, periods=_PERIODS_A_STEP),
        )
        after = 0
        while (organization := await self._store.read(partial(purge.next_organization, after=after))) is not None:
            for step in steps:
                await self._repeat(partial(step, organization=organization))
            after = organization

    async def _delete_causes(self) -> None:
        """Delete causes of missed deliveries that are not missed any more. Each run looks at some."""
        for _ in range(_CAUSE_STEPS_A_RUN):
            through = await self._store.write(partial(purge.delete_unused_causes, after=self._causes_through))
            self._causes_through = through or _NO_CAUSE
            if through is None:
                return

    async def _trim_logs(self, now: int) -> None:
        for _ in range(_LOG_READS_A_RUN):
            logs = await self._store.read(partial(purge.logs_after, after=self._trimmed_through, limit=_LOGS_READ))
            self._trimmed_through = (logs[-1].organization, logs[-1].queue) if logs else (0, 0)
            if not logs:
                return
            await self._trim_old([log for log in logs if log.tail < log.head], now)

    async def _trim_old(self, logs: Sequence[LogToTrim], now: int) -> None:
        """Trim the given logs that have old messages. A damaged log must not delay the others."""
        if not logs:
            return
        try:
            oldest = await self._store.read(partial(purge.oldest_messages, logs=logs))
            for log in logs:
                before = self._kept_since(log, now)
                if oldest.get((log.organization, log.queue), before) < before:
                    await self._trim_log(log, before)
        except StoreDamaged:
            if len(logs) > 1:
                for log in logs:
                    await self._trim_old([log], now)
            else:
                self._store.damage.note((logs[0].organization, logs[0].queue))

    def _kept_since(self, log: LogToTrim, now: int) -> int:
        kept_seconds = self._settings.retention_seconds if log.retention_seconds is None else log.retention_seconds
        return now - kept_seconds * 1_000

    async def _trim_log(self, log: LogToTrim, before: int) -> None:
        at, reached = -1, log.tail
        while reached > at:
            at = reached
            reached = await self._store.write(partial(purge.trim_log, log=log, after=at, stored_before=before))
