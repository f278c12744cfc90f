"""Trials of redeliveries: the first messages are sent one at a time, then the others, also after failures."""

import pytest

from discue.domain.attempts import Outcome
from discue.domain.model import Listener, MissedSelection, Queue, Redelivery
from discue.store.redeliveries import REDELIVERY_TABLE
from tests.dispatch.lane.test_redelivery import redeliver
from tests.dispatch.stage import DAY_MS, Stage, badly, well


async def _missed(stage: Stage, count: int) -> tuple[Queue, Listener, list[str]]:
    queue, listener = await stage.running()
    ids = await stage.publish(queue, count)
    await stage.end_all(badly(no_retry=True))
    stage.courier.sent.clear()
    return queue, listener, ids


async def _end(stage: Stage, outcome: Outcome) -> None:
    """End the requests that are in flight now."""
    await stage.end(stage.courier.in_flight[::], outcome)


async def _stored(stage: Stage, asked: Redelivery) -> Redelivery:
    found = await stage.store.read(lambda tx: REDELIVERY_TABLE.get(tx, asked.organization, asked.public_id))
    assert found is not None
    return found


async def test_trial_sends_one_message_at_a_time_and_then_all_others(stage: Stage) -> None:
    _, listener, ids = await _missed(stage, 5)
    asked = await redeliver(stage, listener, trial=2)
    for place in range(2):
        assert [each.message_id for each in stage.courier.in_flight] == [ids[place]]
        assert (await _stored(stage, asked)).trying_seq == place + 1
        await _end(stage, well())
    assert sorted(each.message_id for each in stage.courier.in_flight) == ids[2:]
    done = await _stored(stage, asked)
    assert (done.state, done.tried, done.redelivered, done.trying_seq) == ("done", 2, 5, 0)


async def test_failure_in_a_trial_is_the_only_attempt(stage: Stage) -> None:
    _, listener, ids = await _missed(stage, 3)
    asked = await redeliver(stage, listener, trial=2)
    await _end(stage, badly(503))
    stopped = await _stored(stage, asked)
    assert (stopped.state, stopped.tried, stopped.ended_at) == ("stopped", 0, stage.clock.now())
    assert b'"status":503' in stopped.stopped_by.encode()
    assert stage.courier.in_flight == []
    assert await stage.missed(listener) == ids[::-1]
    again = await redeliver(stage, listener)
    assert (await _stored(stage, again)).redelivered == 3


@pytest.mark.parametrize("outcome", [well(), badly()])
async def test_outcome_of_a_request_that_outlasts_its_lane_counts_in_the_trial(stage: Stage, outcome: Outcome) -> None:
    _, listener, ids = await _missed(stage, 3)
    asked = await redeliver(stage, listener, trial=1)
    first, second = stage.worker, await stage.join()
    await stage.move(first, second)
    assert second.courier.in_flight == []
    await stage.end(first.courier.in_flight[0], outcome)
    await stage.check_inherited()
    stored = await _stored(stage, asked)
    if outcome == well():
        assert (stored.state, stored.tried) == ("done", 1)
        assert sorted(each.message_id for each in second.courier.in_flight) == ids[1:]
    else:
        assert (stored.state, stored.tried) == ("stopped", 0)
        assert second.courier.in_flight == []
        assert (await stage.counts(listener)).missed == 3


async def test_trial_continues_after_its_worker_has_died(stage: Stage) -> None:
    _, listener, ids = await _missed(stage, 4)
    asked = await redeliver(stage, listener, trial=2)
    await _end(stage, well())
    first, second = stage.worker, await stage.join()
    await stage.die(first)
    await stage.take_free(second)
    # Only the message that was in flight is sent again.
    assert [each.message_id for each in second.courier.in_flight] == [ids[1]]
    await stage.end(second.courier.in_flight[::], badly())
    stopped = await _stored(stage, asked)
    assert (stopped.state, stopped.tried) == ("stopped", 1)
    assert (await stage.counts(listener)).missed == 3


async def test_deleted_message_does_not_count_in_a_trial(stage: Stage) -> None:
    queue, listener, ids = await _missed(stage, 3)
    await stage.configure(listener, status="disabled")
    asked = await redeliver(stage, listener, trial=2)
    await stage.delete_message(queue, ids[0])
    await stage.configure(listener, status="enabled")
    for place in (1, 2):
        assert [each.message_id for each in stage.courier.in_flight] == [ids[place]]
        await _end(stage, well())
    done = await _stored(stage, asked)
    assert (done.state, done.tried) == ("done", 2)


async def test_message_missed_after_creation_of_a_redelivery_is_excluded(stage: Stage) -> None:
    queue, listener, ids = await _missed(stage, 2)
    later = await stage.publish(queue, 1)
    version = (await stage.store.read(lambda tx: tx.rows("SELECT version FROM cursor")))[0][0]
    await _end(stage, badly(no_retry=True))
    stage.courier.sent.clear()
    assert (await stage.counts(listener)).missed == 3
    asked = await redeliver(stage, listener, MissedSelection(before_version=version))
    assert sorted(each.message_id for each in stage.courier.in_flight) == ids
    assert (await _stored(stage, asked)).state == "done"
    assert await stage.missed(listener) == later


async def test_redelivery_sends_the_messages_of_a_key_in_order(stage: Stage) -> None:
    queue, listener = await stage.running(ordered=True)
    ids = await stage.publish_keyed(queue, "a", "b", "a", "b")
    while stage.courier.in_flight:
        await _end(stage, badly(no_retry=True))
    stage.courier.sent.clear()
    await redeliver(stage, listener)
    assert sorted(each.message_id for each in stage.courier.in_flight) == ids[:2]
    await stage.end(stage.courier.in_flight[1], well())
    # The second message of key a waits, and so do all later messages.
    assert [each.message_id for each in stage.courier.in_flight] == [ids[0]]
    await _end(stage, badly())
    assert stage.courier.in_flight == []
    await stage.advance(10_000)
    await _end(stage, well())
    assert sorted(each.message_id for each in stage.courier.in_flight) == ids[2:]


@pytest.mark.parametrize("as_range", [False, True])
async def test_key_that_is_retried_holds_up_no_other_key(stage: Stage, *, as_range: bool) -> None:
    queue, listener = await stage.running(ordered=True)
    if as_range:
        await stage.configure(listener, status="disabled")
    ids = await stage.publish_keyed(queue, *"abacbabc")
    if as_range:
        await stage.advance(31 * DAY_MS)
        await stage.miss_too_old()
        await stage.configure(listener, status="enabled")
    while stage.courier.in_flight:
        await _end(stage, badly(no_retry=True))
    await stage.delete_message(queue, ids[6])
    stage.courier.sent.clear()
    [[version]] = await stage.rows("SELECT version FROM cursor")
    asked = await redeliver(stage, listener, MissedSelection(before_version=version))
    # Key a is retried, b is acknowledged, and c is missed again, which belongs to no redelivery.
    assert sorted(stage.courier.ids()) == sorted(ids[place] for place in (0, 1, 3))
    await stage.end([each for each in stage.courier.in_flight if each.message_id == ids[0]], badly())
    while stage.courier.in_flight:
        keyed = {each: ids.index(each.message_id) for each in stage.courier.in_flight}
        await stage.end([each for each, place in keyed.items() if place in (1, 4)], well())
        await stage.end([each for each, place in keyed.items() if place in (3, 7)], badly(no_retry=True))
    sent = [ids.index(each.message_id) for each in stage.courier.sent]
    assert [place for place in sent if place in (1, 4)] == [1, 4]
    assert [place for place in sent if place in (3, 7)] == [3, 7]
    assert len(sent) == 5
    running = await _stored(stage, asked)
    assert (running.state, running.redelivered, running.gone) == ("running", 5, 1)
    await stage.advance(10_000)
    while stage.courier.in_flight:
        await _end(stage, well())
    done = await _stored(stage, asked)
    assert (done.state, done.redelivered, done.gone, done.position) == ("done", 7, 1, 8)
