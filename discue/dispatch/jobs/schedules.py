"""Runs of schedules: each due run publishes exactly one message."""

from collections.abc import Iterable
from functools import partial
from typing import Final

import msgspec

from discue.auth.control_plane_cache import ControlPlaneCache, QueueRecord
from discue.domain.clock import Clock
from discue.domain.errors import NotFound, PayloadTooLarge, Unprocessable
from discue.domain.headers import SCHEDULE_HEADER, SCHEDULED_AT_HEADER
from discue.domain.ids import PublicIds
from discue.domain.quotas import NO_QUOTAS, PublishUsage, Quotas
from discue.domain.schedule import Schedule, ScheduleRun, UnknownTimeZone, due_runs
from discue.publishing.publish import NewMessage, check_messages, entry_for
from discue.store import schedules
from discue.store.engine import NewEntry, QueueKey
from discue.store.schedules import PlannedRun, Reason, RunResult
from discue.store.store import Store

MESSAGES_PER_STEP: Final = 500
BYTES_PER_STEP: Final = 1 << 20


class ScheduleRuns:
    """Runs due schedules. Two workers that run the same ones are harmless: only the one that advances it publishes."""

    def __init__(
        self, store: Store, cache: ControlPlaneCache, clock: Clock, public_ids: PublicIds, *, quotas: Quotas = NO_QUOTAS
    ) -> None:
        """`quotas` apply to organizations that have none of their own."""
        self._store = store
        self._cache = cache
        self._clock = clock
        self._public_ids = public_ids
        self._quotas = quotas

    async def run_due(self) -> dict[QueueKey, int]:
        """Run a number of due schedules, and return the new head of each queue.

        A schedule whose queue has just changed stays due, and is planned again in the next step.
        """
        now = self._clock.now()
        due = await self._store.read(partial(schedules.due, now=now))
        planned = _within_a_step([await self._plan(schedule, now) for schedule in due])
        if not planned:
            return {}
        run = partial(schedules.run, planned=planned, now=now, defaults=self._quotas)
        ran: RunResult = await self._store.write_exclusively(run)
        if ran.is_stale:
            await self._cache.catch_up()
        return ran.heads

    async def _plan(self, schedule: Schedule, now: int) -> PlannedRun:
        queue, reason = await self._queue(schedule)
        try:
            due = due_runs(schedule, now)
        except UnknownTimeZone:
            return _planned(
                schedule, queue, (), _skipped(schedule.next_run_at or now, now, "time_zone"), next_run_at=None
            )
        if due.missed is not None:
            return _planned(schedule, queue, (), _skipped(due.missed, now, "late"), next_run_at=due.next_run_at)
        if not due.runs or queue is None:
            return _planned(schedule, queue, (), None, next_run_at=due.next_run_at)
        if reason is not None:
            return _planned(schedule, queue, (), _skipped(due.runs[-1], now, reason), next_run_at=due.next_run_at)
        entries = tuple(self._entry(schedule, queue, run, now) for run in due.runs)
        return _planned(
            schedule, queue, entries, ScheduleRun(due.runs[-1], now, entries[-1].id), next_run_at=due.next_run_at
        )

    async def _queue(self, schedule: Schedule) -> tuple[QueueRecord | None, Reason | None]:
        """Return the queue, None if it is deleted, and the reason why it does not accept the schedule's data."""
        queue = None
        try:
            queue = await self._cache.queue(schedule.organization, schedule.queue_public_id)
            check_messages([_draft(schedule)], queue.max_message_bytes, queue.checker)
        except NotFound:
            return None, None
        except PayloadTooLarge:
            return queue, "too_large"
        except Unprocessable:
            return queue, "schema"
        return queue, None

    def _entry(self, schedule: Schedule, queue: QueueRecord, run: int, now: int) -> NewEntry:
        own = ((SCHEDULE_HEADER, schedule.public_id), (SCHEDULED_AT_HEADER, str(run)))
        options = msgspec.structs.replace(schedule.options, headers=(*schedule.options.headers, *own))
        expires_at = None if schedule.expires_in is None else now + schedule.expires_in * 1_000
        draft = msgspec.structs.replace(_draft(schedule), options=options, expires_at=expires_at)
        return entry_for(self._public_ids.next(), draft, ordered=queue.ordered)


def _draft(schedule: Schedule) -> NewMessage:
    return NewMessage(schedule.data, schedule.is_json, schedule.alias)


def _skipped(scheduled_at: int, now: int, reason: Reason) -> ScheduleRun:
    return ScheduleRun(scheduled_at, now, reason=reason)


def _planned(
    schedule: Schedule,
    queue: QueueRecord | None,
    entries: tuple[NewEntry, ...],
    last_run: ScheduleRun | None,
    *,
    next_run_at: int | None,
) -> PlannedRun:
    return PlannedRun(schedule, 0 if queue is None else queue.config_version, entries, last_run, next_run_at)


def _within_a_step(planned: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Return the first runs, at least one, whose messages together fit one transaction."""
    chosen: list[PlannedRun] = []
    load = PublishUsage()
    for each in planned:
        load += each.load
        if chosen and (load.messages > MESSAGES_PER_STEP or load.bytes > BYTES_PER_STEP):
            break
        chosen.append(each)
    return chosen
