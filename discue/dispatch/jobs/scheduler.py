"""Delayed messages and runs of schedules: the leader publishes them when they are due."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, TypeVar

import msgspec

from discue.auth.control_plane_cache import QueueRecord
from discue.control.context import ControlContext
from discue.dispatch.lease import Leadership
from discue.domain.clock import Clock
from discue.domain.errors import NotFound, PayloadTooLarge, StoreDamaged, Unprocessable
from discue.domain.headers import SCHEDULE_HEADER, SCHEDULED_AT_HEADER
from discue.domain.messages import decode_options
from discue.domain.quotas import PublishUsage
from discue.domain.reservations import JOBS, STEP
from discue.domain.schedule import Schedule, ScheduleRun, SkipReason, UnknownTimeZone, due_runs
from discue.publishing.publish import NewMessage, check_messages, entry_for
from discue.store import direct_appends, schedules
from discue.store.engine import Appended, NewEntry, QueueKey, Transaction
from discue.store.schedules import BYTES_A_STEP, SCHEDULES_A_STEP, PlannedRun, ScheduleKey
from discue.store.store import Store
from discue.store.time_slice import TimeSlice

_LATENESS_SECONDS: Final = 0.001
_MAX_PAUSE_SECONDS: Final = 60.0
"""Due times follow the database's clock, which may be set forward during the wait."""
_MESSAGES_PER_STEP: Final = 500
_LISTED_SECONDS: Final = 1.0
"""How long a list of due schedules is used. Runs that have become due since are not in it."""


class ScheduleRuns:
    """Runs due schedules. Two workers that run the same ones are harmless: only the one that advances it publishes."""

    def __init__(self, control: ControlContext) -> None:
        self._control = control
        self._store = control.store
        self._clock = control.clock
        self._due: deque[ScheduleKey] = deque()
        """Schedules that are due next."""
        self._listed_at = 0.0

    async def run_due(self) -> bool:
        """Run a number of due schedules. Returns False if queues are damaged, whose schedules stay due.

        A schedule whose queue has just changed stays due, and is planned again in a later step.
        """
        now, monotonic = self._clock.now(), self._clock.monotonic
        if not self._due or monotonic() - self._listed_at > _LISTED_SECONDS:
            self._due = deque(await self._store.read(partial(schedules.due, now=now)))
            self._listed_at = monotonic()
        keys = [self._due.popleft() for _ in range(min(SCHEDULES_A_STEP, len(self._due)))]
        due = await self._store.read(partial(schedules.read_due, keys=keys, now=now))
        self._due.extendleft(reversed(keys[len(due) :]))
        planned = _within_a_step(await self._plan_all([schedule for schedule in due if schedule is not None], now))
        run = partial(schedules.run, now=now, defaults=self._control.settings.default_quotas)
        are_stale, is_sound = await _publish(self._store, planned, run)
        if any(are_stale):
            await self._control.cache.catch_up()
        return is_sound

    async def _plan_all(self, due: Iterable[Schedule], now: int) -> list[PlannedRun]:
        """Plan runs. A schema may take 50 ms for each, so other tasks have as much time as the plans."""
        planned, time_slice = list[PlannedRun](), TimeSlice(self._clock.monotonic)
        for schedule in due:
            planned.append(await self._plan(schedule, now))
            await time_slice.pause_if_over(rests=True)
        return planned

    async def _plan(self, schedule: Schedule, now: int) -> PlannedRun:
        queue, reason = await self._queue(schedule)
        entries, last_run, next_run_at = tuple[NewEntry, ...](), None, None
        try:
            due = due_runs(schedule, now)
        except UnknownTimeZone:
            last_run = ScheduleRun(schedule.next_run_at or now, now, reason="time_zone")
        else:
            next_run_at = due.next_run_at
            if due.missed is not None:
                last_run = ScheduleRun(due.missed, now, reason="late")
            elif due.runs and queue is not None and reason is not None:
                last_run = ScheduleRun(due.runs[-1], now, reason=reason)
            elif due.runs and queue is not None:
                entries = tuple(self._entry(schedule, queue, run, now) for run in due.runs)
                last_run = ScheduleRun(due.runs[-1], now, entries[-1].id)
        version, next_id = 0 if queue is None else queue.config_version, self._control.row_ids.next
        return PlannedRun(schedule, version, entries, last_run, next_run_at, (next_id(), next_id(), next_id()))

    async def _queue(self, schedule: Schedule) -> tuple[QueueRecord | None, SkipReason | None]:
        """Return the queue, None if it is deleted, and the reason why it does not accept the schedule's data."""
        queue = None
        try:
            queue = await self._control.cache.queue(schedule.organization, schedule.queue_public_id)
            if queue.has_known_types:
                # The run compares the version of the queue, but not of the event type.
                await self._control.cache.catch_up()
            await check_messages(self._control.cache, queue, [_draft(schedule)])
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
        return entry_for(self._control.public_ids.next(), draft, ordered=queue.ordered)


class _Due(Protocol):
    @property
    def queue(self) -> QueueKey: ...


D = TypeVar("D", bound=_Due)
R = TypeVar("R")


async def _publish(
    store: Store, due: Sequence[D], work: Callable[[Transaction, Sequence[D]], Awaitable[R]]
) -> tuple[list[R], bool]:
    """Publish what is due in one transaction, or if a queue is damaged, in one for each queue.

    Returns the results, and False if any queue is damaged, which is noted.
    """

    async def publish(some: Sequence[D]) -> R:
        return await store.write_exclusively(lambda tx: work(tx, some))

    if not due:
        return [], True
    try:
        return [await publish(due)], True
    except StoreDamaged:
        results, is_sound = list[R](), True
    for queue in dict.fromkeys(each.queue for each in due):
        try:
            results.append(await publish([each for each in due if each.queue == queue]))
        except StoreDamaged:
            store.damage.note(queue)
            is_sound = False
    return results, is_sound


def _draft(schedule: Schedule) -> NewMessage:
    return NewMessage(schedule.data, schedule.codec, schedule.alias, options=schedule.options)


def _within_a_step(planned: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Return the first runs, at least one, whose messages together fit one transaction."""
    chosen: list[PlannedRun] = []
    load = PublishUsage()
    for each in planned:
        load += each.load
        if chosen and (load.messages > _MESSAGES_PER_STEP or load.bytes > BYTES_A_STEP):
            break
        chosen.append(each)
    return chosen


class Scheduler:
    """Knows when the next message or run is due: from the poller, and from its own publishes.

    A brief split-brain is harmless: only the worker that removes a message's row, or advances a schedule, delivers it.
    """

    def __init__(self, store: Store, runs: ScheduleRuns, clock: Clock, leadership: Leadership) -> None:
        self._store = store
        self._runs = runs
        self._clock = clock
        self._leadership = leadership
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
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause_seconds()):
                await self._sooner.wait()
        self._sooner.clear()
        if self.next_at is not None and self.next_at <= self._clock.now() and self._leadership.is_held:
            await self.deliver_due()

    @property
    def late_ms(self) -> int:
        """How long the next delayed message or run is overdue. 0 if nothing is, or another worker is the leader."""
        if self.next_at is None or not self._leadership.is_held:
            return 0
        return max(0, self._clock.now() - self.next_at)

    async def deliver_due(self) -> None:
        """Deliver all that is due. Returns when none is left, and the next due time is known."""
        while self._leadership.is_held and await self._is_anything_due():
            # Delayed messages first: a schedule that cannot run must not hold them up.
            now = self._clock.now()
            with self._store.ledger.hold(JOBS, STEP.bytes):
                due = await self._store.read(partial(direct_appends.due_messages, now=now))
                _, is_sound = await _publish(self._store, due, partial(direct_appends.append_due, now=now))
                is_sound &= await self._runs.run_due()
            if not is_sound:
                # What belongs to damaged queues stays due. The supervisor repeats the job later.
                raise StoreDamaged

    async def _is_anything_due(self) -> bool:
        before = self.next_at
        # A message that is published during the read may be due earlier than all that it finds.
        self.next_at = None
        try:
            found = await self._store.read(schedules.next_publish_at)
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

    def _pause_seconds(self) -> float | None:
        if self.next_at is None or not self._leadership.is_held:
            return None
        until_due = (self.next_at - self._clock.now()) / 1_000 + _LATENESS_SECONDS
        return min(max(0.0, until_due), _MAX_PAUSE_SECONDS)
