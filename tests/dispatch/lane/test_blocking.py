"""Ordered queues with `on_missed: block`: a missed message blocks its key until it is redelivered or deleted."""

from functools import partial

import pytest

from discue.dispatch.lane.context import Tuning
from discue.domain.errors import StoreUnavailable
from discue.domain.messages import MessageOptions
from discue.domain.model import Delivery, DeliveryOptions, Listener, MissedSelection, Queue
from discue.domain.retry import RetryOptions
from discue.store import delivery_rows, messages, purge
from discue.store.delivery_rows import KeyRow
from discue.store.engine import CursorKey, Transaction
from tests.dispatch.lane.test_ordering import fail_the_next_read_of_keys, key_rows
from tests.dispatch.lane.test_redelivery import redeliver
from tests.dispatch.stage import DAY_MS, Stage, badly, well
from tests.support.messages import read_deliveries, read_message

OFTEN = DeliveryOptions(retry=RetryOptions(schedule=(5,), attempts=100, jitter=0.0), max_in_flight=4)


async def _running(stage: Stage) -> tuple[Queue, Listener]:
    return await stage.running(OFTEN, ordered=True, on_missed="block")


async def _missed(stage: Stage, queue: Queue, *keys: str) -> list[str]:
    """Messages of these keys, the first of which is missed."""
    ids = await stage.publish_keyed(queue, *keys)
    await stage.end([sent for sent in stage.courier.in_flight if sent.message_id == ids[0]], badly(no_retry=True))
    return ids


async def _unavailable(_tx: Transaction, key: CursorKey) -> list[KeyRow]:
    raise StoreUnavailable


async def _delivery(stage: Stage, queue: Queue, public_id: str) -> Delivery:
    async def work(tx: Transaction) -> Delivery:
        message = await read_message(tx, queue, public_id)
        assert message is not None
        [delivery] = await read_deliveries(tx, message)
        return delivery

    return await stage.store.read(work)


async def test_missed_message_blocks_only_its_key_and_costs_one_row(stage: Stage) -> None:
    queue, listener = await _running(stage)
    ids = await _missed(stage, queue, "a", "a", "b", "a")
    ids += await stage.publish_keyed(queue, "a", "b")
    assert await key_rows(stage) == [(1, "missed", 3)]
    await stage.acknowledge_in_turn(ids[2])
    assert stage.courier.ids() == [ids[5]]
    await stage.advance(DAY_MS)
    assert stage.courier.ids() == [ids[5]]
    await stage.assert_counts(listener, missed=1, pending=4)
    states = [await _delivery(stage, queue, ids[number]) for number in (0, 1, 4)]
    assert [(each.state, each.blocked_by) for each in states] == [("missed", ""), *[("pending", ids[0])] * 2]


async def test_acknowledged_redelivery_unblocks_the_key_in_order(stage: Stage) -> None:
    queue, listener = await _running(stage)
    ids = await _missed(stage, queue, "a", "a", "a")
    await redeliver(stage, listener)
    assert stage.courier.ids() == [ids[0]]
    await stage.end(stage.courier.in_flight[0], badly(no_retry=True))
    assert stage.courier.in_flight == []
    assert await key_rows(stage) == [(1, "missed", 2)]
    await redeliver(stage, listener, MissedSelection((1,)))
    await stage.acknowledge_in_turn(*ids)
    await stage.assert_counts(listener, acknowledged=3, missed=0, pending=0, retrying=0)
    assert await key_rows(stage) == []


@pytest.mark.parametrize("restarts", ["", "before it is requested", "after it is requested"])
async def test_redelivery_starts_however_many_messages_are_blocked(stage: Stage, restarts: str) -> None:
    queue, listener = await _running(stage)
    ids = await _missed(stage, queue, "a", *(["a"] * (Tuning().waiting_retries + 1)))
    assert (await stage.counts(listener)).retrying > Tuning().waiting_retries
    if restarts == "before it is requested":
        await stage.start()
    elif restarts:
        await stage.die(stage.worker)
    await redeliver(stage, listener)
    if restarts == "after it is requested":
        await stage.start()
    await stage.acknowledge_in_turn(*ids[:3])


@pytest.mark.parametrize("restarts", [False, True])
async def test_deletion_of_a_blocking_message_unblocks_the_key(stage: Stage, *, restarts: bool) -> None:
    queue, listener = await _running(stage)
    ids = await _missed(stage, queue, "a", "a", "a")
    if restarts:
        for worker in stage.workers:
            await stage.die(worker)
        found = await stage.store.read(partial(read_message, queue=queue, public_id=ids[0]))
        assert found is not None
        await stage.store.write(partial(messages.delete, message=found))
        await stage.start()
    else:
        await stage.delete_message(queue, ids[0])
    await stage.acknowledge_in_turn(*ids[1:])
    await stage.assert_counts(listener, acknowledged=2, missed=0, pending=0, retrying=0)
    assert await key_rows(stage) == []


async def test_deletion_before_the_keys_are_read_lets_no_message_pass(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, listener = await _running(stage)
    [missed] = await _missed(stage, queue, "a")
    [failed] = await stage.publish_keyed(queue, "b")
    await stage.end(stage.courier.in_flight[0], badly())
    worker = stage.worker
    [cursor] = worker.dispatcher.lanes.cursors
    await worker.dispatcher.hand_over([cursor])
    following, later = await stage.publish_keyed(queue, "a", "b")
    fail_the_next_read_of_keys(stage, monkeypatch)
    await worker.dispatcher.registry.take([cursor])
    await stage.delete_message(queue, missed)
    await stage.advance(250)
    assert stage.courier.ids() == [following]
    await stage.advance(5_000)
    assert stage.courier.ids() == [following, failed]
    await stage.end(stage.courier.in_flight[::], well())
    await stage.acknowledge_in_turn(later)
    await stage.assert_counts(listener, acknowledged=3, missed=0, pending=0, retrying=0)


async def test_failed_search_for_deleted_messages_is_repeated_after_an_earlier_alarm(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, _ = await _running(stage)
    ids = await _missed(stage, queue, "a", "a", "b")
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.advance(4_900)
    with monkeypatch.context() as patched:
        patched.setattr(delivery_rows, "deleted_blocking_rows", _unavailable)
        await stage.delete_message(queue, ids[0])
    await stage.advance(100)
    assert stage.courier.ids() == [ids[2]], "the retry comes before the search is repeated"
    await stage.advance(150)
    assert stage.courier.ids() == [ids[2], ids[1]]


async def test_message_deleted_in_flight_does_not_block_its_key(stage: Stage) -> None:
    queue, listener = await _running(stage)
    first, second = await stage.publish_keyed(queue, "a", "a")
    await stage.delete_message(queue, first)
    await stage.end(stage.courier.in_flight[0], badly(no_retry=True))
    await stage.acknowledge_in_turn(second)
    assert (await stage.counts(listener)).pending == 0


async def test_message_that_expires_before_it_is_sent_blocks_its_key(stage: Stage) -> None:
    queue, listener = await _running(stage)
    [first] = await stage.publish_keyed(queue, "a")
    second = await stage.publish_with(queue, MessageOptions(key="a"), stage.clock.now() + 1_000)
    [third] = await stage.publish_keyed(queue, "a")
    await stage.advance(1_000)
    await stage.end(stage.courier.in_flight[0], well())
    assert stage.courier.in_flight == []
    assert (await stage.missed(listener), await key_rows(stage)) == ([second], [(2, "missed", 1)])
    await stage.delete_message(queue, second)
    assert stage.courier.ids() == [third]
    assert first != third


async def test_blocking_message_is_kept_until_a_client_decides(stage: Stage) -> None:
    queue, _ = await _running(stage)
    await _missed(stage, queue, "a", "a")
    late = stage.clock.now() + 100 * DAY_MS
    await stage.store.write(partial(purge.delete_missed, missed_before=late))
    assert await key_rows(stage) == [(1, "missed", 1)]


async def test_ordered_messages_of_a_disabled_listener_are_missed_one_by_one(stage: Stage) -> None:
    queue, listener = await _running(stage)
    await stage.configure(listener, status="disabled")
    ids = await stage.publish_keyed(queue, "a", "a", "b")
    await stage.advance(31 * DAY_MS)
    await stage.miss_too_old()
    assert (await stage.counts(listener)).missed == 0
    await stage.configure(listener, status="enabled")
    assert await stage.missed(listener) == [ids[2], ids[0]]
    assert (await stage.counts(listener)).pending == 1
