"""Usage events come from the rows of three tables, in one order, and cost a page of each."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import pytest

from discue.domain.attempts import Attempt
from discue.domain.errors import TooManyRequests
from discue.domain.ids import event_id_of, last_id_of
from discue.domain.model import Listener, Queue
from discue.store import events, listeners, messages, queues, tallies
from discue.store.engine import Settle
from discue.store.events import EventBatch, EventQuery, Occurrence, UsageEvent, find
from discue.store.store import Store
from discue.store.tallies import EventKind
from tests.store.rows import public_id, publish, row_id, stored_listener, stored_message, stored_queue, take_all
from tests.support.clocks import NOON

OURS, THEIRS = row_id(1), row_id(2)
OWNER = 77
OUR_KEY = Occurrence(0, public_id(1))
START = last_id_of(NOON)
"""Everything in these tests happens later."""


async def found(store: Store, **wanted: object) -> list[UsageEvent]:
    return list((await searched(store, **wanted)).events)


async def searched(store: Store, **wanted: object) -> EventBatch:
    fields = {"organization": OURS, "after": START, "limit": 100, **wanted}
    return await store.read(lambda tx: find(tx, EventQuery(**fields)))  # type: ignore[arg-type]


def told(events_found: Iterable[UsageEvent]) -> list[tuple[int, str, str]]:
    """When (milliseconds after noon), what, to whom."""
    return [(event.stored_at - NOON, event.type, event.name) for event in events_found]


async def record(
    store: Store,
    number: int,
    kind: EventKind,
    name: str = "orders",
    organization: int = OURS,
    changes: tuple[str, ...] = (),
    author: Occurrence = OUR_KEY,
) -> None:
    occurrence = author._replace(id=row_id(number))
    await store.write(
        lambda tx: events.record(
            tx, occurrence, kind, organization, ref=public_id(number, "r"), name=name, changes=changes
        )
    )


async def attempt(store: Store, listener: Listener, numbers: Iterable[int], seq: int = 1, error: str = "") -> None:
    """Attempts that ended then."""
    made = tuple(
        Attempt(row_id(number), listener.organization, listener.id, listener.queue, seq, 1, 200, error, 1)
        for number in numbers
    )
    sql = "SELECT token, version FROM cursor WHERE organization = $1 AND listener = $2"
    [(token, version)] = await store.read(lambda tx: tx.rows(sql, listener.organization, listener.id))
    place = (listener.organization, listener.id, 0, listener.queue, token, version)
    assert await store.settle(Settle(*place, 0, None, 0, 0, 0, 0, 0, made))


async def a_queue_with_traffic(store: Store) -> tuple[Queue, Listener]:
    """Two messages, published at 20 and 21; the first one attempted at 30 in vain and at 40 well."""
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 11)
    await store.write(lambda tx: take_all(tx, OWNER))
    await publish(store, queue, [public_id(20), public_id(21)])
    await attempt(store, listener, [30], error="status")
    await attempt(store, listener, [40])
    return queue, listener


async def test_events_of_all_sources_come_newest_first_in_one_order(store: Store) -> None:
    _, listener = await a_queue_with_traffic(store)
    await record(store, 15, "queue_updated", changes=("name", "retention"))
    await record(store, 35, "api_key_deleted", "key-1")
    everything = await found(store)
    assert told(everything) == [
        (40, "message_published_ok", public_id(20)),
        (35, "api_key_deleted", "key-1"),
        (30, "message_published_not_ok", public_id(20)),
        (21, "message_added", public_id(21)),
        (20, "message_added", public_id(20)),
        (15, "queue_updated", "orders"),
    ]
    assert [each.changes for each in everything if each.changes] == [("name", "retention")]
    assert [event.id for event in everything] == sorted((event.id for event in everything), reverse=True)
    assert everything[0] == UsageEvent(
        event_id_of(row_id(40)),
        "message_published_ok",
        "message",
        public_id(20),
        public_id(20),
        listener=(listener.public_id, listener.alias),
    )
    assert everything[1].client == public_id(1)
    assert everything[3].id == public_id(21)
    assert await found(store, limit=2) == everything[:2]
    assert await found(store, oldest_first=True) == everything[::-1]
    assert await found(store, oldest_first=True, limit=4) == everything[:1:-1]


async def test_events_continue_after_any_event(store: Store) -> None:
    await a_queue_with_traffic(store)
    for number in (15, 25, 35):
        await record(store, number, "queue_updated")
    everything = await found(store, oldest_first=True)
    for place, event in enumerate(everything):
        assert await found(store, oldest_first=True, after=event.id) == everything[place + 1 :]
        assert await found(store, after=event.id) == everything[:place:-1]
        assert await found(store, below=event.id) == everything[:place][::-1]
        between = public_id(int(event.stored_at - NOON))
        assert await found(store, below=between) == [each for each in reversed(everything) if each.id < between]


async def test_events_can_be_limited_to_resources(store: Store) -> None:
    await a_queue_with_traffic(store)
    await record(store, 50, "queue_added", "mine")
    await record(store, 51, "queue_added", "other")
    only = {public_id(50, "r"), public_id(20), public_id(99)}
    mine = await found(store, only=only)
    assert told(mine) == [
        (50, "queue_added", "mine"),
        (40, "message_published_ok", public_id(20)),
        (30, "message_published_not_ok", public_id(20)),
        (20, "message_added", public_id(20)),
    ]
    assert await found(store, only=only, oldest_first=True, after=mine[2].id) == mine[1::-1]
    assert await found(store, only=only, limit=1) == mine[:1]
    assert await found(store, only=only, below=mine[1].id) == mine[2:]
    assert await found(store, only=only, topic="queues") == mine[:1]
    assert await found(store, only=only, topic="messages") == mine[1:]


async def test_deletion_hides_the_events_of_messages_and_attempts(store: Store) -> None:
    queue, listener = await a_queue_with_traffic(store)
    message = await stored_message(store, queue, public_id(20))
    await store.write(lambda tx: messages.delete(tx, message))
    assert told(await found(store)) == [(21, "message_added", public_id(21))]
    await attempt(store, listener, [60], seq=2)
    assert len(await found(store)) == 2
    await store.write(lambda tx: listeners.mark_deleted(tx, OURS, listener.id, NOON))
    assert told(await found(store)) == [(21, "message_added", public_id(21))]
    await store.write(lambda tx: queues.mark_deleted(tx, OURS, queue.id, NOON))
    assert await found(store) == []
    assert await found(store, only={public_id(21)}) == []


@pytest.fixture
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_A_PERIOD", 2)
    monkeypatch.setattr(events, "MOST_BEYOND", 1)


@pytest.mark.usefixtures("low_limits")
async def test_changes_of_who_has_access_are_recorded_or_refused(store: Store) -> None:
    kinds: tuple[EventKind, ...] = (
        *("api_key_updated", "organization_updated", "user_updated"),
        *("second_factor_added", "session_added"),
    )
    cheap: tuple[EventKind, ...] = ("lockout", "listener_updated", "portal_session_added", "portal_session_deleted")
    for number, kind in enumerate(cheap * 5):
        await record(store, 1 + number, kind)
    for number, kind in enumerate(kinds):
        for each in range(3):
            await record(store, 100 + 10 * number + each, kind)
        with pytest.raises(TooManyRequests, match=f"2 events `{kind}` can happen, and 1 more by each") as refused:
            await record(store, 105 + 10 * number, kind)
        assert refused.value.retry_after_seconds == (tallies.PERIOD_MS - NOON % tallies.PERIOD_MS) // 1_000
        await record(store, 106 + 10 * number, kind, author=Occurrence(0, public_id(2)))
        await record(store, 107 + 10 * number, kind, author=Occurrence(0, "", public_id(1, "u")))
        await record(store, 108 + 10 * number, kind, organization=THEIRS)

    listed = Counter(event.type for event in await found(store))
    assert listed == {
        **dict.fromkeys(kinds, 5),
        "lockout": 3,
        "listener_updated": 3,
        "portal_session_added": 5,
        "portal_session_deleted": 5,
    }
    counted = await store.read(lambda tx: tallies.since(tx, OURS, 1))
    assert {kind: n for _, kind, n in counted} == {tallies.EVENT_KINDS[kind]: 5 for kind in (*kinds, *cheap)}
    later = tallies.PERIOD_MS
    for number, kind in enumerate(kinds):
        await record(store, later + number, kind)
    assert [event.type for event in (await found(store))[: len(kinds)]] == list(reversed(kinds))


@pytest.mark.usefixtures("low_limits")
async def test_events_that_no_quota_limits_are_bounded_in_five_minutes(store: Store) -> None:
    for number in range(1, 6):
        await record(store, number, "lockout")
        await record(store, number, "queue_deleted", organization=THEIRS)
    await record(store, 6, "session_added")
    assert [event.type for event in await found(store)] == ["session_added", *["lockout"] * 3]
    assert len(await found(store, organization=THEIRS)) == 5
    counted = await store.read(lambda tx: tallies.since(tx, OURS, 1))
    assert {(kind, n) for _, kind, n in counted} == {
        (tallies.EVENT_KINDS["lockout"], 5),
        (tallies.EVENT_KINDS["session_added"], 1),
    }
    later = tallies.PERIOD_MS + 5
    await record(store, later, "lockout")
    assert (await found(store))[0].stored_at == NOON + later


@pytest.mark.usefixtures("low_limits")
async def test_changes_of_each_kind_of_resource_are_bounded(store: Store) -> None:
    changes = [kind for kind in tallies.EVENT_KINDS if kind.endswith("_updated")]
    for number, kind in enumerate(changes * 4):
        with suppress(TooManyRequests):
            await record(store, 1 + number, kind)
    assert Counter(event.type for event in await found(store)) == dict.fromkeys(changes, 3)


@pytest.mark.usefixtures("low_limits")
async def test_flood_of_changes_by_one_author_hides_no_change_of_another(store: Store) -> None:
    sessions = [Occurrence(0, "", public_id(number), customer="acme") for number in (31, 32)]
    for number in range(6):
        await record(store, 1 + number, "listener_updated", author=sessions[number % 2])
    others = (Occurrence(0, "", public_id(33), customer="globex"), Occurrence(0, public_id(2)), Occurrence(0, ""))
    for number, other in enumerate(others):
        await record(store, 10 + number, "listener_updated", author=other)
    assert [event.user or event.client for event in reversed(await found(store))] == [
        *(public_id(number) for number in (31, 32, 31, 33, 2)),
        "",
    ]


@pytest.mark.parametrize("kind", ["listener_updated", "api_key_updated"])
async def test_authors_with_many_keys_fill_the_log_hardly_faster_than_with_one(
    store: Store, kind: EventKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_A_PERIOD", 10)
    monkeypatch.setattr(events, "MOST_BEYOND", 1)
    for number in range(60):
        with suppress(TooManyRequests):
            await record(store, 1 + number, kind, author=Occurrence(0, public_id(1 + number % 5)))
    assert len(await found(store)) == 10 + 5


@pytest.mark.usefixtures("low_limits")
async def test_events_of_the_command_line_are_never_refused(store: Store) -> None:
    for number in range(4):
        await record(store, 1 + number, "api_key_updated", author=Occurrence(0, ""))
    assert [event.type for event in await found(store)] == ["api_key_updated"] * 4


async def test_event_shows_the_current_name_of_its_message(store: Store) -> None:
    queue, _ = await a_queue_with_traffic(store)
    message = await stored_message(store, queue, public_id(20))
    await store.write(lambda tx: messages.set_alias(tx, message, "order-17", NOON))
    assert {event.name for event in await found(store) if event.ref == public_id(20)} == {"order-17"}


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_ROWS_A_STEP", 3)
    monkeypatch.setattr(events, "_PASSED", 6)


@pytest.mark.usefixtures("short_search")
async def test_stopped_search_reports_its_end(store: Store) -> None:
    """A reader that continues there misses nothing, however many deleted resources there are."""
    gone, queue = [await stored_queue(store, OURS, number) for number in (10, 11)]
    await publish(store, gone, [public_id(number) for number in range(20, 60)])
    await publish(store, queue, [public_id(60)])
    for number in (15, 33, 57, 70):
        await record(store, number, "queue_updated", f"at {number}")
    await store.write(lambda tx: queues.mark_deleted(tx, OURS, gone.id, NOON))

    after, seen, searches = START, list[UsageEvent](), 0
    while True:
        part = await searched(store, limit=2, oldest_first=True, after=after)
        seen += part.events
        searches += 1
        if part.end is None and len(part.events) < 2:
            break
        after = part.end or part.events[-1].id
    assert [number for number, _, _ in told(seen)] == [15, 33, 57, 60, 70]
    assert searches > 5

    newest = await searched(store, limit=5)
    assert [number for number, _, _ in told(newest.events)] == [70, 60, 57]
    assert newest.end is not None
