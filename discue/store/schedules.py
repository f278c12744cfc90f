"""Schedules, and their runs: a run's messages and the schedule's next run are one transaction, so each runs once."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Final

import msgspec

from discue.domain.messages import MessageOptions
from discue.domain.quotas import NO_QUOTAS, PublishUsage, Quotas
from discue.domain.schedule import MissedRunPolicy, Schedule, ScheduleRun, SkipReason, Timing
from discue.domain.system_events import SKIPPED_AGAIN_MS, ResourceName, ScheduleSkipped
from discue.store import organizations, queues, system_events, tallies
from discue.store.direct_appends import PublishBudget, append_directly
from discue.store.engine import NewEntry, QueueKey, Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.tables import placeholders, prefixed, read_number, read_one
from discue.store.tallies import TallyEntry

SCHEDULES_A_STEP: Final = 100
BYTES_A_STEP: Final = 1 << 18
"""Less than a commit may take: publishes wait for it."""
_LISTED: Final = 10_000

ScheduleKey = tuple[int, int]
"""An organization, and the row id of a schedule."""

_PLAIN: Final = "id, organization, public_id, queue, alias, status, config_version, next_run_at, created_at, updated_at"
_SELECT: Final = f"""
    SELECT {prefixed("s", _PLAIN)},
        s.codec, s.body, s.last_run, s.settings, q.public_id
    FROM schedule s JOIN queue q ON q.organization = s.organization AND q.id = s.queue
    WHERE s.organization = $1"""
_GET: Final = f"{_SELECT} AND s.public_id = $2 AND q.deleted_at IS NULL"
_BY_ID: Final = f"{_SELECT} AND s.id = $2"
_OF_QUEUE: Final = f"{_SELECT} AND s.queue = $2 AND q.deleted_at IS NULL"
_OF_ORGANIZATION: Final = f"{_SELECT} AND q.deleted_at IS NULL"
_INSERT: Final = f"""
    INSERT INTO schedule ({_PLAIN}, last_run, settings, codec, size, body) VALUES ({placeholders(1, 15)})"""
_UPDATE: Final = """
    UPDATE schedule SET alias = $1, status = $2, settings = $3, codec = $4, size = $5, body = $6, config_version = $7,
        next_run_at = $8, updated_at = $9
    WHERE organization = $10 AND id = $11"""
_DELETE: Final = "DELETE FROM schedule WHERE organization = $1 AND id = $2 RETURNING size"
_SIZE: Final = "SELECT size FROM schedule WHERE organization = $1 AND id = $2"
_SIZE_OF_QUEUE: Final = """
    SELECT CAST(coalesce(sum(size), 0) AS BIGINT) FROM schedule WHERE organization = $1 AND queue = $2"""
_COUNT: Final = """
    SELECT count(*) FROM (SELECT 1 FROM schedule WHERE organization = $1 AND queue = $2 LIMIT $3) AS counted"""
_NEXT_PUBLISH: Final = """
    SELECT * FROM (SELECT due_at FROM scheduled WHERE due_at >= 0 ORDER BY due_at LIMIT 1) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT next_run_at FROM schedule WHERE next_run_at IS NOT NULL ORDER BY next_run_at LIMIT 1) AS looked_at"""
# From the index alone: on SQLite, finding a row compares keys with those of a dozen others, bodies included.
_DUE: Final = """
    SELECT organization, id FROM schedule WHERE next_run_at <= $1 ORDER BY next_run_at, organization, id LIMIT $2"""
_ADVANCE: Final = """
    UPDATE schedule SET next_run_at = $1, last_run = $2
    WHERE organization = $3 AND id = $4 AND config_version = $5 AND next_run_at = $6"""


class _Settings(msgspec.Struct, omit_defaults=True):
    timing: Timing
    missed: MissedRunPolicy = MissedRunPolicy()
    options: MessageOptions = MessageOptions()
    expires_in: int | None = None


_read_settings = msgspec.json.Decoder(_Settings).decode
_read_run = msgspec.json.Decoder(ScheduleRun).decode
_plain_values: Callable[[Schedule], Row] = attrgetter(*_PLAIN.split(", "))


async def get(tx: Transaction, organization: int, public_id: str) -> Schedule | None:
    """Find a schedule of an existing queue."""
    return await read_one(tx, _from_row, _GET, organization, public_id)


async def page(tx: Transaction, organization: int, queue: int, selection: Selection) -> Listing[Schedule]:
    table = Table("schedule", _OF_QUEUE, (organization, queue), "s.id", prefix="s.")
    return await listed(tx, table, selection, _from_row)


async def page_of_organization(tx: Transaction, organization: int, selection: Selection) -> Listing[Schedule]:
    """Read schedules of all queues."""
    return await listed(
        tx, Table("schedule", _OF_ORGANIZATION, (organization,), "s.id", prefix="s."), selection, _from_row
    )


async def count(tx: Transaction, organization: int, queue: int, at_most: int) -> int:
    return await read_number(tx, _COUNT, organization, queue, at_most)


async def insert(tx: Transaction, schedule: Schedule) -> None:
    """Insert a schedule. Raises UniqueViolation if its alias is taken."""
    content = _content(schedule)
    await tx.execute(_INSERT, *_plain_values(schedule), _encode_run(schedule.last_run), *content)
    await _count_bytes(tx, schedule.organization, content[2])


async def update(tx: Transaction, schedule: Schedule) -> None:
    """Update a schedule, except its last run. Raises UniqueViolation if its alias is taken."""
    versions = (schedule.config_version, schedule.next_run_at, schedule.updated_at)
    content = _content(schedule)
    values = (schedule.alias, schedule.status, *content, *versions)
    before = await read_number(tx, _SIZE, schedule.organization, schedule.id)
    await tx.execute(_UPDATE, *values, schedule.organization, schedule.id)
    await _count_bytes(tx, schedule.organization, content[2] - before)


async def delete(tx: Transaction, schedule: Schedule) -> None:
    for (size,) in await tx.rows(_DELETE, schedule.organization, schedule.id):
        await _count_bytes(tx, schedule.organization, -size)


async def release_bytes_of_queue(tx: Transaction, organization: int, queue: int) -> None:
    """Stop counting the schedules of a deleted queue. Their rows are purged later."""
    await _count_bytes(tx, organization, -await read_number(tx, _SIZE_OF_QUEUE, organization, queue))


def size_of(schedule: Schedule) -> int:
    """Return the bytes that a schedule is counted with: its data, and what else goes with each message."""
    size: int = _content(schedule)[2]
    return size


async def _count_bytes(tx: Transaction, organization: int, more: int) -> None:
    if more:
        await tallies.add(tx, [TallyEntry(organization, tallies.CURRENT, tallies.SCHEDULE_BYTES, more)])


async def next_publish_at(tx: Transaction) -> int | None:
    """Return when the next run of a schedule or delayed message is due."""
    return min((due_at for (due_at,) in await tx.rows(_NEXT_PUBLISH)), default=None)


async def due(tx: Transaction, now: int) -> list[ScheduleKey]:
    """Find schedules whose next run is due, the oldest run first. Organizations alternate."""
    before: Counter[int] = Counter()
    ranked: list[tuple[int, ScheduleKey]] = []
    for organization, row_id in await tx.rows(_DUE, now, _LISTED):
        ranked.append((before[organization], (organization, row_id)))
        before[organization] += 1
    return [key for _, key in sorted(ranked, key=itemgetter(0))]


async def read_due(tx: Transaction, keys: Iterable[ScheduleKey], now: int) -> list[Schedule | None]:
    """Read the first of these schedules, whose bodies fit one step. None for a schedule that is not due any more."""
    found: list[Schedule | None] = []
    size = 0
    for key in keys:
        schedule = await read_one(tx, _from_row, _BY_ID, *key)
        if schedule is not None:
            size += len(schedule.data)
        if found and size > BYTES_A_STEP:
            break
        is_due = schedule is not None and schedule.next_run_at is not None and schedule.next_run_at <= now
        found.append(schedule if is_due else None)
    return found


async def advance(tx: Transaction, seen: Schedule, next_run_at: int | None, last_run: ScheduleRun | None) -> bool:
    """Set the next run. Of several workers that try, each of which has `seen` the schedule before, one succeeds."""
    # The version and the run that were seen are the condition: a change in between, or another worker, wins.
    expected = (seen.organization, seen.id, seen.config_version, seen.next_run_at)
    return await tx.execute(_ADVANCE, next_run_at, _encode_run(last_run or seen.last_run), *expected) == 1


def _content(schedule: Schedule) -> Row:
    """Return the values of `settings, codec, size, body`."""
    settings = msgspec.json.encode(msgspec.convert(schedule, _Settings, from_attributes=True))
    return settings.decode(), schedule.codec, len(settings) + len(schedule.data), schedule.data


def _encode_run(run: ScheduleRun | None) -> str | None:
    return None if run is None else msgspec.json.encode(run).decode()


def _from_row(row: Row) -> Schedule:
    *plain, codec, body, last_run, settings, queue_public_id = row
    return Schedule(
        **dict(zip(_PLAIN.split(", "), plain, strict=True)),
        **msgspec.structs.asdict(_read_settings(settings)),
        queue_public_id=queue_public_id,
        codec=codec,
        data=body,
        last_run=None if last_run is None else _read_run(last_run),
    )


_QUEUE_HEAD: Final = "SELECT config_version, closed_at FROM queue_head WHERE organization = $1 AND queue = $2"


class PlannedRun(msgspec.Struct, frozen=True):
    """The messages that a run of a schedule publishes, and the run after it."""

    seen: Schedule
    """The schedule as it was read."""
    config_version: int
    """The messages were checked against the queue's configuration of this version."""
    entries: tuple[NewEntry, ...]
    last_run: ScheduleRun | None
    next_run_at: int | None
    event_ids: tuple[int, int, int]
    """Row ids for system events: of a skipped run, and of each publishing quota."""

    @property
    def queue(self) -> QueueKey:
        return self.seen.organization, self.seen.queue

    @property
    def load(self) -> PublishUsage:
        return PublishUsage(len(self.entries), sum(entry.size for entry in self.entries))

    def skipped(self, reason: SkipReason) -> "PlannedRun":
        """Return the run without messages, and why."""
        if self.last_run is None or not self.entries:
            return self
        last_run = msgspec.structs.replace(self.last_run, message_id="", reason=reason)
        return msgspec.structs.replace(self, entries=(), last_run=last_run)


async def run(tx: Transaction, planned: Sequence[PlannedRun], now: int, defaults: Quotas = NO_QUOTAS) -> bool:
    """Publish each run's messages and set its next run, both or neither.

    Returns whether a queue's configuration differs from the checked one.

    Of several workers that try the same run, one succeeds. Call this in an exclusive transaction: changes of a schedule
    or a queue read it first. `defaults` are the quotas of organizations without their own.
    """
    is_stale = False
    by_queue = attrgetter("queue")
    # Heads are locked in the order of their keys.
    for organization, of_organization in groupby(sorted(planned, key=by_queue), key=lambda each: each.queue[0]):
        owner = await organizations.get(tx, organization)
        # One budget for all runs of the organization: together they may not exceed its quotas.
        budget = await PublishBudget.of(tx, owner, now, defaults) if owner is not None else None
        for queue, group in groupby(of_organization, key=by_queue):
            state = await tx.row(_QUEUE_HEAD, *queue)
            if budget is None or state is None or state[1] is not None:
                for each in group:
                    await advance(tx, each.seen, None, None)
                continue
            current = list(group)
            # Messages that were checked against another configuration wait for the next round, which checks them again.
            fresh = [each for each in current if each.config_version == state[0]]
            is_stale |= len(fresh) < len(current)
            entries = await _advanced(tx, [_within(budget, each) for each in fresh])
            if entries and await append_directly(tx, queue, entries, now):
                await budget.report(tx, now, fresh[0].event_ids[1:])
    return is_stale


def _within(budget: PublishBudget, planned: PlannedRun) -> PlannedRun:
    """Return the run, without its messages if they exceed the budget."""
    if not budget.is_active:
        return planned.skipped("suspended")
    return planned if budget.take(planned.load) else planned.skipped("quota")


async def _advanced(tx: Transaction, planned: Sequence[PlannedRun]) -> list[NewEntry]:
    """Return the messages of the runs that no other worker has done."""
    entries: list[NewEntry] = []
    for each in planned:
        if await advance(tx, each.seen, each.next_run_at, each.last_run):
            entries += each.entries
            await _report_skipped(tx, each)
    return entries


async def _report_skipped(tx: Transaction, planned: PlannedRun) -> None:
    """Record the system event of a skipped run, unless it goes on what an event has reported."""
    seen, run, before = planned.seen, planned.last_run, planned.seen.last_run
    if run is None or not run.reason:
        return
    if before is not None and before.reason == run.reason and run.ran_at - before.ran_at < SKIPPED_AGAIN_MS:
        return
    queue = await queues.by_id(tx, seen.organization, seen.queue)
    if queue is not None:
        event = ScheduleSkipped(
            at=run.ran_at,
            schedule=ResourceName(seen.public_id, seen.alias),
            queue=ResourceName(queue.public_id, queue.alias),
            scheduled_at=run.scheduled_at,
            reason=run.reason,
        )
        await system_events.record(tx, seen.organization, planned.event_ids[0], event)
