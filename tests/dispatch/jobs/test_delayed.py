"""Delayed messages and runs of schedules on lanes, with a clock that stands still: not early, not twice."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest

from discue.dispatch.jobs.scheduler import Scheduler, ScheduleRuns
from discue.dispatch.lease import Leadership
from discue.domain.errors import StoreDamaged
from discue.domain.messages import MessageOptions
from discue.domain.model import Queue
from discue.domain.schedule import Schedule, Timing, first_run
from discue.store import direct_appends, schedules
from discue.store.direct_appends import DueMessage
from discue.store.engine import Transaction
from discue.store.schedules import PlannedRun
from tests.dispatch.stage import Stage, well
from tests.support.cast import control_of
from tests.support.messages import read_message


class Scheduling:
    """The scheduler of a stage's worker. `leadership` says whether it is this worker's turn."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.leadership = Leadership(is_held=True)
        control = replace(control_of(stage.store, stage.clock), public_ids=stage.public_ids, row_ids=stage.row_ids)
        self.scheduler = Scheduler(stage.store, ScheduleRuns(control), stage.clock, self.leadership)
        stage.store.on_append = [stage.dispatcher.on_appended, self.scheduler.on_appended]

    async def deliver(self) -> None:
        await self.scheduler.deliver_due()
        await self._stage.quiet()


async def _begun(stage: Stage) -> tuple[Queue, Scheduling]:
    queue = await stage.queue(await stage.organization())
    await stage.start()
    return queue, Scheduling(stage)


async def _delayed(stage: Stage, queue: Queue, milliseconds: int) -> str:
    return await stage.publish_with(queue, MessageOptions(deliver_at=stage.clock.now() + milliseconds))


async def test_a_delayed_message_is_sent_when_it_is_due_and_not_before(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    listener = await stage.listener(queue)
    message = await _delayed(stage, queue, 5_000)
    stage.clock.advance(4_999)
    await scheduling.deliver()
    assert stage.courier.ids() == []
    stage.clock.advance(1)
    await scheduling.deliver()
    await scheduling.deliver()
    assert stage.courier.ids() == [message]
    assert stage.courier.in_flight[0].request.body == b'"hello"'
    await stage.end(stage.courier.in_flight, well())
    await stage.assert_counts(listener, acknowledged=1, pending=0, missed=0)


async def test_delayed_message_does_not_hold_up_later_ones(stage: Stage) -> None:
    queue, _ = await _begun(stage)
    listener = await stage.listener(queue)
    await _delayed(stage, queue, 5_000)
    at_once = await stage.publish(queue, 3)
    assert stage.courier.ids() == at_once
    await stage.end(tuple(stage.courier.in_flight), well())
    assert (await stage.counts(listener)).pending == 0
    await stage.start()
    assert stage.courier.ids() == []


async def test_delayed_message_is_not_sent_to_a_younger_listener(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    old = await stage.listener(queue)
    message = await _delayed(stage, queue, 5_000)
    young = await stage.listener(queue)
    stage.clock.advance(5_000)
    await scheduling.deliver()
    assert [(sent.message_id, sent.listener_id) for sent in stage.courier.in_flight] == [(message, old.public_id)]
    later = await stage.publish(queue)
    assert [sent.message_id for sent in stage.courier.sent if sent.listener_id == young.public_id] == later
    await stage.end(tuple(stage.courier.in_flight), well())
    assert (await stage.counts(young)).acknowledged == 1
    assert (await stage.counts(young)).pending == 0


async def test_deadline_of_a_delayed_message_starts_when_it_is_due(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    await stage.listener(queue)
    message = await _delayed(stage, queue, stage.limits.deadline_ms + 5_000)
    stage.clock.advance(stage.limits.deadline_ms + 5_000)
    await stage.dispatcher.miss_too_old()
    await scheduling.deliver()
    assert stage.courier.ids() == [message]


async def test_publish_that_is_due_earlier_wakes_the_scheduler(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    await stage.listener(queue)
    scheduler = scheduling.scheduler
    await scheduling.deliver()
    known = [scheduler.next_at]
    for milliseconds in (9_000, 5_000, 7_000):
        await _delayed(stage, queue, milliseconds)
    known.append(scheduler.next_at)
    assert known == [None, stage.clock.now() + 5_000]
    message = await _delayed(stage, queue, 1)
    stage.clock.advance(1)
    async with asyncio.timeout(5):
        await scheduler.round()
    await stage.quiet()
    assert stage.courier.ids() == [message]
    assert scheduler.next_at == stage.clock.now() + 4_999


async def test_due_time_is_known_from_snapshots_and_only_the_leader_delivers(stage: Stage) -> None:
    queue, _ = await _begun(stage)
    await stage.listener(queue)
    message = await _delayed(stage, queue, 5_000)
    newcomer = Scheduling(stage)
    newcomer.leadership.is_held = False
    newcomer.scheduler.on_snapshot((await stage.store.engine.poll(())).scheduled_at)
    assert newcomer.scheduler.next_at == stage.clock.now() + 5_000
    stage.clock.advance(5_000)
    await newcomer.scheduler.round()
    assert stage.courier.sent == []
    newcomer.leadership.is_held = True
    async with asyncio.timeout(5):
        await newcomer.scheduler.round()
    await stage.quiet()
    assert stage.courier.ids() == [message]
    assert (await stage.store.engine.poll(())).scheduled_at is None


async def test_messages_that_are_due_at_once_are_sent_in_order(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    await stage.listener(queue)
    published = [await _delayed(stage, queue, 5_000) for _ in range(600)]
    stage.clock.advance(5_000)
    await scheduling.deliver()
    await stage.end_all(well())
    assert [sent.message_id for sent in stage.courier.sent] == published


async def test_due_message_that_was_deleted_is_removed(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    message = await _delayed(stage, queue, 1)
    stage.clock.advance(1)
    await scheduling.deliver()
    await stage.delete_message(queue, message)
    assert await stage.store.read(partial(read_message, queue=queue, public_id=message)) is None


MINUTE = 60_000


async def _scheduled(stage: Stage, queue: Queue, timing: Timing, **changes: Any) -> Schedule:
    made = Schedule(
        organization=queue.organization,
        id=stage.row_ids.next(),
        public_id=stage.public_ids.next(),
        queue=queue.id,
        queue_public_id=queue.public_id,
        alias="every-minute",
        status="enabled",
        timing=timing,
        config_version=1,
        created_at=stage.clock.now(),
        updated_at=stage.clock.now(),
        data=b'"again"',
    )
    made = msgspec.structs.replace(made, **{"next_run_at": first_run(made, stage.clock.now()), **changes})
    await stage.store.write(partial(schedules.insert, schedule=made))
    return made


async def _to(stage: Stage, instant: int | None) -> None:
    assert instant is not None
    stage.clock.advance(instant - stage.clock.now())


async def test_a_schedule_sends_a_message_at_each_of_its_runs(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    await stage.listener(queue)
    made = await _scheduled(stage, queue, Timing("* * * * *"))
    scheduling.scheduler.on_snapshot((await stage.store.engine.poll(())).scheduled_at)
    assert scheduling.scheduler.next_at == made.next_run_at
    await _to(stage, made.next_run_at)
    for run in range(3):
        async with asyncio.timeout(5):
            await scheduling.scheduler.round()
        await stage.quiet()
        assert len(stage.courier.sent) == run + 1
        assert dict(stage.courier.sent[-1].request.headers) == {
            "discue-schedule": made.public_id,
            "discue-scheduled-at": str(stage.clock.now()),
        }
        stage.clock.advance(MINUTE)
    assert {sent.request.body for sent in stage.courier.sent} == {b'"again"'}


async def test_a_clock_that_is_set_back_runs_nothing_again(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    await stage.listener(queue)
    made = await _scheduled(stage, queue, Timing("* * * * *"))
    await _to(stage, made.next_run_at)
    await scheduling.deliver()
    for step in (-5 * MINUTE, 5 * MINUTE, MINUTE - 1):
        stage.clock.advance(step)
        await scheduling.deliver()
        assert len(stage.courier.sent) == 1
    stage.clock.advance(1)
    await scheduling.deliver()
    assert len(stage.courier.sent) == 2


async def test_a_schedule_that_cannot_run_holds_no_delayed_message_up(stage: Stage) -> None:
    queue, scheduling = await _begun(stage)
    await stage.listener(queue)
    made = await _scheduled(stage, queue, Timing("* * * * *"))
    await stage.store.write(lambda tx: tx.execute("UPDATE schedule SET settings = '{'"))
    await _delayed(stage, queue, 1)
    await _to(stage, made.next_run_at)
    with pytest.raises(msgspec.DecodeError):
        await scheduling.deliver()
    await stage.quiet()
    assert len(stage.courier.sent) == 1


async def test_damaged_messages_of_a_queue_do_not_hold_up_those_of_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged, scheduling = await _begun(stage)
    other = await stage.queue(await stage.organization())
    await stage.listener(damaged)
    await stage.listener(other)
    held, sent = await _delayed(stage, damaged, 5_000), await _delayed(stage, other, 5_000)
    append = direct_appends.append_due

    async def appended(tx: Transaction, messages: Sequence[DueMessage], now: int) -> None:
        if any(each.queue == (damaged.organization, damaged.id) for each in messages):
            raise StoreDamaged
        await append(tx, messages, now)

    stage.clock.advance(5_000)
    with monkeypatch.context() as patched:
        patched.setattr(direct_appends, "append_due", appended)
        # Raised for the supervisor, which repeats the job later.
        with pytest.raises(StoreDamaged):
            await scheduling.deliver()
        await stage.quiet()
        assert stage.courier.ids() == [sent]
        assert (damaged.organization, damaged.id) in stage.store.damage.parts()
    await scheduling.deliver()
    assert stage.courier.ids() == [sent, held]


async def test_damaged_queue_does_not_hold_up_the_schedules_of_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged, scheduling = await _begun(stage)
    other = await stage.queue(await stage.organization())
    await stage.listener(damaged)
    await stage.listener(other)
    made = [await _scheduled(stage, queue, Timing("* * * * *")) for queue in (damaged, other)]
    run = schedules.run

    async def ran(tx: Transaction, planned: Sequence[PlannedRun], **named: Any) -> bool:
        if any(each.queue == (damaged.organization, damaged.id) for each in planned):
            raise StoreDamaged
        return await run(tx, planned, **named)

    await _to(stage, made[0].next_run_at)
    with monkeypatch.context() as patched:
        patched.setattr(schedules, "run", ran)
        with pytest.raises(StoreDamaged):
            await scheduling.deliver()
        await stage.quiet()
        assert len(stage.courier.sent) == 1
        assert (damaged.organization, damaged.id) in stage.store.damage.parts()
    await scheduling.deliver()
    await stage.quiet()
    assert len(stage.courier.sent) == 2
