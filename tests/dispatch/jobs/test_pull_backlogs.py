"""The leader reads how much waits for each pull listener, and for how long."""

from discue.dispatch.jobs.pull_backlogs import PullBacklogs
from discue.dispatch.lease import Leadership
from discue.store.pull_leases import PullBacklog
from tests.dispatch.stage import Stage
from tests.support.pull_consumers import LEASE_MS, PullFixture, another_listener, pull_fixture

HOUR_MS = 3_600_000


def _backlog(at: PullFixture, waiting: int, retrying: int, since: int) -> PullBacklog:
    listener = at.listener
    key = (listener.organization, listener.id, 0)
    return PullBacklog(key, at.queue.public_id, listener.public_id, "enabled", waiting, retrying, since)


async def test_backlog_counts_unread_and_leased_messages(stage: Stage) -> None:
    at = await pull_fixture(stage)
    backlogs = PullBacklogs(stage.store, stage.clock, Leadership(is_held=True))
    await backlogs.read()
    assert backlogs.all == [_backlog(at, 0, 0, 0)]

    await at.publish(2)
    stage.clock.advance(HOUR_MS)
    second = stage.clock.now()
    await at.publish(3)
    handed = await at.pull(3)
    assert await at.say("acknowledge", handed[:1]) == ["acknowledged"]
    await backlogs.read()
    assert backlogs.all == [_backlog(at, 4, 2, second)]

    await at.pull(2)
    await backlogs.read()
    assert backlogs.all == [_backlog(at, 4, 4, 0)]

    # The consumer is gone: its messages could be pulled since their leases ended.
    stage.clock.advance(HOUR_MS)
    await backlogs.read()
    assert backlogs.all == [_backlog(at, 4, 4, second + LEASE_MS)]


async def test_backlogs_of_all_listeners_are_read_page_by_page(stage: Stage) -> None:
    at = await pull_fixture(stage)
    others = [await another_listener(stage, at.queue, number=number) for number in range(901, 1_000)]
    await at.publish(1)
    stage.store.on_append = []
    last = await another_listener(stage, at.queue, number=1_000)
    now = stage.clock.now()
    backlogs = PullBacklogs(stage.store, stage.clock, Leadership(is_held=True))
    await backlogs.read()
    assert backlogs.all == [*(_backlog(each, 1, 0, now) for each in (at, *others)), _backlog(last, 0, 0, 0)]


async def test_worker_that_leads_no_more_reports_nothing(stage: Stage) -> None:
    await pull_fixture(stage)
    leadership = Leadership(is_held=True)
    backlogs = PullBacklogs(stage.store, stage.clock, leadership)
    await backlogs.read()
    assert len(backlogs.all) == 1
    leadership.is_held = False
    assert len(backlogs.all) == 0
    await backlogs.read()
    leadership.is_held = True
    assert len(backlogs.all) == 0
