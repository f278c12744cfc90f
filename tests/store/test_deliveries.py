from functools import partial

import msgspec

from discue.domain.attempts import Attempt
from discue.domain.messages import StoredMessage
from discue.domain.model import Delivery, DeliveryOptions, Listener
from discue.domain.window import Window
from discue.store import deliveries, listeners, messages
from discue.store.engine import DeliveryRow, MissedRange, Settle
from discue.store.store import Store
from tests.store.rows import public_id, publish, row_id, stored_listener, stored_queue
from tests.support.clocks import NOON

OURS = row_id(1)


async def _published(store: Store) -> tuple[list[StoredMessage], list[Listener]]:
    """Three messages in a queue with two listeners, and a third that came after them."""
    queue = await stored_queue(store, OURS, 10)
    registered = [await stored_listener(store, queue, number) for number in (11, 12)]
    ids = [public_id(number) for number in (20, 21, 22)]
    await publish(store, queue, ids)
    registered.append(await stored_listener(store, queue, 13))
    found = [await store.read(partial(messages.get, queue=queue, public_id=each)) for each in ids]
    return [message for message in found if message is not None], registered


def _attempt(listener: Listener, seq: int, number: int, status: int) -> Attempt:
    made = row_id(1_000 + 100 * seq + number)
    return Attempt(made, OURS, listener.id, listener.queue, seq, number, status, "status", 5)


def _settle(listener: Listener, position: int, **changes: object) -> Settle:
    plain = Settle(OURS, listener.id, 0, listener.queue, 0, 0, position, None, 0, 0, 0, 0, 0)
    return msgspec.structs.replace(plain, **changes)


async def _of(store: Store, message: StoredMessage) -> list[Delivery]:
    return await store.read(lambda tx: deliveries.list_of_message(tx, message))


async def test_before_any_attempt_a_message_is_pending_for_those_who_were_there(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    assert await _of(store, stored[0]) == [
        Delivery(first.public_id, "pending", 0, 0),
        Delivery(second.public_id, "pending", 0, 0),
    ]


async def test_each_listener_has_its_own_state_attempts_and_last_status(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    await store.settle(_settle(first, 1, attempts=(_attempt(first, 1, 1, 204),)))
    retrying = (_attempt(second, 1, 2, 503), _attempt(second, 1, 1, 500))
    rows = (DeliveryRow(1, "retry", 2, NOON, "failed"),)
    await store.settle(_settle(second, 1, retrying=1, attempts=retrying, delivery_rows=rows))
    assert await _of(store, stored[0]) == [
        Delivery(first.public_id, "acknowledged", 1, 204),
        Delivery(second.public_id, "retrying", 2, 503, next_attempt_at=NOON),
    ]


async def test_message_settled_ahead_is_acknowledged_and_earlier_ones_are_not(store: Store) -> None:
    stored, (first, _, _) = await _published(store)
    window = Window(0)
    window.settle(2)
    await store.settle(_settle(first, 0, ahead=window.encode()))
    states = [(await _of(store, message))[0].state for message in stored]
    assert states == ["pending", "acknowledged", "pending"]


async def test_missed_is_shown_whether_as_an_exception_or_in_a_range(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    rows = (DeliveryRow(2, "missed", 12, NOON, "used up"),)
    await store.settle(_settle(first, 3, missed=1, delivery_rows=rows))
    await store.settle(_settle(second, 3, missed=2, missed_ranges=(MissedRange(1, 2, "too_old", NOON),)))
    states = [[each.state for each in await _of(store, message)] for message in stored]
    assert states == [["acknowledged", "missed"], ["missed", "missed"], ["acknowledged", "acknowledged"]]
    assert (await _of(store, stored[1]))[0].attempts == 12


async def test_attempt_counts_once_it_has_ended(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    under_way = (DeliveryRow(1, "sending", 1, NOON, "", 7), DeliveryRow(2, "sending", 3, NOON, "", 7))
    await store.settle(_settle(first, 3, retrying=2, delivery_rows=under_way))
    ended = (DeliveryRow(1, "ended", 2, NOON, ""), DeliveryRow(2, "ended", 12, NOON, "attempts_used_up"))
    await store.settle(_settle(second, 3, retrying=2, delivery_rows=ended))
    assert await _of(store, stored[0]) == [
        Delivery(first.public_id, "pending", 0, 0),
        Delivery(second.public_id, "acknowledged", 2, 0),
    ]
    assert await _of(store, stored[1]) == [
        Delivery(first.public_id, "retrying", 2, 0),
        Delivery(second.public_id, "missed", 12, 0, reason="attempts_used_up"),
    ]


async def test_message_rejected_by_the_filter_becomes_filtered_when_the_lane_reads_it(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    for listener, condition in ((first, '{"key":"none"}'), (second, '{"$not":{"key":"none"}}')):
        options = DeliveryOptions(filter=condition)
        assert await store.write(partial(listeners.update, listener=msgspec.structs.replace(listener, options=options)))
    states = [each.state for each in await _of(store, stored[0])]
    assert states == ["pending", "pending"]
    await store.settle(_settle(first, 2, attempts=(_attempt(first, 2, 1, 204),)))
    await store.settle(_settle(second, 2))
    states = [each.state for message in stored[:2] for each in await _of(store, message)]
    assert states == ["filtered", "acknowledged", "acknowledged", "acknowledged"]


async def test_a_deleted_listener_has_no_deliveries(store: Store) -> None:
    stored, (first, second, _) = await _published(store)
    await store.write(lambda tx: listeners.mark_deleted(tx, OURS, first.id, NOON))
    assert [each.listener_public_id for each in await _of(store, stored[0])] == [second.public_id]
