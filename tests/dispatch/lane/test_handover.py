"""Lanes that move from one worker to another while their requests are in flight."""

import asyncio
import os
from typing import Any

import pytest

from discue.dispatch.lane.context import Tuning
from discue.dispatch.lane.handover import CHECK_INTERVAL_MS
from discue.dispatch.lane.lane import Lane
from discue.domain.attempts import decode_detail
from discue.domain.errors import StoreUnavailable
from discue.domain.model import Listener, Queue
from discue.store.engine import Appended, Batch, BatchOutcome, Notification, Settle, Work
from tests.dispatch.stage import LIMITS, Stage, Worker, badly, until, well, with_trace

IN_FLIGHT = LIMITS.listener_max_in_flight


async def _two_workers(stage: Stage, messages: int = 3) -> tuple[Queue, Listener, Worker, Worker, list[str]]:
    """Return two workers; the first has a lane with so many requests in flight."""
    queue = await stage.queue(await stage.organization())
    await stage.start()
    first = stage.worker
    listener = await stage.listener(queue)
    ids = await stage.publish(queue, messages)
    second = await stage.join()
    return queue, listener, first, second, ids


async def _handed_over(stage: Stage, messages: int = 3) -> tuple[Queue, Listener, Worker, Worker, list[str]]:
    """Like `_two_workers`, and the first has given its lane to the second."""
    made = await _two_workers(stage, messages)
    await stage.move(stage.workers[0], stage.workers[1])
    return made


async def test_success_at_the_previous_owner_is_counted_by_the_next(stage: Stage) -> None:
    _, listener, first, second, _ = await _handed_over(stage)
    stage.clock.advance(70)
    ended_at = stage.clock.now()
    await stage.end(first.courier.in_flight[::], well())
    stage.clock.advance(500)
    await stage.check_inherited()
    await stage.assert_counts(listener, acknowledged=3, retrying=0, pending=0, position=3, last_success_at=ended_at)
    assert await stage.delivery_rows(listener) == []
    assert await stage.rows("SELECT count(*) FROM attempt WHERE status = 200") == [(3,)]
    assert second.courier.sent == []
    [lane] = second.lanes
    assert lane.is_settled
    assert not first.dispatcher.handover_outcomes.in_flight


async def test_next_owner_checks_inherited_requests_each_second(stage: Stage) -> None:
    _, listener, first, _, _ = await _handed_over(stage)
    await stage.end(first.courier.in_flight[::], well())
    assert (await stage.counts(listener)).acknowledged == 0
    await stage.advance(CHECK_INTERVAL_MS)
    assert (await stage.counts(listener)).acknowledged == 3


async def test_failure_at_the_previous_owner_is_retried_by_the_next_when_due(stage: Stage) -> None:
    _, listener, first, second, ids = await _handed_over(stage, 1)
    await stage.end(first.courier.in_flight[0], badly())
    assert await stage.delivery_rows(listener) == [(1, "retry", 1)]
    [(due_at,)] = await stage.rows("SELECT due_at FROM delivery")
    assert 5_000 <= due_at - stage.clock.now() <= 6_000
    await stage.check_inherited()
    await stage.advance(due_at - stage.clock.now() - 1)
    assert second.courier.sent == []
    await stage.advance(1)
    assert [(sent.message_id, sent.number) for sent in second.courier.in_flight] == [(ids[0], 2)]
    await stage.end(second.courier.in_flight[0], well())
    await stage.assert_counts(listener, acknowledged=1, retrying=0)
    assert await stage.rows("SELECT number, status FROM attempt ORDER BY number") == [(1, 500), (2, 200)]


async def test_attempt_details_of_the_previous_owner_are_kept(stage: Stage) -> None:
    _, listener, first, _, _ = await _handed_over(stage)
    body = os.urandom(900_000)
    await stage.end(first.courier.in_flight[::], with_trace(badly(), body))
    kept = await stage.rows("SELECT d.listener, d.content FROM attempt a JOIN attempt_detail d ON d.id = a.id")
    due = await stage.rows("SELECT due_at FROM delivery ORDER BY due_at")
    assert [owner for owner, _ in kept] == [listener.id] * 3
    assert sorted((decode_detail(content).next_attempt_at,) for _, content in kept) == due
    assert {decode_detail(content).body for _, content in kept} == {body}


async def test_delivery_missed_by_the_previous_owner_is_counted(stage: Stage) -> None:
    _, listener, first, _, ids = await _handed_over(stage)
    await stage.end(first.courier.in_flight[1], badly(no_retry=True))
    await stage.check_inherited()
    assert await stage.missed(listener) == [ids[1]]
    await stage.assert_counts(listener, missed=1, retrying=2, pending=2)
    assert await stage.rows("SELECT reason FROM delivery WHERE state = 'missed'") == [("no_retry",)]


async def test_410_to_the_previous_owner_disables_the_listener(stage: Stage) -> None:
    queue, listener, first, second, _ = await _handed_over(stage)
    await stage.end(first.courier.in_flight[:2], badly(410))
    stored = await stage.stored(listener)
    assert (stored.status, stored.config_version) == ("disabled", listener.config_version + 1)
    await stage.follow("listener", listener.organization, listener.id)
    await stage.publish(queue)
    await stage.advance(LIMITS.timeout_ms)
    assert second.courier.sent == []


async def test_requests_of_a_dead_previous_owner_are_repeated(stage: Stage) -> None:
    _, listener, first, second, ids = await _handed_over(stage)
    await stage.advance(CHECK_INTERVAL_MS)
    assert second.courier.sent == []
    await stage.die(first)
    await stage.check_inherited()
    assert [(sent.message_id, sent.number) for sent in second.courier.in_flight] == [(each, 2) for each in ids]
    await stage.end(second.courier.in_flight[::], well())
    assert (await stage.counts(listener)).acknowledged == 3


async def test_expired_worker_does_not_report_a_request_that_is_repeated(stage: Stage) -> None:
    _, listener, first, second, _ = await _handed_over(stage)
    await stage.steal(first)
    await stage.check_inherited()
    assert len(second.courier.in_flight) == 3
    await stage.end(first.courier.in_flight[::], badly(no_retry=True))
    await stage.end(second.courier.in_flight[::], well())
    await stage.check_inherited()
    await stage.assert_counts(listener, acknowledged=3, missed=0, retrying=0)
    assert await stage.rows("SELECT DISTINCT status FROM attempt") == [(200,)]


async def test_lane_that_returns_to_a_worker_waits_for_the_requests_of_that_worker(stage: Stage) -> None:
    _, listener, first, second, _ = await _handed_over(stage)
    await stage.move(second, first)
    await stage.advance(CHECK_INTERVAL_MS)
    assert len(first.courier.sent) == 3
    assert first.dispatcher.limiter.in_flight == 3
    await stage.end(first.courier.in_flight[::], well())
    assert (await stage.counts(listener)).acknowledged == 3
    assert second.courier.sent == []


async def test_request_recorded_under_the_owner_but_unknown_to_it_is_repeated(stage: Stage) -> None:
    _, _, _, second, ids = await _handed_over(stage, 1)
    await stage.store.write(lambda tx: tx.execute("UPDATE delivery SET sender = $1", second.session_id))
    await stage.check_inherited()
    assert [(sent.message_id, sent.number) for sent in second.courier.in_flight] == [(ids[0], 2)]


async def test_request_beyond_the_span_is_not_repeated_after_a_reset(stage: Stage) -> None:
    _, listener, first, _, ids = await _two_workers(stage, 5_000)
    while len(first.courier.in_flight) > 1:
        await stage.end(first.courier.in_flight[1:], well())
    await first.dispatcher.registry.reset()
    await stage.advance(CHECK_INTERVAL_MS)
    assert first.courier.ids() == ids[:1]
    await stage.end(first.courier.in_flight[0], well())
    assert len(first.courier.sent) == len(ids)
    assert (await stage.counts(listener)).acknowledged == len(ids)


async def test_outcomes_are_reported_after_a_release_with_a_lost_response(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, listener, first, second, _ = await _two_workers(stage)
    commit, failures = stage.store.engine.commit, [StoreUnavailable()]

    async def unheard_once(batch: Batch) -> BatchOutcome:
        outcome = await commit(batch)
        if failures and any(settle.releases for settle in batch.settles):
            raise failures.pop()
        return outcome

    monkeypatch.setattr(stage.store.engine, "commit", unheard_once)
    await stage.move(first, second)
    assert (len(first.dispatcher.lanes), len(second.dispatcher.lanes)) == (0, 1)
    await stage.end(first.courier.in_flight[::], well())
    await stage.check_inherited()
    assert (await stage.counts(listener)).acknowledged == 3
    assert second.courier.sent == []


async def test_outcomes_after_a_failed_write_are_stored(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.tuning = Tuning(ends_per_write=1)
    _, listener, first, _, _ = await _handed_over(stage)
    write, failures = stage.store.write, [RuntimeError("no write")]

    async def fails_once(work: Work[Any]) -> Any:
        if failures:
            raise failures.pop()
        return await write(work)

    monkeypatch.setattr(stage.store, "write", fails_once)
    await stage.end(first.courier.in_flight[::], well())
    await stage.check_inherited()
    assert (await stage.counts(listener)).acknowledged == 2


async def test_unreported_request_of_a_living_worker_is_repeated_after_a_while(stage: Stage) -> None:
    _, _, _, second, ids = await _handed_over(stage, 1)
    await stage.advance(LIMITS.timeout_ms + Tuning().report_grace_ms)
    assert second.courier.sent == []
    await stage.advance(CHECK_INTERVAL_MS)
    assert [(sent.message_id, sent.number) for sent in second.courier.in_flight] == [(ids[0], 2)]


async def test_workers_are_notified_of_free_cursors_and_ended_requests(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Notification] = []
    monkeypatch.setattr(stage.store.engine, "notify", told.append)
    _, _, first, _, _ = await _handed_over(stage)
    assert told == [Notification(cursors=True)]
    await stage.end(first.courier.in_flight[0], well())
    assert told == [Notification(cursors=True)] * 2


async def test_outcome_for_a_deleted_listener_is_not_recorded(stage: Stage) -> None:
    _, listener, first, second, _ = await _handed_over(stage)
    await stage.delete_listener(listener)
    await stage.store.write(lambda tx: tx.execute("DELETE FROM cursor"))
    await stage.store.write(lambda tx: tx.execute("DELETE FROM delivery"))
    await stage.end(first.courier.in_flight[::], badly())
    assert await stage.rows("SELECT count(*) FROM attempt") == [(0,)]
    assert (len(first.dispatcher.handover_outcomes.in_flight), len(second.dispatcher.lanes)) == (0, 0)


async def test_outcome_before_the_release_is_stored_is_reported_after_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, listener, first, second, ids = await _two_workers(stage)
    commit, may_commit = stage.store.engine.commit, asyncio.Event()

    async def held(batch: Batch) -> BatchOutcome:
        await may_commit.wait()
        return await commit(batch)

    monkeypatch.setattr(stage.store.engine, "commit", held)
    handing_over = asyncio.ensure_future(first.dispatcher.hand_over(tuple(first.dispatcher.lanes.cursors)))
    await until(lambda: bool(first.dispatcher.handover_outcomes.in_flight))
    assert await stage.delivery_rows(listener) == []
    first.courier.end_all(well())
    may_commit.set()
    await handing_over
    await stage.quiet()
    await stage.take_free(second)
    assert (await stage.counts(listener)).acknowledged == len(ids)
    assert (len(first.dispatcher.handover_outcomes.in_flight), second.courier.sent) == (0, [])


async def test_drain_during_a_handover_ends_when_the_handover_does(stage: Stage) -> None:
    _, listener, first, second, ids = await _two_workers(stage)
    cursors = tuple(first.dispatcher.lanes.cursors)
    async with asyncio.timeout(10):
        await asyncio.gather(first.dispatcher.hand_over(cursors), first.dispatcher.hand_over(cursors))
    first.courier.end_all(well())
    await stage.quiet()
    await stage.take_free(second)
    assert (await stage.counts(listener)).acknowledged == len(ids)


async def test_handover_ends_although_the_lane_fails_to_follow_its_flush(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    _, listener, first, second, ids = await _two_workers(stage)
    on_flushed, failures = Lane.on_flushed, [LookupError("no lane")]

    def fails_once(lane: Lane, settle: Settle) -> None:
        if failures:
            raise failures.pop()
        on_flushed(lane, settle)

    monkeypatch.setattr(Lane, "on_flushed", fails_once)
    async with asyncio.timeout(10):
        await first.dispatcher.hand_over(tuple(first.dispatcher.lanes.cursors))
    assert [type(each["exception"]) for each in complaints] == [LookupError]
    first.courier.end_all(well())
    await stage.quiet()
    await stage.take_free(second)
    await stage.end_all(well())
    assert (await stage.counts(listener)).acknowledged == len(ids)


async def test_appends_of_several_workers_are_sent_once_in_any_order_of_notification(stage: Stage) -> None:
    queue, _, first, _, _ = await _two_workers(stage, 1)
    heard: list[Appended] = []
    stage.store.on_append = [heard.append]
    for _ in range(4):
        await stage.append(queue, 2)
    for index in (1, 3, 0, 2):
        first.dispatcher.on_appended(heard[index])
        if index == 3:
            first.dispatcher.on_heads([((queue.organization, queue.id), 5)])
        await stage.quiet()
    assert [sent.number for sent in first.courier.sent] == [1] * 9
    assert len({sent.message_id for sent in first.courier.sent}) == 9


async def test_closed_lane_does_not_wait_for_the_lease(stage: Stage) -> None:
    queue, listener, first, _, _ = await _two_workers(stage, 0)
    first.lease.holds = False
    stage.store.on_append = [first.dispatcher.on_appended]
    await stage.publish(queue, 1)
    assert len(first.dispatcher._context.waiting_for_lease) == 1
    await stage.delete_listener(listener)
    assert first.dispatcher._context.waiting_for_lease == {}


async def test_flush_of_an_expired_owner_changes_nothing(stage: Stage) -> None:
    _, listener, first, second, _ = await _two_workers(stage)
    await stage.steal(first)
    await stage.take_free(second)
    assert len(second.courier.in_flight) == 3
    await stage.end(first.courier.in_flight[::], badly(no_retry=True))
    assert len(first.dispatcher.lanes) == 0
    assert await stage.rows("SELECT count(*) FROM attempt") == [(0,)]
    await stage.end(second.courier.in_flight[::], well())
    await stage.assert_counts(listener, acknowledged=3, missed=0, retrying=0)


async def test_expired_worker_takes_no_cursors_until_it_has_joined_again(stage: Stage) -> None:
    queue, listener, first, second, _ = await _two_workers(stage)
    await stage.steal(first)
    second.dispatcher.begin_draining()
    other = await stage.listener(queue)
    assert await first.dispatcher.registry.take([(other.organization, other.id, 0)]) == 0
    assert len(first.dispatcher.lanes) == 1
    await stage.revive(first)
    assert len(first.dispatcher.lanes) == 0
    await stage.take_free(first)
    assert {key[1] for key in first.dispatcher.lanes.cursors} == {listener.id, other.id}
    assert len(first.courier.sent) == 6


async def test_lane_is_not_taken_during_its_handover(stage: Stage) -> None:
    _, _, first, _, _ = await _two_workers(stage)
    [key] = first.dispatcher.lanes.cursors
    handing_over = asyncio.ensure_future(first.dispatcher.hand_over([key]))
    await until(lambda: bool(first.dispatcher.handover_outcomes.in_flight))
    assert await first.dispatcher.registry.take([key]) == 0
    await handing_over
    assert await first.dispatcher.registry.take([key]) == 1


async def test_cursor_without_a_lane_is_handed_over(stage: Stage) -> None:
    _, listener, first, _, _ = await _two_workers(stage, 1)
    [key] = first.dispatcher.lanes.cursors
    await stage.store.write(lambda tx: tx.execute("UPDATE listener SET notify_url = 'x'"))
    await stage.follow("listener", listener.organization, listener.id)
    assert len(first.dispatcher.lanes) == 0
    await first.dispatcher.hand_over([key])
    assert await stage.rows("SELECT count(*) FROM cursor WHERE owner IS NULL") == [(1,)]


async def test_lane_continues_from_the_store_after_a_failover_that_lost_messages(stage: Stage) -> None:
    queue, listener, first, _, ids = await _two_workers(stage, 3)
    stage.store.on_append = [first.dispatcher.on_appended]
    await stage.end(first.courier.in_flight[::], well())
    # The message that was appended and settled last is not in the database that took over.
    await stage.store.write(lambda tx: tx.execute("DELETE FROM log WHERE seq > 1"))
    await stage.store.write(lambda tx: tx.execute("UPDATE queue_head SET head = 1"))
    await stage.store.write(
        lambda tx: tx.execute("UPDATE cursor SET position = 0, acknowledged = 0, version = 0, ahead = NULL")
    )
    await first.dispatcher.registry.reset()
    await stage.quiet()
    assert first.courier.ids() == [ids[0]]
    again = await stage.publish(queue, 2)
    assert first.courier.ids() == [ids[0], *again]
    await stage.end(first.courier.in_flight[::], well())
    await stage.assert_counts(listener, acknowledged=3, position=3, pending=0)


async def test_lane_stops_reading_at_a_stale_head(stage: Stage) -> None:
    queue, _, first, _, _ = await _two_workers(stage, 1)
    key = (queue.organization, queue.id)
    first.dispatcher.on_heads([(key, 900)])
    await stage.quiet()
    stage.store.on_append = []
    await stage.publish(queue, 1)
    first.dispatcher.on_heads([(key, 2)])
    await stage.quiet()
    assert len(first.courier.sent) == 2


async def test_flush_of_an_old_lane_has_no_effect_after_a_reset(stage: Stage) -> None:
    _, listener, first, _, _ = await _two_workers(stage)
    [lane] = first.lanes
    old = lane.cursor.take()
    await first.dispatcher.registry.reset()
    assert not await stage.store.settle(old)
    assert len(first.dispatcher.lanes) == 1
    assert (await stage.counts(listener)).position == 0


async def test_dropped_lane_does_not_repeat_its_flush(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, first, _, _ = await _two_workers(stage)
    tries = []

    async def fails(batch: Batch) -> BatchOutcome:
        tries.append(batch)
        raise StoreUnavailable

    monkeypatch.setattr(stage.store.engine, "commit", fails)
    first.courier.end_all(well())
    first.dispatcher.delayed_flushes.wake()
    await until(lambda: bool(tries))
    first.dispatcher.registry.drop_all()
    async with asyncio.timeout(5):
        await stage.quiet()
    assert len(tries) == 1


async def test_drain_gives_up_idle_lanes_and_lanes_with_requests_in_flight(stage: Stage) -> None:
    queue, _, first, second, _ = await _two_workers(stage)
    idle = await stage.queue(await stage.organization())
    for _ in range(5):
        await stage.listener(idle)
    await stage.take_free(first)
    assert sum(len(worker.dispatcher.lanes) for worker in stage.workers) == 6
    draining = asyncio.ensure_future(first.dispatcher.drain(20))
    await until(lambda: len(first.dispatcher.lanes) == 0)
    await stage.take_free(second)
    assert len(second.dispatcher.lanes) == 6
    await stage.publish(queue, 1)
    assert len(second.courier.sent) == 1
    assert not draining.done()
    first.courier.end_all(well())
    async with asyncio.timeout(5):
        await draining
    await stage.leave(first)
    assert len(second.courier.sent) == 1


async def test_requests_in_flight_after_a_short_drain_are_repeated(stage: Stage) -> None:
    _, listener, first, second, ids = await _two_workers(stage)
    await first.dispatcher.drain(0)
    await stage.take_free(second)
    assert second.courier.sent == []
    first.courier.end_all(well())
    await stage.leave(first)
    assert [(sent.message_id, sent.number) for sent in second.courier.in_flight] == [(each, 2) for each in ids]
    assert (await stage.counts(listener)).acknowledged == 0
