"""Ordered queues: one message of a key at a time, whatever fails and dies."""

import asyncio
import random
from typing import TypeVar

import pytest

from discue.dispatch.lane.context import Tuning
from discue.domain.attempts import Outcome
from discue.domain.errors import StoreUnavailable
from discue.domain.messages import MessageOptions
from discue.domain.model import DeliveryOptions, Listener, Queue
from discue.domain.retry import RetryOptions
from discue.domain.window import SPAN
from discue.store.delivery_rows import read_open_keys
from discue.store.engine import Row, Transaction, Work
from tests.dispatch.lane.test_redelivery import redeliver
from tests.dispatch.stage import DAY_MS, Sent, Stage, badly, well
from tests.support.everywhere import seeds
from tests.support.messages import read_deliveries, read_message

T = TypeVar("T")

OFTEN = DeliveryOptions(retry=RetryOptions(schedule=(5,), attempts=100, jitter=0.0))


async def _running(stage: Stage, options: DeliveryOptions = OFTEN) -> tuple[Queue, Listener]:
    return await stage.running(options, ordered=True)


async def key_rows(stage: Stage) -> list[Row]:
    """Return seq, state and number of blocked messages of each delivery row."""
    return await stage.rows("SELECT seq, state, blocked FROM delivery ORDER BY seq")


async def _states(stage: Stage, queue: Queue, ids: list[str]) -> list[str]:
    async def work(tx: Transaction) -> list[str]:
        found = [await read_message(tx, queue, each) for each in ids]
        return [delivery.state for each in found if each for delivery in await read_deliveries(tx, each)]

    return await stage.store.read(work)


async def test_failing_key_with_many_blocked_messages_stops_no_other_key(stage: Stage) -> None:
    stage.tuning = Tuning(throttle_rows=20, throttle_failures=6)
    queue, listener = await _running(stage)
    await stage.publish_keyed(queue, "a")
    for _ in range(7):
        await stage.end(stage.courier.in_flight[0], badly())
        await stage.publish_keyed(queue, "a", "a", "a")
        await stage.advance(5_000)
    assert (await stage.counts(listener)).retrying > 20
    others = await stage.publish_keyed(queue, "b", "c", "d")
    assert stage.courier.ids()[1:] == others


async def test_one_message_of_a_key_is_in_flight_and_other_keys_go_on(stage: Stage) -> None:
    queue, _ = await _running(stage)
    first, second, other, third = await stage.publish_keyed(queue, "a", "a", "b", "a")
    assert stage.courier.ids() == [first, other]
    await stage.end(stage.courier.in_flight[0], well())
    assert stage.courier.ids() == [other, second]
    await stage.end(stage.courier.in_flight[1], well())
    assert stage.courier.ids() == [other, third]


async def test_messages_without_a_key_have_one_order(stage: Stage) -> None:
    queue, listener = await _running(stage)
    first = await stage.publish_with(queue, MessageOptions())
    second = await stage.publish_with(queue, MessageOptions())
    await stage.acknowledge_in_turn(first, second)
    assert (await stage.counts(listener)).acknowledged == 2


async def test_a_queue_that_is_not_ordered_sends_a_keys_messages_together(stage: Stage) -> None:
    queue, _ = await stage.running()
    ids = await stage.publish_keyed(queue, "a", "a", "a")
    assert stage.courier.ids() == ids


async def test_failing_message_blocks_only_its_key_and_costs_one_row(stage: Stage) -> None:
    queue, listener = await _running(stage)
    first, *_ = await stage.publish_keyed(queue, "a", *["a"] * 9, "b")
    await stage.end([sent for sent in stage.courier.in_flight if sent.message_id == first], badly())
    await stage.publish_keyed(queue, *["a"] * 300)
    assert await key_rows(stage) == [(1, "retry", 309)]
    await stage.assert_counts(listener, pending=311)
    later = await stage.publish_keyed(queue, "c")
    assert later[0] in stage.courier.ids()


async def test_messages_of_an_unblocked_key_are_sent_in_order(stage: Stage) -> None:
    queue, listener = await _running(stage)
    ids = await stage.publish_keyed(queue, *["a"] * 5)
    await stage.end(stage.courier.in_flight[0], badly())
    ids += await stage.publish_keyed(queue, *["a"] * 3)
    assert await _states(stage, queue, ids) == ["retrying", *["pending"] * 7]
    assert stage.courier.in_flight == []
    await stage.advance(5_000)
    arrived = []
    while stage.courier.in_flight:
        [sent] = stage.courier.in_flight
        arrived.append((sent.message_id, sent.number))
        await stage.end(sent, well())
    assert arrived == [(ids[0], 2), *[(each, 1) for each in ids[1:]]]
    assert await key_rows(stage) == []
    await stage.assert_counts(listener, acknowledged=8, pending=0, retrying=0)


async def test_blocked_message_uses_no_attempt_and_passes_a_missed_one(stage: Stage) -> None:
    queue, listener = await _running(stage, DeliveryOptions(retry=RetryOptions(schedule=(5,), jitter=0.0)))
    first, second, third = await stage.publish_keyed(queue, "a", "a", "a")
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.advance(5_000)
    await stage.end(stage.courier.in_flight[0], badly())
    assert [(sent.message_id, sent.number) for sent in stage.courier.in_flight] == [(second, 1)]
    await stage.end(stage.courier.in_flight[0], badly(no_retry=True))
    await stage.acknowledge_in_turn(third)
    await stage.assert_counts(listener, acknowledged=1, missed=2, pending=0)
    assert await _states(stage, queue, [first, second, third]) == ["missed", "missed", "acknowledged"]


async def test_order_is_kept_after_blocking_and_blocked_messages_are_deleted(stage: Stage) -> None:
    queue, listener = await _running(stage)
    ids = await stage.publish_keyed(queue, *["a"] * 4)
    await stage.end(stage.courier.in_flight[0], badly())
    for number in (1, 3, 0):
        await stage.delete_message(queue, ids[number])
    await stage.acknowledge_in_turn(ids[2])
    await stage.advance(5_000)
    await stage.assert_counts(listener, acknowledged=1, pending=0, retrying=0)
    assert await key_rows(stage) == []
    [last] = await stage.publish_keyed(queue, "a")
    assert stage.courier.ids() == [last]


async def test_messages_that_waited_are_read_again_from_the_first_one(stage: Stage) -> None:
    queue, listener = await _running(stage, DeliveryOptions(max_in_flight=4))
    ids = await stage.publish_keyed(queue, "a", "b", "c", "a", "b", "c", "d", "e")
    assert stage.courier.ids() == [*ids[:3], ids[6]]
    await stage.configure(listener, options=DeliveryOptions(max_in_flight=1))
    await stage.end(stage.courier.in_flight[:3], well())
    await stage.end(stage.courier.in_flight[::], well())
    assert stage.courier.ids() == [ids[5]]
    await stage.delete_message(queue, ids[7])
    await stage.end_all(well())
    assert {sent.message_id for sent in stage.courier.sent} == set(ids[:7])
    assert (await stage.counts(listener)).acknowledged == 7


async def test_blocked_keys_survive_a_restart(stage: Stage) -> None:
    queue, listener = await _running(stage)
    ids = await stage.publish_keyed(queue, "a", "a", "b")
    await stage.end([sent for sent in stage.courier.in_flight if sent.message_id == ids[0]], badly())
    await stage.start()
    ids += await stage.publish_keyed(queue, "a")
    assert stage.courier.ids() == [ids[2]]
    assert await key_rows(stage) == [(1, "retry", 2)]
    await stage.advance(5_000)
    await stage.end_all(well())
    assert (await stage.counts(listener)).acknowledged == 4
    assert [sent.message_id for sent in stage.courier.sent if sent.message_id != ids[2]] == [ids[0], ids[1], ids[3]]


async def test_a_long_request_lets_the_cursor_go_on_with_other_keys(stage: Stage) -> None:
    queue, listener = await _running(stage)
    [slow, behind, *_] = await stage.publish_keyed(queue, "slow", "slow", "other")
    while (await stage.counts(listener)).position < SPAN:
        await stage.publish_keyed(queue, *[f"key-{number}" for number in range(40)])
        await stage.end([sent for sent in stage.courier.in_flight if sent.message_id != slow], well())
    assert await key_rows(stage) == [(1, "sending", 1)]
    await stage.acknowledge_in_turn(slow, behind)
    assert await key_rows(stage) == []


async def test_many_messages_waiting_for_one_key_do_not_stop_other_keys(stage: Stage) -> None:
    stage.tuning = Tuning(waiting_held=10)
    queue, listener = await _running(stage)
    ids = await stage.publish_keyed(queue, "b", *["a"] * 40, "c")
    assert ids[-1] in stage.courier.ids()
    await stage.end_all(well())
    assert [sent.message_id for sent in stage.courier.sent if sent.message_id in ids[1:-1]] == ids[1:-1]
    assert (await stage.counts(listener)).acknowledged == 42


async def test_single_key_holds_a_bounded_number_and_passes_none(stage: Stage) -> None:
    stage.tuning = Tuning(waiting_held=10)
    queue, listener = await _running(stage)
    ids = await stage.publish_keyed(queue, *["a"] * 100)
    assert await key_rows(stage) == []
    await stage.end_all(well())
    assert [sent.message_id for sent in stage.courier.sent] == ids
    assert (await stage.counts(listener)).acknowledged == 100


async def test_redelivered_message_leaves_the_key_with_a_later_message_in_flight(stage: Stage) -> None:
    queue, listener = await _running(stage)
    first, second = await stage.publish_keyed(queue, "a", "a")
    await stage.end(stage.courier.in_flight[0], badly(no_retry=True))
    await redeliver(stage, listener)
    assert stage.courier.ids() == [second, first]
    [third] = await stage.publish_keyed(queue, "a")
    await stage.end(stage.courier.in_flight[1], well())
    await stage.acknowledge_in_turn(second, third)
    assert (await stage.counts(listener)).acknowledged == 3


def fail_the_next_read_of_keys(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    read = stage.store.read

    async def failing_read(work: Work[T]) -> T:
        if getattr(work, "func", None) is read_open_keys:
            monkeypatch.setattr(stage.store, "read", read)
            raise StoreUnavailable
        return await read(work)

    monkeypatch.setattr(stage.store, "read", failing_read)


async def test_redelivery_step_before_the_keys_are_read_lets_no_message_pass(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, listener = await _running(stage)
    missed, failed = await stage.publish_keyed(queue, "a", "b")
    await stage.end(stage.courier.in_flight[0], badly(no_retry=True))
    await stage.end(stage.courier.in_flight[0], badly())
    worker = stage.worker
    [cursor] = worker.dispatcher.lanes.cursors
    monkeypatch.setattr(worker.dispatcher.registry, "_on_unowned", lambda: None)
    await worker.dispatcher.hand_over([cursor])
    [later] = await stage.publish_keyed(queue, "b")
    await redeliver(stage, listener)
    fail_the_next_read_of_keys(stage, monkeypatch)
    await worker.dispatcher.registry.take([cursor])
    await stage.quiet()
    await stage.advance(250)
    assert stage.courier.ids() == [missed]
    await stage.advance(5_000)
    assert stage.courier.ids() == [missed, failed]
    await stage.end(stage.courier.in_flight[::], well())
    assert stage.courier.ids() == [later]


async def _behind_an_inherited_request(stage: Stage) -> tuple[Queue, Listener, Sent, str]:
    """A lane whose oldest message waits in memory, for a key that the request of another worker holds."""
    queue, listener = await _running(stage)
    _, behind = await stage.publish_keyed(queue, "slow", "slow")
    former = stage.worker
    await stage.move(former, await stage.join())
    return queue, listener, former.courier.in_flight[0], behind


@pytest.mark.parametrize("step", [40, 600])
async def test_lane_stops_at_the_span_while_its_oldest_message_waits_for_an_inherited_request(
    stage: Stage, step: int
) -> None:
    queue, listener, inherited, behind = await _behind_an_inherited_request(stage)
    # A lane that reads a full span again and again does not come to rest.
    async with asyncio.timeout(30):
        for start in range(0, SPAN + 2 * step, step):
            await stage.publish_keyed(queue, *[f"key-{number}" for number in range(start, start + step)])
            await stage.end_all(well())
    await stage.end(inherited, well())
    await stage.check_inherited()
    assert behind in stage.courier.ids()
    await stage.end_all(well())
    counts = await stage.counts(listener)
    assert (counts.acknowledged, counts.position, counts.pending) == (counts.head, counts.head, 0)


async def test_message_that_waits_for_an_inherited_request_and_is_too_old_is_missed_once(stage: Stage) -> None:
    queue, listener = await _running(stage)
    await stage.publish_keyed(queue, "slow", "slow", "slow")
    former = stage.worker
    stage.clock.advance(30 * DAY_MS - 10_000)
    await stage.move(former, await stage.join())
    stage.clock.advance(20_000)
    await stage.miss_too_old()
    await stage.end(former.courier.in_flight[0], well())
    await stage.check_inherited()
    await stage.assert_counts(listener, acknowledged=1, missed=2, pending=0)


async def test_messages_too_old_behind_a_held_key_take_no_place_of_a_later_one(stage: Stage) -> None:
    queue, listener = await _running(stage)
    await stage.publish_keyed(queue, "a")
    await stage.end_all(badly())
    await stage.configure(listener, status="disabled")
    await stage.publish_keyed(queue, "a", "b")
    stage.clock.advance(31 * DAY_MS)
    await stage.miss_too_old()
    (later,) = await stage.publish_keyed(queue, "a")
    assert (await stage.counts(listener)).missed == 1
    assert await key_rows(stage) == [(1, "retry", 1)]
    await stage.configure(listener, status="enabled")
    await stage.advance(5_000)
    assert stage.courier.ids() == [later]
    await stage.end_all(well())
    await stage.assert_counts(listener, acknowledged=1, missed=3, pending=0)


@pytest.mark.parametrize("seed", seeds(4))
async def test_outcomes_during_a_flush_are_applied_once_and_in_order(stage: Stage, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - repeatable
    queue, listener = await _running(stage, DeliveryOptions(retry=OFTEN.retry, max_in_flight=8))
    key_of: dict[str, str] = {}
    settled: set[str] = set()
    while len(settled) < 150:
        if len(key_of) < 150:
            keys = [chance.choice("abcdefgh") for _ in range(5)]
            key_of.update(zip(await stage.publish_keyed(queue, *keys), keys, strict=True))
        for sent in chance.sample(stage.courier.in_flight, k=len(stage.courier.in_flight) // 2 + 1):
            outcome = badly() if chance.random() < 0.3 else well()
            if outcome.acknowledged:
                assert sent.message_id not in settled, "it was acknowledged before"
                settled.add(sent.message_id)
            sent.end(outcome)
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
            oldest = {key: each for each, key in reversed(key_of.items()) if each not in settled}
            in_flight = stage.courier.ids()
            assert [oldest.get(key_of[each]) for each in in_flight] == in_flight, "one was sent before its turn"
            assert len(set(in_flight)) == len(in_flight)
        if not stage.courier.in_flight:
            await stage.advance(5_000)
    await stage.quiet()
    await stage.assert_counts(listener, acknowledged=150, pending=0, retrying=0)


async def _with_one_behind_a_guest(stage: Stage, blocked: int = 1) -> tuple[list[str], Queue, Listener]:
    """Publish messages of a key: the first is in flight with a previous owner, `blocked` and one in memory wait."""
    queue, listener = await _running(stage)
    ids = await stage.publish_keyed(queue, "a")
    await stage.end(stage.courier.in_flight[0], badly())
    ids += await stage.publish_keyed(queue, *["a"] * blocked)
    await stage.advance(5_000)
    await stage.move(stage.worker, await stage.join())
    ids += await stage.publish_keyed(queue, "a")
    return ids, queue, listener


@pytest.mark.parametrize(("outcome", "blocked"), [(well(), 1), (badly(), 1), (badly(), 0)])
async def test_message_behind_an_inherited_request_comes_before_later_ones(
    stage: Stage, outcome: Outcome, blocked: int
) -> None:
    """The row of an inherited request moves on, or becomes a retry: messages in memory must not be passed."""
    ids, queue, listener = await _with_one_behind_a_guest(stage, blocked)
    [former] = stage.workers[0].courier.in_flight
    await stage.end(former, outcome)
    await stage.advance(1_000)
    await stage.advance(0 if outcome.acknowledged else 5_000)
    ids += await stage.publish_keyed(queue, "a")
    await stage.end_all(well())
    sent = [each.message_id for each in stage.courier.sent]
    assert sent == ids[1 if outcome.acknowledged else 0 :]
    await stage.assert_counts(listener, acknowledged=len(ids), pending=0, retrying=0)


async def test_message_behind_a_lost_inherited_request_comes_before_later_ones(stage: Stage) -> None:
    ids, queue, listener = await _with_one_behind_a_guest(stage)
    await stage.die(stage.workers[0])
    await stage.check_inherited()
    ids += await stage.publish_keyed(queue, "a")
    await stage.advance(1_000)
    await stage.end_all(well())
    assert [each.message_id for each in stage.courier.sent] == ids
    await stage.assert_counts(listener, acknowledged=4, pending=0, retrying=0)
