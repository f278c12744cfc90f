"""Reports of missed messages."""

import asyncio

import pytest

from discue.control.queues import new_system_queue
from discue.dispatch.jobs.system_events import MissedReports
from discue.dispatch.lease import Leadership
from discue.domain.messages import MessageOptions
from discue.domain.model import Listener, Queue
from discue.domain.retry import RetryOptions
from discue.observability.logs import Log
from discue.store import queues
from tests.dispatch.stage import Stage, badly
from tests.support.cast import control_of
from tests.support.system_queue import system_events

MINUTE = 60_000


class Reporter:
    """The job of a worker on a stage, whose lanes request its reports."""

    def __init__(self, stage: Stage) -> None:
        self.leadership = Leadership()
        self.requests = 0
        self.job = MissedReports(control_of(stage.store, stage.clock), Log("test"), self.leadership)
        stage.worker.on_missed = self._on_missed

    def _on_missed(self) -> None:
        self.requests += 1
        self.job.request()


async def _running(stage: Stage) -> tuple[Queue, Listener, Reporter]:
    queue, listener = await stage.running()
    made = new_system_queue(control_of(stage.store, stage.clock), queue.organization)
    await stage.store.write(lambda tx: queues.insert(tx, made))
    return queue, listener, Reporter(stage)


async def _miss(stage: Stage, queue: Queue) -> None:
    await stage.publish_with(queue, MessageOptions(retry=RetryOptions(schedule=())))
    await stage.end(stage.courier.in_flight[0], badly())


async def test_a_missed_message_is_reported_by_its_worker_at_once_and_later_ones_after_a_minute(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    queue, listener, reporter = await _running(stage)
    await _miss(stage, queue)
    assert reporter.requests == 1
    await reporter.job.round()
    await _miss(stage, queue)
    await _miss(stage, queue)
    await reporter.job.round()
    [first] = await system_events(stage.store, queue.organization)
    assert (first["count"], first["reasons"]) == (1, {"attempts_used_up": 1})
    stage.clock.advance(MINUTE)
    # The job knows when the next report is due: it neither waits nor has to be asked.
    async with asyncio.timeout(5):
        await reporter.job.round()
    [_, second] = await system_events(stage.store, queue.organization)
    assert (second["listener"]["id"], second["count"]) == (listener.public_id, 2)
    logged = [vars(each)["discue_fields"] for each in caplog.records if each.message == "messages_missed"]
    assert [(fields["count"], fields["reasons"]) for fields in logged] == [
        (1, "attempts_used_up:1"),
        (2, "attempts_used_up:2"),
    ]


async def test_the_leader_reports_what_a_worker_that_died_has_missed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, _, reporter = await _running(stage)
    await _miss(stage, queue)
    monkeypatch.setattr("discue.dispatch.jobs.system_events._LONGEST_PAUSE_SECONDS", 0.0)
    successor = Reporter(stage)
    await successor.job.round()
    assert await system_events(stage.store, queue.organization) == []
    successor.leadership.is_held = True
    await successor.job.round()
    assert len(await system_events(stage.store, queue.organization)) == 1
    await reporter.job.round()
    assert len(await system_events(stage.store, queue.organization)) == 1


async def test_a_failed_attempt_that_is_retried_requests_no_report(stage: Stage) -> None:
    queue, _, reporter = await _running(stage)
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], badly())
    assert reporter.requests == 0
