"""Redeliveries: each missed delivery is due again once, whatever happens in between, and at a bounded rate."""

from random import Random
from typing import Any

import pytest

from discue.dispatch.lane.context import Tuning
from discue.domain.model import DeliveryOptions, Listener, MissedSelection, Queue, Redelivery
from discue.store import erasures
from discue.store.redeliveries import REDELIVERY_TABLE, STEP_ROWS
from tests.dispatch.stage import DAY_MS, LIMITS, Stage, badly, well
from tests.support.everywhere import seeds


async def _miss_one_by_one(stage: Stage, queue: Queue, count: int) -> list[str]:
    ids = await stage.publish(queue, count)
    await stage.end_all(badly(no_retry=True))
    stage.courier.sent.clear()
    return ids


async def _miss_as_a_range(stage: Stage, queue: Queue, listener: Listener, count: int) -> list[str]:
    """Nothing is sent for as long as the deadline allows."""
    await stage.configure(listener, status="disabled")
    ids = []
    for start in range(0, count, 500):
        ids += await stage.publish(queue, min(500, count - start))
    await stage.advance(31 * DAY_MS)
    await stage.miss_too_old()
    await stage.configure(listener, status="enabled")
    return ids


async def redeliver(
    stage: Stage, listener: Listener, chosen: MissedSelection | None = None, **fields: Any
) -> Redelivery:
    """Create a redelivery as the API does."""
    chosen = chosen or MissedSelection()
    head = (await stage.counts(listener)).head
    now = stage.clock.now()
    made = Redelivery(
        organization=listener.organization,
        id=stage.row_ids.next(),
        public_id=stage.public_ids.next(),
        listener=listener.id,
        state="waiting",
        chosen=chosen,
        position=fields.pop("position", 0),
        until_seq=fields.pop("until_seq", head),
        selected=0,
        created_at=now,
        updated_at=now,
        **fields,
    )
    await stage.store.write(lambda tx: REDELIVERY_TABLE.insert(tx, made))
    await stage.follow("listener", listener.organization, listener.id)
    return made


async def _stored(stage: Stage, redelivery: Redelivery) -> Redelivery:
    found = await stage.store.read(lambda tx: REDELIVERY_TABLE.get(tx, redelivery.organization, redelivery.public_id))
    assert found is not None
    return found


async def _deliver_all(stage: Stage) -> list[str]:
    delivered = []
    while stage.courier.in_flight:
        delivered += stage.courier.ids()
        await stage.end(stage.courier.in_flight[::], well())
    return delivered


async def _ranges(stage: Stage) -> list[tuple[int, int]]:
    rows = await stage.rows("SELECT seq_from, seq_to FROM missed_range ORDER BY seq_from")
    return [(row[0], row[1]) for row in rows]


async def test_messages_missed_one_by_one_are_redelivered_and_counted(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await _miss_one_by_one(stage, queue, 120)
    asked = await redeliver(stage, listener)
    assert [sent.number for sent in stage.courier.in_flight] == [1] * 50
    assert sorted(await _deliver_all(stage)) == sorted(ids)
    await stage.assert_counts(listener, acknowledged=120, missed=0, retrying=0, pending=0)
    assert await stage.delivery_rows(listener) == []
    done = await _stored(stage, asked)
    assert (done.state, done.redelivered, done.gone, done.ended_at) == ("done", 120, 0, stage.clock.now())


async def test_missed_range_is_redelivered_in_steps(stage: Stage) -> None:
    queue, listener = await stage.running()
    count = 2 * Tuning().waiting_retries + STEP_ROWS + 100
    ids = await _miss_as_a_range(stage, queue, listener, count)
    assert await _ranges(stage) == [(1, count)]
    asked = await redeliver(stage, listener)
    most = 0
    delivered = []
    while stage.courier.in_flight:
        most = max(most, len(await stage.delivery_rows(listener)))
        delivered += stage.courier.ids()
        await stage.end(stage.courier.in_flight[::], well())
    assert sorted(delivered) == sorted(ids)
    assert most <= Tuning().waiting_retries + STEP_ROWS
    assert await _ranges(stage) == []
    await stage.assert_counts(listener, acknowledged=count, missed=0, retrying=0)
    assert (await _stored(stage, asked)).redelivered == count


async def test_acknowledged_messages_are_redelivered_and_counted(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await stage.publish(queue, 6)
    await stage.end(stage.courier.in_flight[:2], badly(no_retry=True))
    await stage.end_all(well())
    stage.courier.sent.clear()
    # Both select the same messages: the second finds them due.
    chosen = MissedSelection((1, 3, 4, 6), acknowledged=(3, 4, 6))
    asked = [await redeliver(stage, listener, chosen, position=0, until_seq=6) for _ in range(2)]
    await stage.assert_counts(listener, acknowledged=1, missed=1, retrying=4, pending=4)
    assert sorted(stage.courier.ids()) == sorted(ids[seq - 1] for seq in (1, 3, 4, 6))
    await stage.end([sent for sent in stage.courier.in_flight if sent.message_id == ids[5]], badly(no_retry=True))
    await stage.assert_counts(listener, acknowledged=1, missed=2)
    await _deliver_all(stage)
    await stage.assert_counts(listener, acknowledged=4, missed=2, retrying=0, pending=0)
    assert await stage.missed(listener) == [ids[5], ids[1]]
    done = [await _stored(stage, each) for each in asked]
    assert [(each.state, each.gone) for each in done] == [("done", 0)] * 2
    assert [each.redelivered for each in done] == [4, 0]


async def test_redelivery_leaves_out_an_acknowledged_message_that_was_deleted(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await stage.publish(queue, 2)
    await stage.end_all(well())
    await stage.delete_message(queue, ids[0])
    stage.courier.sent.clear()
    asked = await redeliver(stage, listener, MissedSelection((1, 2), acknowledged=(1, 2)), until_seq=2)
    assert stage.courier.ids() == ids[1:]
    await _deliver_all(stage)
    await stage.assert_counts(listener, acknowledged=2, missed=0, retrying=0)
    done = await _stored(stage, asked)
    assert (done.redelivered, done.gone) == (1, 1)


async def test_some_messages_of_a_range_split_it(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await _miss_as_a_range(stage, queue, listener, 10)
    await redeliver(stage, listener, MissedSelection((2, 3, 7, 10)), position=1, until_seq=10)
    assert stage.courier.ids() == [ids[seq - 1] for seq in (2, 3, 7, 10)]
    assert await _ranges(stage) == [(1, 1), (4, 6), (8, 9)]
    await _deliver_all(stage)
    await stage.assert_counts(listener, acknowledged=4, missed=6)
    assert await stage.missed(listener) == [ids[seq - 1] for seq in (9, 8, 6, 5, 4, 1)]


async def test_a_redelivered_message_has_all_its_attempts_again_and_is_not_too_old(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _miss_as_a_range(stage, queue, listener, 1)
    await redeliver(stage, listener)
    numbers = []
    while stage.courier.in_flight:
        numbers += [sent.number for sent in stage.courier.in_flight]
        await stage.end(stage.courier.in_flight[::], badly())
        if not stage.courier.in_flight:
            await stage.advance(2 * DAY_MS)
    assert numbers == list(range(1, 13))
    assert await stage.delivery_rows(listener) == [(1, "missed", 12)]
    assert (await stage.counts(listener)).missed == 1


async def test_redelivery_counts_deleted_messages_as_gone(stage: Stage) -> None:
    queue, listener = await stage.running()
    apart = await _miss_one_by_one(stage, queue, 2)
    together = await _miss_as_a_range(stage, queue, listener, 3)
    for gone in (apart[1], together[0], together[2]):
        await stage.delete_message(queue, gone)
    asked = await redeliver(stage, listener)
    assert sorted(await _deliver_all(stage)) == sorted([apart[0], together[1]])
    done = await _stored(stage, asked)
    assert (done.state, done.redelivered, done.gone) == ("done", 2, 3)
    assert (await stage.counts(listener)).missed == 0
    assert await stage.delivery_rows(listener) == []


async def test_redelivery_counts_messages_that_are_erased_meanwhile_as_gone(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish_keyed(queue, *"abaab")
    await stage.end_all(badly(no_retry=True))
    stage.courier.sent.clear()
    asked = await redeliver(stage, listener, pace=1)
    log = (queue.organization, queue.id)
    job = await stage.store.write_exclusively(
        lambda tx: erasures.begin(tx, log, stage.row_ids.next(), key="a", now=stage.clock.now())
    )
    while not await stage.store.write(lambda tx: erasures.step(tx, job, stage.clock.now())):
        pass
    await stage.follow("message", *log)
    delivered = []
    for _ in range(5):
        delivered += await _deliver_all(stage)
        await stage.advance(1_000)
    # The first message was in flight when it was erased.
    assert len(delivered) == 3
    done = await _stored(stage, asked)
    assert (done.state, done.redelivered, done.gone) == ("done", 3, 2)
    assert (await stage.counts(listener)).missed == 0
    assert await stage.delivery_rows(listener) == []


async def test_redelivery_keeps_its_rate(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await _miss_one_by_one(stage, queue, 25)
    await redeliver(stage, listener, pace=10)
    delivered = []
    for expected in (10, 10, 5):
        assert len(stage.courier.in_flight) == expected
        delivered += await _deliver_all(stage)
        await stage.advance(999)
        assert stage.courier.in_flight == []
        await stage.advance(1)
    assert sorted(delivered) == sorted(ids)


async def test_cancelled_redelivery_takes_no_more_steps(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _miss_one_by_one(stage, queue, 25)
    asked = await redeliver(stage, listener, pace=10)
    assert await stage.store.write(lambda tx: REDELIVERY_TABLE.delete(tx, asked, 0))
    assert len(await _deliver_all(stage)) == 10
    await stage.advance(1_000)
    await stage.advance(1_000)
    assert stage.courier.in_flight == []
    assert (await stage.counts(listener)).missed == 15


async def test_live_messages_go_on_during_a_redelivery(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _miss_as_a_range(stage, queue, listener, 200)
    await redeliver(stage, listener)
    new = await stage.publish(queue, 30)
    await stage.end(stage.courier.in_flight[::], well())
    # Half of the slots are theirs.
    assert len(set(new) & set(stage.courier.ids())) >= LIMITS.listener_max_in_flight // 2
    await _deliver_all(stage)


async def test_redelivery_to_a_disabled_listener_starts_when_it_is_enabled(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await _miss_one_by_one(stage, queue, 5)
    await stage.configure(listener, status="disabled")
    await redeliver(stage, listener)
    assert stage.courier.in_flight == []
    await stage.configure(listener, status="enabled")
    assert sorted(await _deliver_all(stage)) == sorted(ids)


async def test_redeliveries_of_a_listener_run_one_after_the_other(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await _miss_one_by_one(stage, queue, 6)
    first = await redeliver(stage, listener, MissedSelection((1, 2)), until_seq=2)
    second = await redeliver(stage, listener)
    assert sorted(await _deliver_all(stage)) == sorted(ids)
    assert [(await _stored(stage, each)).redelivered for each in (first, second)] == [2, 4]


@pytest.mark.parametrize("seed", seeds(4))
async def test_crashes_and_takeovers_lose_nothing_and_count_everything_once(stage: Stage, seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - repeatable
    queue, listener = await stage.running()
    apart = await _miss_one_by_one(stage, queue, 100)
    together = await _miss_as_a_range(stage, queue, listener, 900)
    asked = await redeliver(stage, listener)
    delivered: set[str] = set()
    for _ in range(400):
        if chance.random() < 0.1:
            await stage.start()
        elif chance.random() < 0.1:
            giver = stage.worker
            await stage.move(giver, await stage.join())
            delivered.update(giver.courier.ids())
            await stage.end(giver.courier.in_flight[::], well())
            await stage.leave(giver)
        some = [sent for sent in stage.courier.in_flight if chance.random() < 0.7]
        delivered.update(sent.message_id for sent in some)
        await stage.end(some, well())
        await stage.check_inherited()
        if not stage.courier.in_flight and (await stage.counts(listener)).retrying == 0:
            break
    assert delivered == {*apart, *together}
    done = await _stored(stage, asked)
    assert (done.state, done.redelivered) == ("done", 1_000)
    await stage.assert_counts(listener, acknowledged=1_000, missed=0, retrying=0)
    assert await stage.delivery_rows(listener) == []
    assert await _ranges(stage) == []


@pytest.mark.parametrize("seed", seeds(6))
async def test_each_key_goes_on_in_order_whatever_the_others_do(stage: Stage, seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - repeatable
    queue, listener = await stage.running(ordered=True)
    keys = [chance.choice("abcdef") for _ in range(80)]
    ids = await stage.publish_keyed(queue, *keys)
    while stage.courier.in_flight:
        await stage.end_all(badly(no_retry=True))
    await stage.start()
    [[version]] = await stage.rows("SELECT version FROM cursor")
    asked = await redeliver(stage, listener, MissedSelection(before_version=version), pace=chance.choice([None, 5]))
    first: dict[str, None] = {}
    deleted: set[str] = set()
    while (done := await _stored(stage, asked)).state != "done" or stage.courier.in_flight:
        if chance.random() < 0.1:
            await stage.start()
        if chance.random() < 0.2:
            unsent = [each for each in ids if each not in first and each not in deleted]
            for gone in chance.sample(unsent, min(1, len(unsent))):
                await stage.delete_message(queue, gone)
                deleted.add(gone)
        first |= dict.fromkeys(stage.courier.ids())
        some = [sent for sent in stage.courier.in_flight if chance.random() < 0.7]
        for sent in some:
            await stage.end([sent], chance.choice([well(), badly(), badly(no_retry=True)]))
        first |= dict.fromkeys(stage.courier.ids())
        await stage.advance(chance.choice([0, 0, 1_000, 10_000]))
    assert set(first) | deleted == set(ids)
    for key in set(keys):
        of_key = [each for each, its_key in zip(ids, keys, strict=True) if its_key == key]
        assert [each for each in first if each in of_key] == [each for each in of_key if each in first]
    assert done.redelivered + done.gone == 80
    assert done.gone <= len(deleted)


async def test_messages_deleted_by_retention_are_not_redelivered(stage: Stage) -> None:
    queue, listener = await stage.running()
    await _miss_one_by_one(stage, queue, 20)
    await redeliver(stage, listener, pace=5)
    await _deliver_all(stage)
    await stage.store.write(lambda tx: tx.execute("DELETE FROM delivery WHERE state = 'missed'"))
    for _ in range(4):
        await stage.advance(1_000)
    assert stage.courier.in_flight == []


async def test_redelivery_in_an_ordered_queue_ignores_a_later_filter(stage: Stage) -> None:
    queue, listener = await stage.running(ordered=True)
    [missed] = await _miss_one_by_one(stage, queue, 1)
    await stage.configure(listener, options=DeliveryOptions(filter='{"key": "another"}'))
    await redeliver(stage, listener)
    await stage.acknowledge_in_turn(missed)
    await stage.assert_counts(listener, acknowledged=1, missed=0, retrying=0)
