"""Deliveries of a message: their states, attempts and reasons, and pages of them."""

import asyncio
from functools import partial

import msgspec
import pytest

from discue.domain.attempts import Attempt
from discue.domain.errors import BadRequest
from discue.domain.listener_health import Liveness
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import MessageOptions, StoredMessage, encode_options
from discue.domain.model import Delivery, DeliveryOptions, DeliveryState, Listener, Queue
from discue.domain.waiting import ListenerCondition, SendingDefaults, waits_for
from discue.domain.window import Window
from discue.store import deliveries, domains, listeners, organizations
from discue.store.deliveries import FilterDecisions, MessageFacts
from discue.store.engine import Append, DeliveryRow, MissedRange, NewEntry, Settle, Transaction
from discue.store.events import Occurrence
from discue.store.listeners import HealthRecord, ListenerHealth
from discue.store.pagination import Listing, ScanLimits, Selection
from discue.store.store import Store
from tests.store.rows import (
    a_settle,
    an_organization,
    public_id,
    publish,
    row_id,
    stored_listener,
    stored_message,
    stored_queue,
)
from tests.store.walks import backwards, forwards
from tests.support.clocks import NOON
from tests.support.messages import facts_of, read_deliveries

OURS = row_id(1)
OPEN = ListenerCondition("push", "enabled", "", is_verified=True, liveness=Liveness())
IN_FLIGHT = waits_for(OPEN, "sending")


@pytest.fixture(autouse=True)
def _organization(runner: asyncio.Runner, store: Store) -> None:
    runner.run(store.write(lambda tx: organizations.insert(tx, an_organization(1))))


async def _published(store: Store) -> tuple[list[StoredMessage], list[Listener]]:
    """Three messages in a queue with two listeners, and a third that came after them."""
    queue = await stored_queue(store, OURS, 10)
    registered = [await stored_listener(store, queue, number) for number in (11, 12)]
    ids = [public_id(number) for number in (20, 21, 22)]
    await publish(store, queue, ids)
    registered.append(await stored_listener(store, queue, 13))
    return [await stored_message(store, queue, each) for each in ids], registered


def _attempt(listener: Listener, seq: int, number: int, status: int) -> Attempt:
    made = row_id(1_000 + 100 * seq + number)
    error, detail = ("", "") if status < 300 else ("status", f"answered {status}")
    return Attempt(made, OURS, listener.id, listener.queue, seq, number, status, error, 5, detail)


async def _of(store: Store, message: StoredMessage) -> list[Delivery]:
    return await store.read(lambda tx: read_deliveries(tx, message))


async def test_before_any_attempt_a_message_is_pending_for_those_who_were_there(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    assert await _of(store, stored[0]) == [
        Delivery(first.public_id, "pending", 0, 0, waits_for=waits_for(OPEN)),
        Delivery(second.public_id, "pending", 0, 0, waits_for=waits_for(OPEN)),
    ]


async def test_pending_delivery_says_what_holds_its_listener_back(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    occurrence = Occurrence(row_id(90), "")
    await store.write(
        partial(
            listeners.disable,
            organization=OURS,
            listener=first.id,
            config_version=first.config_version,
            disabled_by="gone",
            occurrence=occurrence,
        )
    )
    lifeless = ListenerHealth(Liveness("inactive", 0, 3, last_failure_msg="answered 503", in_a_row=-3))
    record = HealthRecord(OURS, second.id, 0, second.liveness_url, second.config_version, lifeless)
    assert await store.write(partial(listeners.write_health, records=[record])) == {second.id}
    assert [each.waits_for for each in await _of(store, stored[0])] == [
        "The listener is disabled because it answered 410 Gone.",
        "The listener is inactive because its liveness probes fail: answered 503.",
    ]
    setting = {domains.REQUIRE_VERIFIED_DOMAINS: True}
    owner = msgspec.structs.replace(an_organization(1), settings=setting)
    await store.write(lambda tx: organizations.update(tx, owner))
    assert (await _of(store, stored[0]))[1].waits_for == (
        "The listener is not sent to because the domain of its `notify_url` is not verified."
    )


async def test_delivery_behind_as_many_as_may_be_in_flight_waits_for_a_slot(store: Store) -> None:
    stored, (first, _, _) = await _published(store)

    async def waits(number: int) -> str:
        found = await store.read(lambda tx: read_deliveries(tx, stored[number], SendingDefaults(max_in_flight=1)))
        return found[0].waits_for

    slot, following = "Waits for a free request slot: the listener has 1.", "In flight, or among the next to be sent."
    assert [await waits(0), await waits(1), await waits(2)] == [following, slot, slot]
    # Settled ones do not count, even ahead of the position.
    assert await store.settle(a_settle(first, 0, ahead=Window(0, 0b10).encode()))
    assert [await waits(0), await waits(2)] == [following, slot]
    assert await store.settle(a_settle(first, 2, version=1))
    assert await waits(2) == following


async def test_each_listener_has_its_own_state_attempts_and_last_outcome(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    await store.settle(a_settle(first, 1, attempts=(_attempt(first, 1, 1, 204),)))
    retrying = (_attempt(second, 1, 2, 503), _attempt(second, 1, 1, 500))
    rows = (DeliveryRow(1, "retry", 2, NOON, "failed"),)
    await store.settle(a_settle(second, 1, retrying=1, attempts=retrying, delivery_rows=rows))
    assert await _of(store, stored[0]) == [
        Delivery(first.public_id, "acknowledged", 1, 204),
        Delivery(
            second.public_id,
            "retrying",
            2,
            503,
            next_attempt_at=NOON,
            waits_for=waits_for(OPEN, "retry", NOON),
            last_error="status",
            last_detail="answered 503",
        ),
    ]


async def test_message_settled_ahead_is_acknowledged_and_earlier_ones_are_not(store: Store) -> None:
    stored, (first, _, _) = await _published(store)
    window = Window(0)
    window.settle(2)
    await store.settle(a_settle(first, 0, ahead=window.encode()))
    states = [(await _of(store, message))[0].state for message in stored]
    assert states == ["pending", "acknowledged", "pending"]


async def test_attempt_counts_once_it_has_ended(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    under_way = (DeliveryRow(1, "sending", 1, NOON, "", 7), DeliveryRow(2, "sending", 3, NOON, "", 7))
    await store.settle(a_settle(first, 3, retrying=2, delivery_rows=under_way))
    ended = (DeliveryRow(1, "ended", 2, NOON, ""), DeliveryRow(2, "ended", 12, NOON, "attempts_used_up"))
    await store.settle(a_settle(second, 3, retrying=2, delivery_rows=ended))
    assert await _of(store, stored[0]) == [
        Delivery(first.public_id, "pending", 0, 0, waits_for=IN_FLIGHT),
        Delivery(second.public_id, "acknowledged", 2, 0),
    ]
    assert await _of(store, stored[1]) == [
        Delivery(first.public_id, "retrying", 2, 0, waits_for=IN_FLIGHT),
        Delivery(second.public_id, "missed", 12, 0, reason="attempts_used_up"),
    ]


async def test_message_rejected_by_the_filter_becomes_filtered_when_the_lane_reads_it(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    for listener, condition in ((first, '{"key":"none"}'), (second, '{"$not":{"key":"none"}}')):
        options = DeliveryOptions(filter=condition)
        assert await store.write(partial(listeners.update, listener=msgspec.structs.replace(listener, options=options)))
    states = [each.state for each in await _of(store, stored[0])]
    assert states == ["pending", "pending"]
    await store.settle(a_settle(first, 2, attempts=(_attempt(first, 2, 1, 204),)))
    await store.settle(a_settle(second, 2))
    states = [each.state for message in stored[:2] for each in await _of(store, message)]
    assert states == ["filtered", "acknowledged", "acknowledged", "acknowledged"]


async def test_message_of_another_type_is_filtered_whatever_the_filter_says(store: Store) -> None:
    queue, made = await stored_queue(store, OURS, 10), []
    for number, types in ((11, ("order.*",)), (12, ("invoice.*", "order.eu.>")), (13, None)):
        options = DeliveryOptions(types=types, filter='{"$not":{"key":"none"}}')
        made.append(msgspec.structs.replace(await stored_listener(store, queue, number), options=options))
        assert await store.write(partial(listeners.update, listener=made[-1]))
    typed = encode_options(MessageOptions(type="order.paid"))
    entries = (NewEntry(public_id(20), JSON_VALUE, b"1", extra=typed), NewEntry(public_id(21), JSON_VALUE, b"1"))
    await store.append(Append(OURS, queue.id, queue.config_version, NOON, entries))
    for listener in made:
        await store.settle(a_settle(listener, 2))
    states = [
        [each.state for each in await _of(store, await stored_message(store, queue, public_id(number)))]
        for number in (20, 21)
    ]
    assert states == [["acknowledged", "filtered", "acknowledged"], ["filtered", "filtered", "acknowledged"]]


async def test_a_deleted_listener_has_no_deliveries(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    await store.write(lambda tx: listeners.mark_deleted(tx, OURS, first.id, NOON))
    assert [each.listener_public_id for each in await _of(store, stored[0])] == [second.public_id]


LISTENERS = 12
STATES: tuple[DeliveryState, ...] = ("pending", "acknowledged", "retrying", "missed", "missed", "retrying")


class World(msgspec.Struct, frozen=True):
    """Listener and state of each delivery of the message, oldest listener first."""

    queue: Queue
    message: StoredMessage
    stands: list[tuple[Listener, DeliveryState]]


async def _world(store: Store) -> World:
    queue = await stored_queue(store, OURS, 10)
    registered = [await stored_listener(store, queue, 11 + number) for number in range(LISTENERS)]
    await publish(store, queue, [public_id(50), public_id(51)])
    await stored_listener(store, queue, 60)
    stands: list[tuple[Listener, DeliveryState]] = []
    for number, listener in enumerate(registered):
        assert await store.settle(_settled(listener, number % len(STATES)))
        stands.append((listener, STATES[number % len(STATES)]))
    message = await stored_message(store, queue, public_id(50))
    return World(queue, message, stands)


def _settled(listener: Listener, fate: int) -> Settle:
    attempt = Attempt(listener.id + 1, OURS, listener.id, listener.queue, 1, 1, 503, "status", 5)
    changes: tuple[dict[str, object], ...] = (
        {"position": 0},
        {},
        {"delivery_rows": (DeliveryRow(1, "retry", 1, NOON + 9_000, "failed"),), "attempts": (attempt,)},
        {"delivery_rows": (DeliveryRow(1, "missed", 12, NOON, "attempts_used_up"),)},
        {"missed_ranges": (MissedRange(1, 2, "too_old", NOON),)},
        {"delivery_rows": (DeliveryRow(1, "sending", 2, NOON, "", 7),), "attempts": (attempt,)},
    )
    return msgspec.structs.replace(a_settle(listener, 2), **changes[fate])


async def _pages(message: StoredMessage, tx: Transaction, selection: Selection) -> Listing[Delivery]:
    return await deliveries.page_of_message(tx, await facts_of(tx, message), selection)


@pytest.mark.parametrize("looked_at", [deliveries._LIMITS, ScanLimits(2, 3, 5), ScanLimits(1, 1, 2)])
async def test_deliveries_are_listed_by_listener_newest_first_and_by_state(
    store: Store, monkeypatch: pytest.MonkeyPatch, looked_at: ScanLimits
) -> None:
    monkeypatch.setattr(deliveries, "_LIMITS", looked_at)
    world = await _world(store)
    pages = partial(_pages, world.message)
    states: tuple[DeliveryState | None, ...] = (None, "pending", "acknowledged", "retrying", "missed")
    for state, per_page in ((state, per_page) for state in states for per_page in (1, 3, 100)):
        expected = [each.public_id for each, stands in reversed(world.stands) if state in (None, stands)]
        selection = Selection(state=state, per_page=per_page)
        assert await forwards(store, pages, selection) == expected, selection
        assert await backwards(store, pages, selection, "0" * 21) == expected, selection


async def test_a_delivery_says_until_when_it_waits_and_why_it_was_missed(store: Store) -> None:
    world = await _world(store)
    found = await store.read(partial(_pages, world.message, selection=Selection(per_page=6)))
    ids = [listener.public_id for listener, _ in reversed(world.stands)][:6]
    assert list(found.items) == [
        Delivery(ids[0], "retrying", 1, 503, waits_for=IN_FLIGHT, last_error="status"),
        Delivery(ids[1], "missed", 0, 0, reason="too_old"),
        Delivery(ids[2], "missed", 12, 0, reason="attempts_used_up"),
        Delivery(
            ids[3],
            "retrying",
            1,
            503,
            next_attempt_at=NOON + 9_000,
            waits_for=waits_for(OPEN, "retry", NOON + 9_000),
            last_error="status",
        ),
        Delivery(ids[4], "acknowledged", 0, 0),
        Delivery(ids[5], "pending", 0, 0, waits_for=waits_for(OPEN)),
    ]


async def test_pages_have_numbers_as_far_as_can_be_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await _world(store)
    second = await store.read(partial(_pages, world.message, selection=Selection(per_page=5, page=2)))
    assert [each.listener_public_id for each in second.items] == [
        listener.public_id for listener, _ in reversed(world.stands)
    ][5:10]
    monkeypatch.setattr(deliveries, "_LIMITS", ScanLimits(2, 2, 4))
    with pytest.raises(BadRequest, match="too far"):
        await store.read(partial(_pages, world.message, selection=Selection(per_page=5, page=3, state="pending")))


async def test_deliveries_are_created_when_the_message_is_stored(store: Store) -> None:
    world = await _world(store)
    at = world.message.stored_at
    pages = partial(_pages, world.message)
    assert len((await store.read(partial(pages, selection=Selection(created_after=at - 1)))).items) == 10
    assert (await store.read(partial(pages, selection=Selection(created_after=at)))).items == ()
    assert (await store.read(partial(pages, selection=Selection(created_before=at, state="missed")))).items == ()


async def test_page_continues_after_a_deleted_listener(store: Store) -> None:
    world = await _world(store)
    ids = [listener.public_id for listener, _ in reversed(world.stands)]
    gone = world.stands[-3][0]
    await store.write(lambda tx: listeners.mark_deleted(tx, OURS, gone.id, NOON))
    found = await store.read(partial(_pages, world.message, selection=Selection(after=gone.public_id)))
    assert [each.listener_public_id for each in found.items] == ids[3:13]
    everything = await store.read(partial(_pages, world.message, selection=Selection(per_page=100)))
    assert gone.public_id not in [each.listener_public_id for each in everything.items]


async def test_timeline_of_many_listeners_begins_with_those_that_need_attention(store: Store) -> None:
    world = await _world(store)
    newest = [(listener.public_id, state) for listener, state in reversed(world.stands)]

    async def read(**selected: object) -> deliveries.TimelinePage:
        selection = msgspec.structs.replace(Selection(per_page=8), **selected)
        facts = MessageFacts(world.message, {}, FilterDecisions(), SendingDefaults())
        return await store.read(partial(deliveries.timeline_page, facts=facts, selection=selection))

    found = await read()
    urgent = [each for state in ("missed", "retrying", "pending") for each in newest if each[1] == state]
    first = [(each.delivery.listener_public_id, each.delivery.state) for each in found.attention]
    assert first == urgent[: deliveries.ATTENTION]
    others = [(each.delivery.listener_public_id, each.delivery.state) for each in found.page.items]
    assert others == [each for each in newest if each not in first][:3]
    # The next page goes on in order: each listener is on one of the pages.
    following = await read(after=found.page.resumes_after)
    assert (following.attention, following.page.has_previous) == ((), True)
    seen = {each[0] for each in first + others} | {each.delivery.listener_public_id for each in following.page.items}
    assert seen == {each[0] for each in newest}
    # All fit on one page: nothing is before the others.
    whole = await read(per_page=12)
    assert (whole.attention, len(whole.page.items), whole.page.has_next) == ((), 12, False)
