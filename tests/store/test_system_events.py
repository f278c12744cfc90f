"""System events are stored with what they report, on every engine."""

import asyncio
from functools import partial
from typing import Any

import msgspec
import pytest

from discue.dispatch.lane.cursor_state import CursorState
from discue.domain import system_events as domain_events
from discue.domain.ids import row_id_at
from discue.domain.listener_health import Liveness
from discue.domain.lockout import FAILURES, LockoutSubject
from discue.domain.messages import decode_options
from discue.domain.model import Listener
from discue.domain.quotas import QuotaName, Quotas
from discue.domain.schedule import ScheduleRun, SkipReason
from discue.domain.system_events import EVENTS, SYSTEM_QUEUE_ALIAS, QuotaNear
from discue.store import (
    api_keys,
    cursors,
    listeners,
    lockouts,
    messages,
    missed,
    queues,
    schedules,
    system_events,
    tallies,
)
from discue.store.engine import NewEntry, NewMisses
from discue.store.events import EventQuery, Occurrence, find
from discue.store.listeners import HealthRecord, ListenerHealth
from discue.store.pagination import FIRST_PAGE
from discue.store.schedules import PlannedRun
from discue.store.store import Store
from tests.store.rows import (
    a_key,
    a_queue,
    a_schedule,
    a_settle,
    head_of,
    public_id,
    publish,
    row_id,
    settled,
    stored_listener,
    stored_organization,
    stored_queue,
    take_all,
)
from tests.support.clocks import NOON

OURS = row_id(1)
SYSTEM = msgspec.structs.replace(a_queue(OURS, 5, SYSTEM_QUEUE_ALIAS), is_system=True)
MINUTE = 60_000
_EVENT_IDS = (row_id(100), row_id(101), row_id(102))


@pytest.fixture
def listener(runner: asyncio.Runner, store: Store) -> Listener:
    """A listener of a queue, in an organization that has a system queue."""
    return runner.run(_listener(store))


async def _listener(store: Store) -> Listener:
    await stored_organization(store, 1)
    await store.write(partial(queues.insert, queue=SYSTEM))
    return await stored_listener(store, await stored_queue(store, OURS, 10), 11)


async def events_of(store: Store) -> list[dict[str, Any]]:
    page = await store.page(OURS, SYSTEM.id, 0, 1_000, max_bytes=1 << 20)
    events = [msgspec.json.decode(entry.body) for entry in page.entries]
    assert [decode_options(entry.extra).type for entry in page.entries] == [event["type"] for event in events]
    return events


def names(listener: Listener) -> dict[str, Any]:
    return {
        "listener": {"id": listener.public_id, "alias": listener.alias},
        "queue": {"id": listener.queue_public_id, "alias": "queue-10"},
    }


async def _disable(store: Store, listener: Listener, version: int = 1) -> bool:
    disable = partial(
        listeners.disable,
        organization=OURS,
        listener=listener.id,
        config_version=version,
        disabled_by="gone",
        occurrence=Occurrence(row_id(100), ""),
    )
    return await store.write(disable)


async def test_a_listener_that_the_service_disables_is_reported_once(store: Store, listener: Listener) -> None:
    assert not await _disable(store, listener, version=7)
    assert await _disable(store, listener)
    assert not await _disable(store, listener)
    assert await events_of(store) == [
        {"type": "listener.disabled", "at": NOON + 100, "reason": "gone", **names(listener)}
    ]


async def test_an_event_is_a_message_that_counts_towards_no_quota_and_was_added_by_no_client(
    store: Store, listener: Listener
) -> None:
    await _disable(store, listener)
    [message] = (await store.read(partial(messages.page_of_queue, queue=SYSTEM, selection=FIRST_PAGE))).items
    assert message.alias == "listener.disabled"
    assert (await head_of(store, SYSTEM)).last_stored_at == NOON + 100
    assert await store.read(partial(tallies.bytes_stored, organization=OURS)) == 0
    periods = range(tallies.period_of(NOON), tallies.period_of(NOON) + 2)
    assert await store.read(partial(tallies.count_messages, organization=OURS, periods=periods)) == 0
    found = await store.read(partial(find, wanted=EventQuery(OURS, "", 10)))
    assert [event.type for event in found.events] == ["listener_updated"]
    assert await store.read(partial(tallies.count_resources, organization=OURS, name="queues", at_most=9)) == 1


async def test_an_organization_without_a_system_queue_gets_no_events(store: Store) -> None:
    await stored_organization(store, 1)
    ordinary = await stored_queue(store, OURS, 10)
    await store.write(partial(queues.insert, queue=a_queue(OURS, 12, SYSTEM_QUEUE_ALIAS)))
    listener = await stored_listener(store, ordinary, 11)
    assert await _disable(store, listener)
    assert await store.read(lambda tx: tx.row("SELECT count(*) FROM log")) == (0,)


async def test_events_beyond_the_limit_are_dropped(
    store: Store, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = domain_events.MAX_STORED
    await store.write(lambda tx: tx.execute("UPDATE queue_head SET head = $1 WHERE queue = $2", full, SYSTEM.id))
    assert await _disable(store, listener)
    assert await events_of(store) == []
    await store.write(lambda tx: tx.execute("UPDATE queue_head SET tail = 1 WHERE queue = $1", SYSTEM.id))
    event = QuotaNear(at=NOON, quota="queues", limit=10, used=8)
    await store.write(partial(system_events.record, organization=OURS, event_id=row_id(101), event=event))
    assert [event["type"] for event in await events_of(store)] == ["quota.near"]


async def test_a_listener_that_becomes_inactive_or_recovers_is_reported_by_the_owner_of_its_cursor(
    store: Store, listener: Listener
) -> None:
    await store.write(lambda tx: take_all(tx, 77))
    of = partial(cursors.lanes_of, owner=77, organization=OURS, listener=listener.id)
    [lane] = await store.read(of)

    async def write(state: Any, token: int, event_id: int) -> None:
        known = ListenerHealth(Liveness(state, last_failure_status=503, last_failure_msg="answered 503"))
        record = HealthRecord(OURS, listener.id, token, listener.liveness_url, 1, known, event_id)
        await store.write(partial(listeners.write_health, records=[record]))

    await write("inactive", lane.token - 1, row_id(100))
    assert await events_of(store) == []
    await write("inactive", lane.token, row_id(101))
    await write("inactive", lane.token, 0)
    await write("unstable", lane.token, row_id(102))
    failure = {"last_failure_status": 503, "last_failure_msg": "answered 503"}
    assert await events_of(store) == [
        {"type": "listener.inactive", "at": NOON + 101, **failure, **names(listener)},
        {"type": "listener.recovered", "at": NOON + 102, "was": "inactive", **names(listener)},
    ]


async def test_a_key_that_is_locked_out_is_reported_to_its_organization(store: Store, listener: Listener) -> None:
    await store.write(partial(api_keys.insert, made=a_key(OURS, 7)))
    for subject in (LockoutSubject.api_key(public_id(7), "192.0.2.1"), LockoutSubject.unknown_key("192.0.2.1")):
        for number in range(FAILURES):
            occurrence = Occurrence(row_id(100 + number), "")
            count = partial(lockouts.count_failure, subject=subject, now=NOON, occurrence=occurrence)
            await store.write_exclusively(count)
    [event] = await events_of(store)
    assert (event["type"], event["key"]) == ("key.locked_out", {"id": public_id(7), "alias": "key-7"})
    assert (event["address"], event["locked_until"]) == ("192.0.2.1", NOON + MINUTE)


@pytest.mark.parametrize(
    ("before", "reported"),
    [
        (None, True),
        (ScheduleRun(NOON - MINUTE, NOON - MINUTE, public_id(3)), True),
        (ScheduleRun(NOON - MINUTE, NOON - MINUTE, reason="quota"), True),
        (ScheduleRun(NOON - MINUTE, NOON - MINUTE, reason="schema"), False),
        (ScheduleRun(NOON - 60 * MINUTE, NOON - 60 * MINUTE, reason="schema"), True),
    ],
)
async def test_the_first_of_a_series_of_skipped_runs_is_reported(
    store: Store, listener: Listener, before: ScheduleRun | None, *, reported: bool
) -> None:
    queue = a_queue(OURS, 10)
    made = a_schedule(queue, 50, next_run_at=NOON, last_run=before)
    await store.write(partial(schedules.insert, schedule=made))
    reason: SkipReason = "schema"
    planned = PlannedRun(made, 1, (), ScheduleRun(NOON, NOON, reason=reason), NOON + MINUTE, _EVENT_IDS)
    for _ in range(2):
        await store.write_exclusively(partial(schedules.run, planned=[planned], now=NOON))
    expected = {
        "type": "schedule.skipped",
        "at": NOON,
        "schedule": {"id": made.public_id, "alias": made.alias},
        "queue": names(listener)["queue"],
        "scheduled_at": NOON,
        "reason": "schema",
    }
    assert await events_of(store) == [expected] * reported


async def test_a_quota_that_the_runs_of_schedules_use_is_reported(store: Store, listener: Listener) -> None:
    quotas, made = Quotas(messages_a_day=5), a_schedule(a_queue(OURS, 10), 50, next_run_at=NOON)
    await store.write(partial(schedules.insert, schedule=made))
    entries = tuple(NewEntry(public_id(300 + number), True, b"1") for number in range(4))
    planned = PlannedRun(made, 1, entries, ScheduleRun(NOON, NOON, entries[-1].id), NOON + MINUTE, _EVENT_IDS)
    await store.write_exclusively(partial(schedules.run, planned=[planned], now=NOON, defaults=quotas))
    near = {"type": "quota.near", "at": NOON, "quota": "messages_a_day", "limit": 5, "used": 4}
    assert await events_of(store) == [near]


async def _miss(store: Store, listener: Listener, version: int, since: int, **by_reason: int) -> None:
    new = NewMisses(since, sum(by_reason.values()), by_reason)
    assert await settled(store, a_settle(listener, version=version, new_misses=new)) == [True]


async def _report(store: Store, now: int, number: int) -> int:
    ids = [row_id(number), row_id(number + 1)]
    return len(await store.write_exclusively(partial(missed.report, now=now, event_ids=ids)))


async def _next_at(store: Store) -> int | None:
    return await store.read(missed.next_report_at)


async def test_missed_messages_are_reported_once_a_minute_with_their_number(store: Store, listener: Listener) -> None:
    assert await _next_at(store) is None
    await _miss(store, listener, 0, NOON, expired=2)
    await _miss(store, listener, 1, NOON + 5, expired=1, attempts_used_up=4)
    assert await _next_at(store) == NOON
    assert await _report(store, NOON + 9, 100) == 1
    first = {"type": "message.missed", "at": NOON + 9, "count": 7, "since": NOON, "message_ids": []}
    expected = [{**first, "reasons": {"attempts_used_up": 4, "expired": 3}, **names(listener)}]
    assert await events_of(store) == expected
    await _miss(store, listener, 2, NOON + 20, too_old=1)
    await _miss(store, listener, 3, NOON + 30, too_old=1)
    assert await _next_at(store) == NOON + 9 + MINUTE
    assert await _report(store, NOON + 8 + MINUTE, 110) == 0
    assert await _report(store, NOON + 9 + MINUTE, 120) == 1
    second = {**first, "at": NOON + 9 + MINUTE, "count": 2, "since": NOON + 20, "reasons": {"too_old": 2}}
    assert await events_of(store) == [*expected, {**second, **names(listener)}]
    # Nothing is left once a minute has passed without a miss.
    assert await _report(store, NOON + 9 + 2 * MINUTE, 130) == 0
    assert await _next_at(store) is None
    assert len(await events_of(store)) == 2


async def test_a_settle_that_is_refused_counts_no_missed_message(store: Store, listener: Listener) -> None:
    new = NewMisses(NOON, 1, {"expired": 1})
    assert await settled(store, a_settle(listener, version=1, new_misses=new)) == [False]
    assert await _next_at(store) is None


async def test_a_report_names_the_newest_missed_messages(store: Store, listener: Listener) -> None:
    queue = a_queue(OURS, 10)
    ids = [public_id(200 + number) for number in range(12)]
    await publish(store, queue, ids)
    await store.write(lambda tx: take_all(tx, 77))
    of = partial(cursors.lanes_of, owner=77, organization=OURS, listener=listener.id)
    [lane] = await store.read(of)
    cursor = CursorState(lane)
    cursor.miss_range(1, 12, "expired", NOON)
    assert await store.settle(cursor.take())
    await _report(store, NOON, 100)
    [event] = await events_of(store)
    assert (event["count"], event["message_ids"]) == (12, ids[:1:-1])


async def test_missed_system_events_are_not_reported(store: Store, listener: Listener) -> None:
    alarm = await stored_listener(store, SYSTEM, 20)
    await _miss(store, alarm, 0, NOON, expired=1)
    assert await _report(store, NOON, 100) == 0
    assert await events_of(store) == []
    await _miss(store, listener, 0, NOON, expired=1)
    await store.write(partial(listeners.mark_deleted, organization=OURS, listener=listener.id, now=NOON))
    assert await _report(store, NOON, 100) == 0
    assert await events_of(store) == []


async def test_a_publishing_quota_is_reported_once_a_day(store: Store, listener: Listener) -> None:
    quotas: tuple[QuotaName, ...] = ("messages_a_day", "bytes_stored")
    for at in (NOON, NOON + 1, NOON + 86_400_000):
        for number, quota in enumerate(quotas):
            event = QuotaNear(at=at, quota=quota, limit=10, used=8)
            event_id = row_id_at(at) + number
            record = partial(system_events.record_quota, organization=OURS, event_id=event_id, event=event)
            await store.write(record)
    found = [(event["quota"], event["at"] - NOON) for event in await events_of(store)]
    assert found == [(quota, at) for at in (0, 86_400_000) for quota in quotas]


def test_every_event_of_the_contract_has_a_schema() -> None:
    assert {domain_events.type_of(event) for event in EVENTS} == {
        "listener.disabled",
        "listener.inactive",
        "listener.recovered",
        "message.missed",
        "source.refusing",
        "key.locked_out",
        "quota.near",
        "domain.verified",
        "domain.lost",
        "schedule.skipped",
        "store.damaged",
        "egress_proxy.failing",
    }
