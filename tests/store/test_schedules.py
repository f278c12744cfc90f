"""Schedules with a clock that stands still: each run happens once, whichever workers try."""

import asyncio
from dataclasses import replace
from functools import partial

import msgspec
import pytest

from discue.config.settings import Settings
from discue.dispatch.jobs.scheduler import ScheduleRuns
from discue.domain.headers import SCHEDULE_HEADER, SCHEDULED_AT_HEADER
from discue.domain.ids import PublicIds
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import Entry, MessageOptions, decode_options, hash_key
from discue.domain.model import EventType, Queue
from discue.domain.schedule import LATE_MS, MissedRunPolicy, Schedule, ScheduleRun, SkipReason, Timing
from discue.store import event_types, feed, organizations, queues, schedules, tallies
from discue.store.engine import Transaction
from discue.store.schedules import PlannedRun
from discue.store.store import Store
from tests.store.rows import a_schedule, head_of, public_id, row_id, stored_organization, stored_queue
from tests.support.cast import control_of
from tests.support.clocks import NOON, StandingClock
from tests.support.tallied import drift

OURS = row_id(1)
MINUTE = 60_000
FIRST = NOON // MINUTE * MINUTE + MINUTE


class World:
    """An organization with a queue, and who runs its schedules."""

    def __init__(self, store: Store, queue: Queue, settings: Settings) -> None:
        self.store = store
        self.queue = queue
        self.clock = StandingClock()
        self._random = iter(range(1, 1_000_000))
        ids = PublicIds(self.clock, lambda count: next(self._random).to_bytes(count, "big"))
        control = replace(control_of(store, self.clock), public_ids=ids, settings=settings)
        self.cache, self.runs = control.cache, ScheduleRuns(control)

    async def schedule(self, number: int = 50, **changes: object) -> Schedule:
        """Store a schedule that waits for the next minute, unless the changes say otherwise."""
        made = a_schedule(self.queue, number, **{"next_run_at": FIRST, **changes})
        await self.store.write(partial(schedules.insert, schedule=made))
        return made

    async def run(self, now: int) -> None:
        self.clock.advance(now - self.clock.now())
        await self.runs.run_due()

    async def published(self) -> list[Entry]:
        return list((await self.store.page(OURS, self.queue.id, 0, 1_000, max_bytes=1 << 20)).entries)

    async def found(self, schedule: Schedule) -> Schedule:
        stored = await self.store.read(partial(schedules.get, organization=OURS, public_id=schedule.public_id))
        assert stored is not None
        return stored

    async def change_queue(self, **changes: object) -> None:
        self.queue = msgspec.structs.replace(self.queue, config_version=self.queue.config_version + 1, **changes)
        await self.store.write(partial(queues.update, queue=self.queue))


@pytest.fixture
def world(store: Store, runner: asyncio.Runner) -> World:
    return runner.run(_world(store, Settings()))


async def _world(store: Store, settings: Settings) -> World:
    await stored_organization(store, 1)
    made = World(store, await stored_queue(store, OURS, 10), settings)
    await made.cache.open()
    return made


async def test_a_run_publishes_a_message_and_the_next_one_is_waited_for(world: World) -> None:
    made = await world.schedule(
        options=MessageOptions(headers=(("x-a", "b"),), key="k", type="report.due"), expires_in=60
    )
    await world.run(FIRST - 1)
    assert await world.published() == []
    await world.run(FIRST + 3)
    await world.run(FIRST + 3)
    [entry] = await world.published()
    assert (entry.seq, entry.body, entry.codec, entry.stored_at) == (1, b'{"n":1}', JSON_VALUE, FIRST + 3)
    assert (entry.expires_at, entry.key_hash) == (FIRST + 60_003, hash_key("k"))
    assert decode_options(entry.extra).type == "report.due"
    assert dict(decode_options(entry.extra).headers) == {
        "x-a": "b",
        SCHEDULE_HEADER: made.public_id,
        SCHEDULED_AT_HEADER: str(FIRST),
    }
    stored = await world.found(made)
    assert (stored.next_run_at, stored.last_run) == (FIRST + MINUTE, ScheduleRun(FIRST, FIRST + 3, entry.id))
    assert (await world.store.engine.poll(())).scheduled_at == FIRST + MINUTE


async def test_a_run_counts_as_any_message_does(world: World) -> None:
    made = await world.schedule()
    await world.run(FIRST)
    head = await head_of(world.store, world.queue)
    assert (head.published_count, head.last_stored_at) == (1, FIRST)
    counts = await world.store.read(lambda tx: tallies.since(tx, OURS, 1))
    assert [(kind, n) for _, kind, n in counts] == [(tallies.MESSAGE_ADDED, 1)]
    [entry] = await world.published()
    expected = len(entry.body) + len(entry.extra) + schedules.size_of(made)
    assert await world.store.read(lambda tx: tallies.bytes_stored(tx, OURS)) == expected
    assert await world.store.read(drift) == {}


async def test_one_of_many_workers_runs_a_schedule(world: World) -> None:
    for number in range(50, 90):
        await world.schedule(number)
    world.clock.advance(FIRST - NOON)
    await asyncio.gather(*[world.runs.run_due() for _ in range(4)])
    assert [entry.seq for entry in await world.published()] == list(range(1, 41))
    assert len({decode_options(entry.extra).headers[0] for entry in await world.published()}) == 40
    assert await world.store.read(schedules.next_publish_at) == FIRST + MINUTE


async def test_schedule_changed_since_it_was_read_does_not_run(world: World) -> None:
    made = await world.schedule()
    for changed in (
        msgspec.structs.replace(made, config_version=2),
        msgspec.structs.replace(made, config_version=2, status="disabled", next_run_at=None),
    ):
        await world.store.write(partial(schedules.update, schedule=changed))
        planned = PlannedRun(made, 1, (), None, None, (1, 2, 3))
        await world.store.write_exclusively(partial(schedules.run, planned=[planned], now=FIRST))
        assert await world.found(made) == changed


@pytest.mark.parametrize(
    ("missed", "expected"),
    [(MissedRunPolicy(), 1), (MissedRunPolicy("catch_up", 3), 3), (MissedRunPolicy("catch_up", 99), 5)],
)
async def test_recently_missed_runs_follow_the_policy(world: World, missed: MissedRunPolicy, expected: int) -> None:
    made = await world.schedule(missed=missed)
    await world.run(FIRST + 4 * MINUTE + 1)
    headers = [dict(decode_options(entry.extra).headers) for entry in await world.published()]
    assert [each[SCHEDULED_AT_HEADER] for each in headers] == [str(FIRST + n * MINUTE) for n in range(5 - expected, 5)]
    last_run = (await world.found(made)).last_run
    assert last_run == ScheduleRun(FIRST + 4 * MINUTE, FIRST + 4 * MINUTE + 1, (await world.published())[-1].id)


async def test_a_run_that_is_late_is_skipped_and_says_so(world: World) -> None:
    made = await world.schedule(timing=Timing("0 0 * * *"))
    now = FIRST + LATE_MS + 1
    timing = Timing(f"{FIRST // MINUTE % 60} {FIRST // (60 * MINUTE) % 24} * * *")
    await world.store.write(partial(schedules.update, schedule=msgspec.structs.replace(made, timing=timing)))
    await world.run(now)
    assert await world.published() == []
    stored = await world.found(made)
    assert stored.last_run == ScheduleRun(FIRST, now, reason="late")
    assert stored.next_run_at == FIRST + 24 * 60 * MINUTE


async def test_ended_schedule_has_no_next_run(world: World) -> None:
    made = await world.schedule(timing=Timing("* * * * *", ends_at=FIRST + 1))
    await world.run(FIRST)
    assert (await world.found(made)).next_run_at is None
    assert await world.store.read(schedules.next_publish_at) is None
    assert (await world.store.engine.poll(())).scheduled_at is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"schema": '{"n":{"type":"string"}}', "schema_id": "x"}, "schema"), ({"max_message_bytes": 6}, "too_large")],
)
async def test_run_that_its_queue_rejects_is_skipped_with_a_reason(
    world: World, change: dict[str, object], reason: SkipReason
) -> None:
    made = await world.schedule()
    await world.run(FIRST)
    await world.change_queue(**change)
    await world.run(FIRST + MINUTE)
    # The directory does not know yet: what was checked against the queue of before is checked again.
    assert (await world.found(made)).next_run_at == FIRST + MINUTE
    await world.cache.reset()
    await world.run(FIRST + MINUTE)
    assert len(await world.published()) == 1
    stored = await world.found(made)
    assert stored.last_run == ScheduleRun(FIRST + MINUTE, FIRST + MINUTE, reason=reason)
    assert stored.next_run_at == FIRST + 2 * MINUTE


async def test_run_with_an_event_type_that_was_just_deleted_is_skipped(world: World) -> None:
    paid = EventType(OURS, row_id(17), public_id(17), "order.paid", "enabled", 0, 0)
    settings = '{"require_known_types":true}'

    async def require(tx: Transaction) -> None:
        await tx.execute("UPDATE organization SET settings = $1 WHERE id = $2", settings, OURS)
        await event_types.insert(tx, paid)

    async def delete(tx: Transaction) -> None:
        await event_types.delete(tx, OURS, paid.id)
        await feed.record(tx, "event_type", OURS, paid.id)

    await world.store.write(require)
    await world.cache.reset()
    made = await world.schedule(options=MessageOptions(type="order.paid"))
    await world.run(FIRST)
    await world.store.write(delete)
    await world.run(FIRST + MINUTE)
    assert len(await world.published()) == 1
    assert (await world.found(made)).last_run == ScheduleRun(FIRST + MINUTE, FIRST + MINUTE, reason="schema")


async def test_an_organization_that_may_publish_no_more_skips_its_runs(store: Store) -> None:
    world = await _world(store, Settings(quota_messages_a_day=1))
    one, other = await world.schedule(50), await world.schedule(51)
    await world.run(FIRST)
    assert len(await world.published()) == 1
    reasons = [(await world.found(each)).last_run for each in (one, other)]
    assert [run.reason for run in reasons if run is not None] == ["", "quota"]


async def test_a_suspended_organization_skips_its_runs(world: World) -> None:
    made = await world.schedule()
    owner = await world.store.read(partial(organizations.get, organization=OURS))
    assert owner is not None
    suspended = msgspec.structs.replace(owner, state="suspended")
    await world.store.write(partial(organizations.update, organization=suspended))
    await world.run(FIRST)
    stored = await world.found(made)
    assert (await world.published(), stored.last_run) == ([], ScheduleRun(FIRST, FIRST, reason="suspended"))
    assert stored.next_run_at == FIRST + MINUTE


async def test_schedule_of_a_deleted_queue_does_not_run(world: World) -> None:
    await world.schedule()
    await world.store.write(lambda tx: queues.mark_deleted(tx, OURS, world.queue.id, NOON))
    await world.run(FIRST)
    assert await world.published() == []
    assert await world.store.read(schedules.next_publish_at) is None


async def test_a_time_zone_that_is_not_known_any_more_stops_a_schedule(world: World) -> None:
    made = await world.schedule(timing=Timing("* * * * *", "Mars/Olympus"))
    await world.run(FIRST)
    stored = await world.found(made)
    assert (stored.next_run_at, stored.last_run) == (None, ScheduleRun(FIRST, FIRST, reason="time_zone"))


async def test_one_step_takes_no_more_than_a_commit_should(world: World) -> None:
    for number in range(50, 50 + schedules.SCHEDULES_A_STEP + 1):
        await world.schedule(number, missed=MissedRunPolicy("catch_up", 10))
    await world.run(FIRST + 9 * MINUTE)
    assert len(await world.published()) == 500
    while await world.store.read(schedules.next_publish_at) == FIRST:
        await world.runs.run_due()
    assert len((await world.store.page(OURS, world.queue.id, 0, 2_000, max_bytes=1 << 20)).entries) == 1_010


async def test_due_schedules_of_organizations_alternate(world: World) -> None:
    for number in range(50, 54):
        await world.schedule(number)
    for organization, number in ((OURS + 1, 60), (OURS + 1, 61), (OURS + 2, 70)):
        await world.schedule(number, organization=organization)
    due = await world.store.read(partial(schedules.due, now=FIRST))
    ours, other, third = OURS, OURS + 1, OURS + 2
    assert [organization for organization, _ in due] == [ours, other, third, ours, other, ours, ours]
    assert await world.store.read(partial(schedules.due, now=FIRST - 1)) == []


async def test_one_step_publishes_few_bytes(world: World) -> None:
    made = [await world.schedule(number, data=b'"%s"' % (b"x" * 100_000)) for number in range(50, 54)]
    keys = [(each.organization, each.id) for each in made]
    assert await world.store.read(partial(schedules.read_due, keys=keys, now=FIRST)) == made[:2]


async def test_schedule_that_is_not_due_any_more_is_not_read(world: World) -> None:
    due, later = await world.schedule(50), await world.schedule(51, next_run_at=FIRST + 1)
    keys = [(OURS, later.id), (OURS, 99), (OURS, due.id)]
    assert await world.store.read(partial(schedules.read_due, keys=keys, now=FIRST)) == [None, None, due]
