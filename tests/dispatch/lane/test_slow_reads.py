"""Slow reads: the result may be out of date when it arrives, and must do no harm then."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from discue.store.store import Store
from tests.dispatch.paced import Paced
from tests.dispatch.stage import DAY_MS, LIMITS, Reports, Stage, badly, opened, until, well


@pytest.fixture
def store(runner: asyncio.Runner, reports: Reports, tmp_path: Path) -> Iterator[Store]:
    with opened(runner, tmp_path, reports, Paced) as running:
        yield running


class Slow:
    """Reads that have started and do not return before `arrive`."""

    def __init__(self, stage: Stage) -> None:
        assert isinstance(stage.store.engine, Paced)
        self._stage = stage
        self.engine = stage.store.engine

    async def begin(self, act: Callable[[], object], *, reads: int = 1) -> None:
        """Call `act`, which reads. The last of so many reads is slow."""
        before = self.engine.got_stuck
        self.engine.slow = "reading"
        begun = act()
        self._going_on = begun if isinstance(begun, asyncio.Future) else None
        for number in range(1, reads + 1):
            await until(lambda number=number: self.engine.got_stuck == before + number)  # type: ignore[misc]
            if number < reads:
                self.engine.hurry()
                self.engine.slow = "reading"
        self.engine.let_others_pass()

    async def arrive(self) -> None:
        self.engine.hurry()
        if self._going_on is not None:
            await self._going_on
        await self._stage.quiet()


@pytest.fixture
def slow(stage: Stage) -> Slow:
    return Slow(stage)


def _spawned(coroutine: Coroutine[Any, Any, Any]) -> Callable[[], object]:
    return lambda: asyncio.ensure_future(coroutine)


async def _stored(stage: Stage) -> None:
    """Wait for commits, but not for stuck reads."""
    while stage.commits:
        await asyncio.wait(stage.commits)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_retry_settled_while_due_retries_are_read_is_not_repeated(stage: Stage, slow: Slow) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 2)
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.advance(1_000)
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.advance(5_000)
    [retry] = stage.courier.in_flight
    # The second is due while the first is in flight: the read shows both.
    stage.clock.advance(1_000)
    await slow.begin(stage.dispatcher.timers.wake_due)
    retry.end(well())
    await _stored(stage)
    await slow.arrive()
    assert [(sent.message_id, sent.number) for sent in stage.courier.sent if sent.number == 2] == [
        (retry.message_id, 2),
        (stage.courier.in_flight[0].message_id, 2),
    ]
    await stage.end(stage.courier.in_flight[::], well())
    await stage.assert_counts(listener, acknowledged=2, retrying=0)


async def test_own_request_that_ends_during_a_check_is_not_repeated(stage: Stage, slow: Slow) -> None:
    queue, listener = await stage.running()
    first = stage.worker
    await stage.publish(queue)
    second = await stage.join()
    await stage.move(first, second)
    await stage.move(second, first)
    await slow.begin(first.dispatcher.check_inherited)
    first.courier.end_all(well())
    await _stored(stage)
    assert not first.dispatcher.handover_outcomes.in_flight
    await slow.arrive()
    await stage.check_inherited()
    assert len(first.courier.sent) == 1
    await stage.assert_counts(listener, acknowledged=1, retrying=0)


async def test_inherited_request_that_fails_before_the_check_is_retried_when_due(stage: Stage, slow: Slow) -> None:
    queue, _ = await stage.running()
    first = stage.worker
    await stage.publish(queue)
    second = await stage.join()
    [key] = first.dispatcher.lanes.cursors
    await first.dispatcher.hand_over([key])
    # The lane's record is read while the request is in flight, and inherited requests when it has ended.
    await slow.begin(_spawned(second.dispatcher.registry.take([key])))
    first.courier.end_all(badly())
    await _stored(stage)
    await slow.arrive()
    assert await stage.rows("SELECT state FROM delivery") == [("retry",)]
    await stage.advance(6_000)
    assert [sent.number for sent in second.courier.in_flight] == [2]


async def test_lane_sends_nothing_during_its_first_check(stage: Stage, slow: Slow) -> None:
    queue, _ = await stage.running()
    first = stage.worker
    ids = await stage.publish(queue, LIMITS.listener_max_in_flight + 5)
    second = await stage.join()
    [key] = first.dispatcher.lanes.cursors
    await first.dispatcher.hand_over([key])
    await slow.begin(_spawned(second.dispatcher.registry.take([key])), reads=2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert second.courier.sent == []
    await slow.arrive()
    assert second.courier.sent == []
    await stage.end(first.courier.in_flight[:2], well())
    await stage.check_inherited()
    assert second.courier.ids() == ids[-5:-3]


async def test_lane_handed_over_while_it_is_read_does_not_return(stage: Stage, slow: Slow) -> None:
    queue, listener = await stage.running()
    first = stage.worker
    second = await stage.join()
    change = lambda: first.dispatcher.on_change("listener", listener.organization, listener.id)  # noqa: E731
    await slow.begin(change)
    await first.dispatcher.hand_over(tuple(first.dispatcher.lanes.cursors))
    await slow.arrive()
    assert len(first.dispatcher.lanes) == 0
    await stage.take_free(second)
    await stage.publish(queue)
    assert (len(first.courier.sent), len(second.courier.sent)) == (0, 1)


async def test_read_under_a_lost_session_makes_no_lanes(stage: Stage, slow: Slow) -> None:
    queue = await stage.queue(await stage.organization())
    await stage.start()
    worker = stage.worker
    await stage.listener(queue)
    await stage.publish(queue)
    [key] = worker.dispatcher.lanes.cursors
    await worker.dispatcher.hand_over([key])
    await slow.begin(_spawned(worker.dispatcher.registry.take([key])))
    worker.dispatcher.registry.drop_all()
    await slow.arrive()
    assert len(worker.dispatcher.lanes) == 0


async def test_read_before_a_reset_makes_no_lanes(stage: Stage, slow: Slow) -> None:
    queue, listener = await stage.running()
    worker = stage.worker
    [key] = worker.dispatcher.lanes.cursors
    await worker.dispatcher.hand_over([key])
    await stage.append(queue, 1)
    await slow.begin(_spawned(worker.dispatcher.registry.take([key])))
    starting_over = asyncio.ensure_future(worker.dispatcher.registry.reset())
    await asyncio.sleep(0)
    await slow.arrive()
    await starting_over
    await stage.quiet()
    assert len(worker.dispatcher.lanes) == 1
    await stage.end(worker.courier.in_flight[::], well())
    assert len(worker.courier.sent) == 1
    assert (await stage.counts(listener)).acknowledged == 1


async def test_drain_releases_cursors_that_are_being_claimed(stage: Stage, slow: Slow) -> None:
    queue, _ = await stage.running()
    await stage.publish(queue)
    worker = stage.worker
    [key] = worker.dispatcher.lanes.cursors
    await worker.dispatcher.hand_over([key])
    slow.engine.slow = "after"
    taking = asyncio.ensure_future(worker.dispatcher.registry.take([key]))
    await until(lambda: slow.engine.got_stuck == 1)
    draining = asyncio.ensure_future(worker.dispatcher.drain(0))
    await asyncio.sleep(0)
    slow.engine.hurry()
    assert await taking == 0
    await draining
    assert await stage.rows("SELECT count(*) FROM cursor WHERE owner IS NULL") == [(1,)]


async def test_messages_published_while_a_lane_is_read_are_sent(stage: Stage, slow: Slow) -> None:
    queue, listener = await stage.running()
    worker = stage.worker
    [key] = worker.dispatcher.lanes.cursors
    await worker.dispatcher.hand_over([key])
    await slow.begin(_spawned(worker.dispatcher.registry.take([key])))
    ids = [entry.id for entry in (await stage.append(queue, 2)).entries]
    await slow.arrive()
    assert worker.courier.ids() == ids
    assert (await stage.counts(listener)).pending == 2


async def test_lane_dropped_before_its_read_holds_no_bodies(stage: Stage) -> None:
    queue, _ = await stage.running()
    stage.store.on_append = []
    await stage.append(queue, 3)
    stage.dispatcher.on_heads([((queue.organization, queue.id), 3)])
    stage.dispatcher.registry.drop_all()
    await stage.quiet()
    assert stage.dispatcher._context.budget.held == 0


async def test_message_delivered_during_the_deadline_job_is_not_missed(stage: Stage, slow: Slow) -> None:
    queue, listener = await stage.running()
    await stage.configure(listener, status="disabled")
    await stage.publish(queue, 3)
    stage.clock.advance(30 * DAY_MS - 10)
    await slow.begin(_spawned(_missed_older_than(stage, 20)))
    await stage.configure(listener, status="enabled")
    await stage.end(stage.courier.in_flight[1:], well())
    await stage.end(stage.courier.in_flight[0], well())
    await slow.arrive()
    await stage.assert_counts(listener, acknowledged=3, missed=0, pending=0)


async def _missed_older_than(stage: Stage, margin_ms: int) -> None:
    """Run the deadline job with a deadline that is a little shorter."""
    before = stage.clock.now() - 30 * DAY_MS + margin_ms
    for lane in stage.lanes:
        await lane.miss_older_than(before)


async def test_retry_delivered_while_too_old_retries_are_read_is_not_missed(stage: Stage, slow: Slow) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.configure(listener, status="disabled")
    stage.clock.advance(30 * DAY_MS - 10)
    [lane] = stage.lanes
    # The search of the log comes first, twice.
    await slow.begin(_spawned(_missed_older_than(stage, 20)), reads=3)
    await stage.configure(listener, status="enabled")
    await stage.end(stage.courier.in_flight[0], well())
    await stage.configure(listener, status="disabled")
    await slow.arrive()
    await stage.assert_counts(listener, acknowledged=1, missed=0, retrying=0)
    assert lane.is_settled


async def test_request_detached_during_a_check_is_not_inherited(stage: Stage) -> None:
    queue, listener = await stage.running()
    first = stage.worker
    [guest] = await stage.publish(queue)
    second = await stage.join()
    await stage.move(first, second)
    ids = await stage.publish(queue, 4_300)
    while len(second.courier.in_flight) > 1:
        await stage.end(second.courier.in_flight[1:], well())
    assert [state for _, state, _ in await stage.delivery_rows(listener)] == ["sending", "sending"]
    await stage.check_inherited()
    await stage.advance(2_000)
    assert [state for _, state, _ in await stage.delivery_rows(listener)] == ["sending", "sending"]
    assert [sent.message_id for sent in second.courier.sent].count(ids[0]) == 1
    assert second.courier.ids() == [ids[0]]
    await stage.end(first.courier.in_flight[0], well())
    await stage.check_inherited()
    await stage.end(second.courier.in_flight[0], well())
    assert (await stage.counts(listener)).acknowledged == 4_301
    assert guest == first.courier.sent[0].message_id


async def test_inherited_request_is_counted_once(stage: Stage, slow: Slow) -> None:
    queue, listener = await stage.running()
    first = stage.worker
    await stage.publish(queue, 2)
    second = await stage.join()
    await stage.move(first, second)
    await stage.end(first.courier.in_flight[0], well())
    slow.engine.slow = "before"
    second.dispatcher.check_inherited()
    await until(lambda: slow.engine.got_stuck == 1)
    for _ in range(2):
        second.dispatcher.check_inherited()
        for _ in range(10):
            await asyncio.sleep(0)
    slow.engine.hurry()
    await stage.quiet()
    await stage.assert_counts(listener, acknowledged=1, retrying=1, pending=1)


async def test_lane_is_idle_only_when_everything_is_stored(stage: Stage, slow: Slow) -> None:
    """Giving the cursor up then would make what is being stored ineffective."""
    queue, _ = await stage.running()
    await stage.publish(queue)
    [lane] = stage.lanes
    slow.engine.slow = "after"
    stage.courier.end_all(well())
    assert not lane.is_idle
    stage.dispatcher.delayed_flushes.wake()
    await until(lambda: slow.engine.got_stuck == 1)
    assert not lane.is_idle
    slow.engine.hurry()
    await stage.quiet()
    assert lane.is_idle


async def test_keys_are_read_once_however_often_the_lane_wakes_meanwhile(stage: Stage, slow: Slow) -> None:
    queue, listener = await stage.running(ordered=True)
    [first] = await stage.publish_keyed(queue, "a")
    await stage.end(stage.courier.in_flight[0], badly())
    [cursor] = stage.dispatcher.lanes.cursors
    await stage.dispatcher.hand_over([cursor])
    # The read of the lane's record comes first, the one of its keys second.
    await slow.begin(_spawned(stage.dispatcher.registry.take([cursor])), reads=2)
    before = slow.engine.got_stuck
    [lane] = stage.lanes
    slow.engine.slow = "reading"
    lane.wake()
    for _ in range(20):
        await asyncio.sleep(0)
    assert slow.engine.got_stuck == before
    slow.engine.let_others_pass()
    await slow.arrive()
    await stage.advance(6_000)
    await stage.acknowledge_in_turn(first)
    await stage.assert_counts(listener, acknowledged=1, retrying=0)


async def test_number_of_reads_at_once_is_limited(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization())
    await stage.start()
    for _ in range(20):
        await stage.listener(queue)
    engine = stage.store.engine
    assert isinstance(engine, Paced)
    stage.store.on_append = []
    await stage.append(queue, 1)
    engine.slow = "reading"
    stage.dispatcher.on_heads([((queue.organization, queue.id), 1)])
    for _ in range(50):
        await asyncio.sleep(0)
    assert engine.got_stuck == 3
    engine.hurry()
    await stage.quiet()
    assert len(stage.courier.sent) == 20
