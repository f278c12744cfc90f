"""Replays: a part of the log is delivered once more, within the listener's limits."""

from random import Random

import msgspec
import pytest

from discue.domain.model import DeliveryOptions, Listener, Queue
from discue.domain.rate import RateLimit
from discue.store import listeners
from tests.dispatch.replays import ask, cancel, deliver_all, live, of_replays, stored, streams
from tests.dispatch.stage import DAY_MS, Sent, Stage, Worker, badly, well
from tests.support.everywhere import seeds


async def _delivered(stage: Stage, queue: Queue, count: int) -> list[str]:
    ids = await stage.publish(queue, count)
    await deliver_all(stage)
    stage.courier.sent.clear()
    return ids


async def test_replay_sends_a_part_of_the_log_in_order_and_counts_it(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await _delivered(stage, queue, 300)
    asked = await ask(stage, listener, 11, 290)
    sent = await deliver_all(stage)
    assert [each.message_id for each in sent] == ids[10:290]
    assert {each.request.replay_id for each in sent} == {asked.public_id}
    assert {each.number for each in sent} == {1}
    done = await stored(stage, asked)
    assert (done.state, done.delivered, done.failed, done.expired) == ("done", 280, 0, 0)
    assert (done.ended_at, done.remaining, done.position) == (stage.clock.now(), 0, 290)
    assert await streams(stage) == []
    await stage.assert_counts(listener, acknowledged=300, missed=0, retrying=0, pending=0)
    assert len(stage.lanes) == 1


async def test_replay_without_messages_ends_at_once(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _delivered(stage, queue, 3)
    await stage.configure(listener, status="disabled")
    asked = await ask(stage, listener, 4, 3)
    assert (await stored(stage, asked)).state == "done"
    assert await streams(stage) == []


async def test_replay_and_live_messages_take_turns_in_the_only_slot(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(max_in_flight=1))
    await _delivered(stage, queue, 6)
    await stage.publish(queue, 6)
    await ask(stage, listener, 1, 6)
    kinds = [bool(each.request.replay_id) for each in await deliver_all(stage)]
    assert kinds == [False, *[False, True] * 5, True]


async def test_replay_and_live_messages_share_the_rate_limit(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(rate_limit=RateLimit(10, 5)))
    for _ in range(6):
        await stage.publish(queue, 5)
        await stage.advance(1_000)
        await deliver_all(stage)
    stage.courier.sent.clear()
    await stage.publish(queue, 60)
    await ask(stage, listener, 1, 30)
    begun = len(stage.courier.sent)
    assert begun == 5
    await deliver_all(stage)
    for tenth in range(1, 41):
        await stage.advance(100)
        await deliver_all(stage)
        assert len(stage.courier.sent) <= begun + tenth
    assert len(stage.courier.sent) == begun + 40
    assert 18 <= len(of_replays(stage.courier.sent)) <= 22


async def test_rate_of_a_replay_bounds_only_the_replay(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _delivered(stage, queue, 30)
    await ask(stage, listener, pace=2)
    assert len(stage.courier.sent) == 0
    for second in range(1, 6):
        for _ in range(2):
            await stage.advance(500)
            await deliver_all(stage)
        assert len(of_replays(stage.courier.sent)) == 2 * second
    await stage.publish(queue, 20)
    assert len(live(stage.courier.in_flight)) == 20


async def test_failed_messages_of_a_replay_are_retried_and_counted_but_not_missed(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _delivered(stage, queue, 3)
    asked = await ask(stage, listener)
    first, second, third = stage.courier.in_flight[::]
    await stage.end(first, badly())
    await stage.end(second, badly(no_retry=True))
    await stage.end(third, well())
    running = await stored(stage, asked)
    assert (running.state, running.delivered, running.failed, running.retrying) == ("running", 1, 1, 1)
    assert running.remaining == 1
    await stage.advance(10_000)
    [again] = stage.courier.in_flight
    assert (again.message_id, again.number, again.request.replay_id) == (first.message_id, 2, asked.public_id)
    await stage.end(again, badly(no_retry=True))
    done = await stored(stage, asked)
    assert (done.state, done.delivered, done.failed) == ("done", 1, 2)
    assert await stage.missed(listener) == []
    assert (await stage.counts(listener)).missed == 0
    assert await stage.delivery_rows(listener) == []
    assert await stage.rows("SELECT seq_from FROM missed_range") == []


async def test_age_of_replayed_messages_starts_with_the_replay(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await _delivered(stage, queue, 4)
    await stage.advance(40 * DAY_MS)
    asked = await ask(stage, listener)
    assert stage.courier.ids() == ids
    await stage.end(stage.courier.in_flight[1:], well())
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.configure(listener, status="disabled")
    await stage.advance(29 * DAY_MS)
    await stage.miss_too_old()
    assert (await stored(stage, asked)).state == "running"
    await stage.advance(2 * DAY_MS)
    await stage.miss_too_old()
    done = await stored(stage, asked)
    assert (done.state, done.delivered, done.expired) == ("done", 3, 1)


async def test_messages_of_a_replay_that_never_started_expire(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _delivered(stage, queue, 500)
    await stage.configure(listener, status="disabled")
    asked = await ask(stage, listener)
    await stage.advance(31 * DAY_MS)
    await stage.miss_too_old()
    done = await stored(stage, asked)
    assert (done.state, done.delivered, done.expired) == ("done", 0, 500)
    assert await stage.rows("SELECT seq_from FROM missed_range") == []
    assert (await stage.counts(listener)).missed == 0


@pytest.mark.parametrize("way", ["the listener's", "its own"])
async def test_filters_apply_to_replays(stage: Stage, way: str) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 2, body=b'{"n": 1}')
    [wanted] = await stage.publish(queue, 1, body=b'{"n": 2}')
    await deliver_all(stage)
    text = '{"data": {"n": 2}}'
    if way == "the listener's":
        await stage.configure(listener, options=DeliveryOptions(filter=text))
        asked = await ask(stage, listener)
    else:
        asked = await ask(stage, listener, filter=text)
    assert [each.message_id for each in await deliver_all(stage)] == [wanted]
    done = await stored(stage, asked)
    assert (done.state, done.selected, done.delivered, done.filtered) == ("done", 3, 1, 2)


async def test_message_that_is_filtered_after_it_waited_for_its_key_is_counted(stage: Stage) -> None:
    queue, listener = await stage.running(ordered=True)
    for body in (b'{"n": 2}', b'{"n": 1}', b'{"n": 2}'):
        await stage.publish_keyed(queue, "a", body=body)
        await deliver_all(stage)
    asked = await ask(stage, listener, filter='{"data": {"n": 2}}')
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.advance(10_000)
    await deliver_all(stage)
    done = await stored(stage, asked)
    assert (done.state, done.delivered, done.filtered) == ("done", 2, 1)


async def test_replay_of_an_ordered_queue_keeps_the_order_of_each_key(stage: Stage) -> None:
    queue, listener = await stage.running(ordered=True)
    ids = await stage.publish_keyed(queue, "a", "b", "a", "b", "a")
    await deliver_all(stage)
    asked = await ask(stage, listener)
    assert stage.courier.ids() == ids[:2]
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.end(stage.courier.in_flight[0], well())
    await stage.acknowledge_in_turn(ids[3])
    await stage.advance(10_000)
    assert stage.courier.ids() == [ids[0]]
    assert [each.message_id for each in await deliver_all(stage)] == [ids[0], ids[2], ids[4]]
    assert (await stored(stage, asked)).delivered == 5


async def test_replay_waits_while_the_listener_is_inactive(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _delivered(stage, queue, 3)
    asked = await ask(stage, listener)
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.end(stage.courier.in_flight[::], well())
    # The first failure does not count: messages were acknowledged before it.
    await stage.probe(500, times=4)
    await stage.end(stage.courier.in_flight[::], badly())
    assert (await stage.liveness(listener)).state == "inactive"
    await stage.advance(DAY_MS // 24)
    assert stage.courier.in_flight == []
    await stage.probe(200, times=2)
    assert len(await deliver_all(stage)) == 1
    assert (await stored(stage, asked)).delivered == 3


async def test_failing_replay_does_not_disable_the_listener_but_410_does(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _delivered(stage, queue, 2)
    await ask(stage, listener)
    await stage.end(stage.courier.in_flight[0], badly(410))
    assert (await stage.stored(listener)).status == "disabled"


async def test_cancelled_replay_sends_nothing_more_and_leaves_no_cursor(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(max_in_flight=4))
    await _delivered(stage, queue, 20)
    asked = await ask(stage, listener)
    await stage.end(stage.courier.in_flight[0], badly())
    under_way = stage.courier.in_flight[::]
    await cancel(stage, asked)
    assert await streams(stage) == []
    await stage.publish(queue, 10)
    # Requests in flight keep their slots until they end.
    assert len(stage.courier.in_flight) == 4
    await stage.end(under_way, well())
    assert len(live(stage.courier.in_flight)) == 4
    await deliver_all(stage)
    assert of_replays(stage.courier.in_flight) == []
    assert (await stage.counts(listener)).pending == 0
    [job] = await stage.rows("SELECT kind FROM job")
    assert job == ("purge_replay",)


async def test_replays_and_live_messages_share_the_slots_equally(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(max_in_flight=6))
    await _delivered(stage, queue, 40)
    asked = [await ask(stage, listener, 1, 40) for _ in range(2)]
    await stage.publish(queue, 40)
    for _ in range(30):
        await stage.end(stage.courier.in_flight[0], well())
        assert len(stage.courier.in_flight) == 6
    sent: dict[str, int] = {}
    for each in stage.courier.in_flight:
        sent[each.request.replay_id] = sent.get(each.request.replay_id, 0) + 1
    assert sent == {"": 2, asked[0].public_id: 2, asked[1].public_id: 2}
    await deliver_all(stage)
    assert [(await stored(stage, each)).delivered for each in asked] == [40, 40]


@pytest.mark.parametrize("seed", seeds(6))
async def test_crashes_and_takeovers_lose_nothing_and_never_pass_the_limit(stage: Stage, seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - repeatable
    queue, listener = await stage.running(DeliveryOptions(max_in_flight=20))
    ids = await _delivered(stage, queue, 150)
    asked = await ask(stage, listener, 31, 130)
    new: list[str] = []
    delivered: set[tuple[str, bool]] = set()
    for turn in range(400):
        if turn < 30:
            new += await stage.publish(queue, chance.randrange(1, 6))
        if chance.random() < 0.1:
            await stage.start()
        elif chance.random() < 0.15:
            giver = stage.worker
            await stage.move(giver, await stage.join())
            await stage.check_inherited()
            assert sum(len(worker.courier.in_flight) for worker in stage.workers) <= 20
            delivered.update(_pairs(giver.courier.in_flight))
            await stage.end(giver.courier.in_flight[::], well())
            await stage.leave(giver)
        some = [sent for sent in stage.courier.in_flight if chance.random() < 0.7]
        assert len(stage.courier.in_flight) <= 20
        delivered.update(_pairs(some))
        await stage.end(some, well())
        await stage.check_inherited()
        if turn >= 30 and not stage.courier.in_flight and not await streams(stage):
            break
    assert {message for message, is_replay in delivered if is_replay} == set(ids[30:130])
    assert {message for message, is_replay in delivered if not is_replay} == set(new)
    done = await stored(stage, asked)
    assert (done.state, done.delivered, done.failed, done.expired) == ("done", 100, 0, 0)
    await stage.assert_counts(listener, acknowledged=150 + len(new), missed=0, retrying=0)
    assert await stage.delivery_rows(listener) == []


def _pairs(sent: list[Sent]) -> set[tuple[str, bool]]:
    return {(each.message_id, bool(each.request.replay_id)) for each in sent}


async def test_attempts_name_their_replay(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _delivered(stage, queue, 1)
    asked = await ask(stage, listener)
    await deliver_all(stage)
    assert await stage.rows("SELECT replay FROM attempt ORDER BY id") == [(None,), (asked.id,)]


async def _replay_between_workers(stage: Stage) -> tuple[Worker, Worker, Listener]:
    """Hand over a listener with a replay of 3 messages from the first worker, which has brought up its lane again.

    The replay's cursor stays with its owner until the live one is taken.
    """
    queue, listener = await stage.running()
    await stage.publish(queue, 3)
    await stage.end(stage.courier.in_flight[::], well())
    first = stage.worker
    await stage.configure(listener, status="disabled")
    await ask(stage, listener)
    second = await stage.join()
    await first.dispatcher.hand_over(tuple(first.dispatcher.lanes.cursors))
    first.dispatcher.on_change("listener", listener.organization, listener.id)
    await stage.quiet()
    return first, second, listener


async def test_replay_lane_of_an_earlier_ownership_is_replaced(stage: Stage) -> None:
    first, second, listener = await _replay_between_workers(stage)
    assert len(first.dispatcher.lanes) == 1
    await stage.take_free(second)
    await stage.move(second, first)
    await stage.configure(listener, status="enabled")
    while first.courier.in_flight:
        await stage.end(first.courier.in_flight[::], well())
    assert len(of_replays(first.courier.sent)) == 3
    assert await streams(stage) == []


async def test_replay_that_has_ended_on_another_worker_is_not_sent_again_by_its_old_lane(stage: Stage) -> None:
    first, second, listener = await _replay_between_workers(stage)
    await stage.take_free(second)
    # Only the new owner hears of the change. The first worker does not read the listener again, and keeps its old lane.
    known = await stage.stored(listener)
    enabled = msgspec.structs.replace(known, config_version=known.config_version + 1, status="enabled")
    assert await stage.store.write(lambda tx: listeners.update(tx, enabled))
    second.dispatcher.on_change("listener", listener.organization, listener.id)
    await stage.quiet()
    while second.courier.in_flight:
        await stage.end(second.courier.in_flight[::], well())
    assert (len(of_replays(second.courier.sent)), await streams(stage)) == (3, [])
    first.courier.sent.clear()
    await stage.move(second, first)
    assert first.courier.sent == []
    assert [lane.key[2] for lane in first.dispatcher.lanes] == [0]
