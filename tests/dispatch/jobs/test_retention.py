"""Retention on a running installation: what is deleted and what stays, without disturbing deliveries."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import msgspec
import pytest

from discue.config.settings import Settings
from discue.dispatch.dispatcher import Dispatcher
from discue.dispatch.jobs.retention import Retention
from discue.dispatch.lease import Leadership
from discue.domain.errors import StoreDamaged
from discue.domain.idempotency import SWEEP_MS
from discue.domain.ids import row_id_at
from discue.domain.lockout import HISTORY_MS, LockoutSubject
from discue.domain.model import Queue
from discue.store import idempotency, lockouts, purge, queues
from discue.store.engine import IdempotencyRecord, QueueKey, Transaction
from discue.store.events import Occurrence
from discue.store.pagination import CLOCKS_APART_MS
from discue.store.purge import Job, LogToTrim
from tests.dispatch.stage import DAY_MS, Stage, badly, well, with_trace
from tests.store.rows import row_id
from tests.support.cast import control_of
from tests.support.databases import on_sqlite_only

pytestmark = on_sqlite_only

DAY = 86_400
HOUR_MS = 3_600_000
TIMES = Settings(
    retention_seconds=7 * DAY,
    missed_retention_seconds=14 * DAY,
    attempt_retention_seconds=3 * DAY,
    event_retention_seconds=25 * 3_600,
)


@pytest.fixture
def retention(stage: Stage) -> Retention:
    return _retention(stage)


def _retention(stage: Stage, *, is_leader: bool = True) -> Retention:
    """Return the jobs for whatever dispatcher the stage has by then."""
    control = replace(control_of(stage.store, stage.clock), settings=TIMES)
    return Retention(control, cast(Dispatcher, stage), Leadership(is_held=is_leader))


async def _kept(stage: Stage) -> list[int]:
    return [row[0] for row in await stage.rows("SELECT seq FROM log ORDER BY seq")]


async def _delete(stage: Stage, queue: Queue) -> None:
    async def delete(tx: Transaction) -> None:
        await queues.mark_deleted(tx, queue.organization, queue.id, stage.clock.now())
        await purge.enqueue(tx, Job(queue.organization, row_id(9_000), "purge_queue", queue=queue.id))

    await stage.store.write(delete)
    await stage.follow("queue", queue.organization, queue.id)


async def test_old_settled_messages_are_deleted_and_others_stay(stage: Stage, retention: Retention) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 3)
    await stage.end(stage.courier.in_flight[:2], well())
    await stage.advance(7 * DAY_MS + 1)
    await retention.run()
    assert await _kept(stage) == [3]
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[::], well())
    await retention.run()
    assert await _kept(stage) == [4]
    await stage.assert_counts(listener, head=4, acknowledged=4, pending=0)


async def test_a_queue_keeps_its_messages_as_long_as_it_says(stage: Stage, retention: Retention) -> None:
    queue, _ = await stage.running()
    short = msgspec.structs.replace(queue, retention_seconds=60)
    await stage.store.write(lambda tx: queues.update(tx, short))
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[::], well())
    stage.clock.advance(60_000)
    await retention.run()
    assert await _kept(stage) == [1]
    stage.clock.advance(1)
    await retention.run()
    assert await _kept(stage) == []


async def test_run_continues_with_the_logs_that_the_last_one_has_left(
    stage: Stage, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discue.dispatch.jobs.retention._LOGS_READ", 1)
    monkeypatch.setattr("discue.dispatch.jobs.retention._LOG_READS_A_RUN", 2)
    organization = await stage.organization()
    await stage.start()
    for _ in range(3):
        await stage.publish(await stage.queue(organization))
    stage.clock.advance(8 * DAY_MS)
    await retention.run()
    assert len(await _kept(stage)) == 1
    await retention.run()
    assert await _kept(stage) == []
    await stage.publish(await stage.queue(organization))
    stage.clock.advance(8 * DAY_MS)
    await retention.run()
    await retention.run()
    assert await _kept(stage) == []


async def test_a_message_stays_for_as_long_as_its_retry_waits(stage: Stage, retention: Retention) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 2)
    first, second = stage.courier.in_flight
    await stage.end(first, badly())
    await stage.end(second, well())
    stage.clock.advance(8 * DAY_MS)
    await retention.run()
    assert await _kept(stage) == [1]
    await stage.advance(0)
    await stage.end(stage.courier.in_flight[0], well())
    await retention.run()
    assert await _kept(stage) == []
    assert (await stage.counts(listener)).acknowledged == 2


async def test_idempotency_keys_are_kept_for_a_day(stage: Stage, retention: Retention) -> None:
    queue, _ = await stage.running()
    begun = stage.clock.now()
    for number in range(-4, 4):
        once = IdempotencyRecord((number << 61, 2), b"", b"", row_id_at(begun) + number + 4)
        await stage.store.write(lambda tx, once=once: idempotency.store_key(tx, queue.organization, once, begun))  # type: ignore[misc]
    stage.clock.advance(DAY_MS)
    await retention.run()
    assert await stage.rows("SELECT count(*) FROM idempotency_key") == [(8,)]
    stage.clock.advance(CLOCKS_APART_MS)
    await retention.run()
    stage.clock.advance(SWEEP_MS // 2)
    await retention.run()
    [(some,)] = await stage.rows("SELECT count(*) FROM idempotency_key")
    assert 0 < some < 8
    assert await stage.rows("SELECT count(*) FROM idempotency_response") == [(8,)]
    stage.clock.advance(SWEEP_MS // 2 + 1)
    await retention.run()
    assert await stage.rows("SELECT count(*) FROM idempotency_key") == [(0,)]
    assert await stage.rows("SELECT count(*) FROM idempotency_response") == [(0,)]


async def test_attempts_and_missed_deliveries_are_deleted_after_their_retention(
    stage: Stage, retention: Retention
) -> None:
    queue, listener = await stage.running()
    [message] = await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], with_trace(badly(no_retry=True)))
    kept = "SELECT (SELECT count(*) FROM attempt), (SELECT count(*) FROM attempt_detail)"
    assert await stage.rows(kept) == [(1, 1)]
    stage.clock.advance(3 * DAY_MS + 1)
    await retention.run()
    assert await stage.rows(kept) == [(0, 0)]
    stage.clock.advance(10 * DAY_MS)
    await retention.run()
    assert await stage.missed(listener) == [message]
    assert await _kept(stage) == [1]
    stage.clock.advance(DAY_MS)
    await retention.run()
    assert await stage.missed(listener) == []
    assert await _kept(stage) == []
    assert (await stage.counts(listener)).missed == 1


async def test_messages_of_a_disabled_listener_are_missed_kept_and_then_deleted(
    stage: Stage, retention: Retention
) -> None:
    queue, listener = await stage.running()
    await stage.configure(listener, status="disabled")
    ids = await stage.publish(queue, 10)
    stage.clock.advance(29 * DAY_MS)
    await retention.run()
    assert len(await _kept(stage)) == 10
    stage.clock.advance(2 * DAY_MS)
    await retention.run()
    assert (await stage.counts(listener)).missed == 10
    assert await stage.missed(listener) == ids[::-1]
    stage.clock.advance(15 * DAY_MS)
    await retention.run()
    assert await _kept(stage) == []
    await stage.assert_counts(listener, missed=10, pending=0)


async def test_events_and_counts_are_deleted_after_their_retention(stage: Stage, retention: Retention) -> None:
    queue, _ = await stage.running()
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], badly(410))
    assert await stage.rows("SELECT kind FROM event") == [("listener_updated",)]
    past = "SELECT count(*) FROM tally WHERE period > 0"
    counted = await stage.rows(past)
    stage.clock.advance(25 * HOUR_MS)
    await retention.run()
    assert await stage.rows("SELECT count(*) FROM event") == [(1,)]
    stage.clock.advance(1)
    await retention.run()
    assert await stage.rows("SELECT count(*) FROM event") == [(0,)]
    assert await stage.rows(past) == counted
    stage.clock.advance(24 * HOUR_MS)
    await retention.run()
    assert await stage.rows(past) == [(0,)]
    assert await stage.rows("SELECT count(*) FROM tally WHERE period = 0") == [(1,)]


async def test_a_deleted_queue_leaves_nothing_behind(stage: Stage, retention: Retention) -> None:
    queue, _ = await stage.running()
    await stage.publish(queue, 1_200)
    await stage.end(stage.courier.in_flight[::2], badly())
    await stage.end(stage.courier.in_flight[::3], badly(no_retry=True))

    await _delete(stage, queue)
    await retention.purge_deleted()
    for table in ("queue", "queue_head", "listener", "cursor", "delivery", "attempt", "missed_range", "log", "job"):
        assert await stage.rows(f"SELECT count(*) FROM {table}") == [(0,)], table
    assert len(stage.dispatcher.lanes) == 0


async def test_purge_runs_on_request_only(stage: Stage, retention: Retention) -> None:
    queue, _ = await stage.running()
    round_under_way = asyncio.ensure_future(retention.purge_on_request())
    await _delete(stage, queue)
    assert await stage.rows("SELECT count(*) FROM job") == [(1,)]
    retention.request_purge()
    await round_under_way
    assert await stage.rows("SELECT count(*) FROM job") == [(0,)]


async def test_worker_that_is_not_the_leader_only_misses_deliveries_of_its_own_lanes(
    stage: Stage, retention: Retention
) -> None:
    queue, listener = await stage.running()
    await stage.configure(listener, status="disabled")
    await stage.publish(queue, 10)
    doomed = await stage.queue(await stage.organization())
    await _delete(stage, doomed)
    stage.clock.advance(31 * DAY_MS)
    follower = _retention(stage, is_leader=False)
    await follower.purge_deleted()
    for _ in range(2):
        await follower.run()
        stage.clock.advance(15 * DAY_MS)
    assert await _kept(stage) == list(range(1, 11))
    assert (await stage.counts(listener)).missed == 10
    assert await stage.rows("SELECT count(*) FROM job") == [(1,)]
    await retention.purge_deleted()
    await retention.run()
    assert await _kept(stage) == []
    assert await stage.rows("SELECT count(*) FROM job") == [(0,)]


async def test_a_log_that_loses_its_oldest_messages_is_delivered_on(stage: Stage, retention: Retention) -> None:
    queue, listener = await stage.running()
    for _ in range(3):
        await stage.publish(queue, 40)
        await stage.end(stage.courier.in_flight[::], well())
        stage.clock.advance(4 * DAY_MS)
        await retention.run()
    assert await _kept(stage) == list(range(81, 121))
    late = await stage.listener(queue)
    after = await stage.publish(queue, 2)
    assert [sent.message_id for sent in stage.courier.in_flight if sent.listener_id == late.public_id] == after
    await stage.end(stage.courier.in_flight[::], well())
    assert (await stage.counts(listener)).acknowledged == 122


async def test_failed_authentications_are_deleted_after_their_retention(stage: Stage, retention: Retention) -> None:
    await stage.running()
    subject, began = LockoutSubject.unknown_key("192.0.2.1"), stage.clock.now()

    async def fail(tx: Transaction) -> None:
        await lockouts.count_failure(tx, subject, began, Occurrence(row_id(9_000), ""))

    await stage.store.write_exclusively(fail)
    stage.clock.advance(HISTORY_MS)
    await retention.run()
    assert await stage.rows("SELECT address FROM lockout") == [("192.0.2.1",)]
    stage.clock.advance(1)
    await retention.run()
    assert await stage.rows("SELECT address FROM lockout") == []


async def test_damaged_log_does_not_keep_other_logs_from_being_trimmed(
    stage: Stage, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged, _ = await stage.running()
    other = await stage.queue(await stage.organization())
    await stage.publish(damaged)
    await stage.end_all(well())
    await stage.publish(other)
    stage.clock.advance(8 * DAY_MS)
    read = purge.oldest_messages

    async def oldest(tx: Transaction, logs: Sequence[LogToTrim]) -> dict[QueueKey, int]:
        if any(log.queue == damaged.id for log in logs):
            raise StoreDamaged
        return await read(tx, logs)

    monkeypatch.setattr(purge, "oldest_messages", oldest)
    await retention.run()
    assert await stage.rows("SELECT queue FROM log") == [(damaged.id,)]
    assert (damaged.organization, damaged.id) in stage.store.damage.parts()
