"""Reports of a failing egress proxy."""

import pytest

from discue.control.queues import new_system_queue
from discue.dispatch.jobs.system_events import FaultReports
from discue.domain.attempts import Outcome
from discue.domain.errors import StoreDamaged, StoreUnavailable
from discue.domain.model import Queue
from discue.observability.logs import Log
from discue.store import queues
from discue.store.store import RecentFaults
from tests.dispatch.stage import Stage, well
from tests.support.cast import control_of
from tests.support.system_queue import system_events

FAILED = Outcome(0, "egress_proxy", "The egress proxy cannot be reached.", 1)
MINUTE_MS = 60_000


async def _running(stage: Stage) -> tuple[Queue, FaultReports]:
    """Return a queue with two listeners whose deliveries wait, and the job."""
    stage.store.proxy_faults = RecentFaults(stage.clock.monotonic)
    queue, _ = await stage.running()
    await stage.listener(queue)
    control = control_of(stage.store, stage.clock)
    made = new_system_queue(control, queue.organization)
    await stage.store.write(lambda tx: queues.insert(tx, made))
    await stage.publish(queue, 5)
    await stage.end(stage.courier.in_flight[::], FAILED)
    return queue, FaultReports(control, Log("test"))


async def test_failing_proxy_is_reported_to_an_organization_once(stage: Stage) -> None:
    queue, job = await _running(stage)
    failed_at = stage.clock.now()
    for _ in range(30):
        await job.report()
        await stage.advance(MINUTE_MS)
        await stage.end(stage.courier.in_flight[::], FAILED)
    assert await system_events(stage.store, queue.organization) == [{"type": "egress_proxy.failing", "at": failed_at}]
    assert stage.store.measures.proxy_failures > 30


async def test_proxy_that_fails_again_after_ten_good_minutes_is_reported_again(stage: Stage) -> None:
    queue, job = await _running(stage)
    await job.report()
    await stage.advance(MINUTE_MS)
    await stage.end_all(well())
    await stage.advance(10 * MINUTE_MS)
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[::], FAILED)
    await job.report()
    assert len(await system_events(stage.store, queue.organization)) == 2


async def test_log_has_a_line_for_the_proxy(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    _, job = await _running(stage)
    caplog.clear()
    for _ in range(2):
        await job.report()
    assert [(each.levelname, each.message) for each in caplog.records if each.name == "discue.test"] == [
        ("WARNING", "egress_proxy_failing")
    ]


async def test_report_is_repeated_until_it_is_stored(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, job = await _running(stage)

    async def fail(_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(stage.store, "write", fail)
        with pytest.raises(StoreUnavailable):
            await job.report()
    await job.report()
    await job.report()
    assert len(await system_events(stage.store, queue.organization)) == 1


async def test_damaged_system_queue_does_not_hold_up_other_reports(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, job = await _running(stage)
    stage.store.proxy_faults.note(queue.organization + 1)
    write, damaged = stage.store.write, [True, False]

    async def fail(work: object) -> object:
        if damaged.pop(0):
            raise StoreDamaged
        return await write(work)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(stage.store, "write", fail)
        await job.report()
    assert damaged == []
