"""Probes of listeners: which are probed, how often, and what is stored."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import apsw
import pytest

from discue.control.queues import new_system_queue
from discue.dispatch.lane.context import Tuning
from discue.dispatch.lane.probes import LATE_MS
from discue.domain.model import Listener
from discue.store import queues
from discue.store.engine import Work
from tests.dispatch.stage import Stage, badly, until, well
from tests.support.cast import control_of
from tests.support.databases import on_sqlite_only
from tests.support.system_queue import system_events

MINUTE = 60_000
AT_ONCE = 32
SHARED = "https://shared.example/live"


async def _waited(stage: Stage, *, at_most: int = 400_000) -> int:
    """Milliseconds until the next probe, which is answered well."""
    waited = 0
    while not stage.scout.in_flight:
        assert waited < at_most
        await stage.advance(500)
        waited += 500
    await stage.answer_probes()
    return waited


async def test_new_listener_is_probed_until_it_is_stable(stage: Stage) -> None:
    _, listener = await stage.running()
    assert stage.scout.asked == []
    assert 2_000 <= await _waited(stage) <= 3_500
    assert stage.scout.asked == [listener.liveness_url]
    found = await stage.liveness(listener)
    assert (found.state, found.success_count) == ("unknown", 1)
    assert 4_500 <= await _waited(stage) <= 6_000
    found = await stage.liveness(listener)
    assert (found.state, found.success_count, found.last_success_at) == ("stable", 2, stage.clock.now())


async def test_stable_listener_is_probed_every_30_seconds_and_an_idle_one_every_5_minutes(
    stage: Stage,
) -> None:
    queue, _ = await stage.running()
    await stage.probe(times=2)
    assert 27_000 <= await _waited(stage) <= 33_500
    await stage.advance(6 * MINUTE)
    await stage.answer_probes()
    assert 270_000 <= await _waited(stage) <= 330_500
    await stage.publish(queue)
    await stage.probe()
    assert 27_000 <= await _waited(stage) <= 33_500
    await stage.end(stage.courier.in_flight[0], well())
    await _waited(stage)
    assert 270_000 <= await _waited(stage) <= 330_500


async def test_failed_attempt_brings_the_next_probe_forward(stage: Stage) -> None:
    queue, _ = await stage.running()
    await stage.probe(times=2)
    await stage.advance(6 * MINUTE)
    await stage.answer_probes()
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], badly())
    assert 2_000 <= await _waited(stage) <= 3_500
    assert 27_000 <= await _waited(stage) <= 33_500


async def test_three_failures_in_a_row_make_a_listener_inactive_and_two_successes_stable(stage: Stage) -> None:
    _, listener = await stage.running()
    states = []
    for status in (500, 200, 503, 500, 302, 200, 500, 200, 200):
        await stage.probe(status)
        states.append((await stage.liveness(listener)).state)
    assert states == [*["unstable"] * 4, *["inactive"] * 4, "stable"]
    await stage.advance(LATE_MS)
    found = await stage.liveness(listener)
    assert (found.success_count, found.failure_count) == (4, 5)
    assert (found.last_failure_status, found.last_failure_msg) == (500, "answered 500")


async def _with_system_queue(stage: Stage, listener: Listener) -> None:
    queue = new_system_queue(control_of(stage.store, stage.clock), listener.organization)
    await stage.store.write(lambda tx: queues.insert(tx, queue))


async def test_listener_that_becomes_inactive_and_recovers_is_reported_by_probes_and_by_trials(stage: Stage) -> None:
    stage.tuning = Tuning(most_trials=1)
    queue, listener = await stage.running()
    await _with_system_queue(stage, listener)
    await stage.probe(503, times=5)
    await stage.probe(200, times=2)
    await stage.probe(503, times=3)
    await stage.publish(queue)
    # The first success lets a message through, whose acknowledgement closes the breaker.
    await stage.probe(200)
    await stage.end(stage.courier.in_flight[0], well())
    events = await system_events(stage.store, listener.organization)
    assert [event["type"] for event in events] == ["listener.inactive", "listener.recovered"] * 2
    assert events[0]["last_failure_msg"] == "answered 503"
    assert {event["listener"]["id"] for event in events} == {listener.public_id}


async def test_internal_error_of_a_probe_does_not_count(stage: Stage) -> None:
    _, listener = await stage.running()
    await stage.probe(error="internal", times=4)
    await stage.advance(LATE_MS)
    found = await stage.liveness(listener)
    assert (found.state, found.failure_count) == ("unknown", 0)


async def test_listeners_that_share_a_url_are_served_by_one_request(stage: Stage) -> None:
    queue, _ = await stage.running()
    fair_share = [await stage.listener(queue, liveness_url=SHARED) for _ in range(5)]
    for _ in range(4):
        await stage.probe()
    await stage.advance(10 * MINUTE)
    await stage.answer_probes()
    await stage.advance(LATE_MS)
    asked = stage.scout.asked.count(SHARED)
    assert {(await stage.liveness(each)).success_count for each in fair_share} == {asked}


async def test_organizations_do_not_share_the_probe_of_a_url(stage: Stage) -> None:
    """Probes of an organization wait for each other: those of another one would wait with them."""
    queue, _ = await stage.running()
    await stage.listener(queue, liveness_url=SHARED)
    await stage.listener(await stage.queue(await stage.organization()), liveness_url=SHARED)
    await stage.probe()
    assert stage.scout.asked.count(SHARED) == 2


async def test_listener_that_joins_a_probed_url_does_not_get_three_failures_at_once(stage: Stage) -> None:
    queue, _ = await stage.running()
    first = await stage.listener(queue, liveness_url=SHARED)
    await stage.probe(times=6)
    await stage.advance(MINUTE)
    await stage.answer_probes()
    await stage.advance(24_000)
    asked = stage.scout.asked.count(SHARED)
    for _ in range(3):
        await stage.listener(queue, liveness_url=SHARED)
        await stage.advance(3_000)
        await stage.answer_probes(503)
    assert stage.scout.asked.count(SHARED) == asked + 3
    await stage.advance(LATE_MS)
    found = await stage.liveness(first)
    assert (found.state, found.failure_count) == ("unstable", 1)


async def test_disabled_listener_keeps_its_state_and_is_probed_when_enabled(stage: Stage) -> None:
    _, listener = await stage.running()
    await stage.probe(503, times=3)
    await stage.configure(listener, status="disabled")
    before = len(stage.scout.asked)
    await stage.advance(60 * MINUTE)
    assert len(stage.scout.asked) == before
    assert (await stage.liveness(listener)).state == "inactive"
    await stage.configure(listener, status="enabled")
    assert 2_000 <= await _waited(stage) <= 3_500
    assert (await stage.liveness(listener)).state == "inactive"


async def test_listeners_of_a_suspended_organization_are_not_probed(stage: Stage) -> None:
    queue, _ = await stage.running()
    await stage.store.write(lambda tx: tx.execute("UPDATE organization SET state = 'suspended'"))
    await stage.follow("organization", queue.organization, queue.organization)
    await stage.advance(60 * MINUTE)
    assert stage.scout.asked == []


async def test_new_url_is_probed_soon_with_the_counts_of_the_old_one(stage: Stage) -> None:
    _, listener = await stage.running()
    await stage.probe(503, times=3)
    moved = await stage.configure(listener, liveness_url="https://example.com/elsewhere")
    found = await stage.liveness(moved)
    assert (found.state, found.failure_count, found.last_failure_msg) == ("unknown", 3, "answered 503")
    assert 2_000 <= await _waited(stage) <= 3_500
    assert stage.scout.asked[-1] == moved.liveness_url
    await stage.probe()
    found = await stage.liveness(moved)
    assert (found.state, found.success_count, found.failure_count) == ("stable", 2, 3)


async def test_probe_of_the_previous_url_is_ignored(stage: Stage) -> None:
    _, listener = await stage.running()
    await stage.advance(3_000)
    [asked] = stage.scout.in_flight
    await stage.configure(listener, liveness_url="https://example.com/elsewhere")
    asked.end(503)
    await stage.advance(500)
    assert (await stage.liveness(listener)).failure_count == 0


async def test_a_deleted_listener_is_not_probed_any_more(stage: Stage) -> None:
    _, listener = await stage.running()
    await stage.probe()
    await stage.delete_listener(listener)
    await stage.advance(60 * MINUTE)
    assert len(stage.scout.asked) == 1
    assert stage.dispatcher.prober._urls == {}


async def test_without_a_lease_nothing_is_probed(stage: Stage) -> None:
    await stage.running()
    stage.worker.lease.holds = False
    for _ in range(60):
        await stage.advance(1_000)
    assert stage.scout.asked == []
    stage.worker.lease.holds = True
    await stage.advance(1_000)
    assert len(stage.scout.asked) == 1


async def test_probes_in_flight_are_bounded(stage: Stage) -> None:
    stage.tuning = Tuning(probes_at_once=AT_ONCE)
    queue, _ = await stage.running()
    made = [await stage.listener(queue) for _ in range(AT_ONCE)]
    other = await stage.listener(await stage.queue(await stage.organization()))
    await stage.advance(4_000)
    # Of one organization half as many, and of another one still some.
    assert len(stage.scout.in_flight) == AT_ONCE // 2 + 1
    assert other.liveness_url in stage.scout.asked
    while stage.scout.in_flight:
        stage.scout.in_flight[0].end()
        await stage.quiet()
    assert set(stage.scout.asked) >= {each.liveness_url for each in made}


async def test_new_owner_continues_the_probes(stage: Stage) -> None:
    _, listener = await stage.running()
    giver = stage.worker
    await stage.probe(503, times=3)
    await stage.probe(200)
    taker = await stage.join()
    await stage.move(giver, taker)
    asked = len(giver.scout.asked)
    await stage.probe(200)
    assert (len(giver.scout.asked), len(taker.scout.asked)) == (asked, 1)
    found = await stage.liveness(listener)
    assert (found.state, found.success_count, found.failure_count) == ("stable", 2, 3)
    await stage.advance(60 * MINUTE)
    assert len(giver.scout.asked) == asked


async def test_counts_are_stored_before_a_handover(stage: Stage) -> None:
    _, listener = await stage.running()
    giver = stage.worker
    await stage.probe(times=2)
    await stage.probe()
    assert (await stage.liveness(listener)).success_count == 2
    await stage.move(giver, await stage.join())
    assert (await stage.liveness(listener)).success_count == 3


async def test_health_survives_a_crash_and_a_former_owner_does_not_change_it(
    stage: Stage,
) -> None:
    _, listener = await stage.running()
    robbed = stage.worker
    await stage.probe(503, times=3)
    await stage.advance(34_000)
    await stage.steal(robbed)
    await stage.join()
    await stage.take_free()
    robbed.scout.in_flight[0].end(200)
    await stage.quiet()
    found = await stage.liveness(listener)
    assert (found.state, found.success_count, found.failure_count) == ("inactive", 0, 3)
    await stage.start()
    assert stage.lanes[0].limits.breaker.is_open


async def test_probes_are_spread_over_time_after_a_start(stage: Stage) -> None:
    queue, _ = await stage.running()
    for _ in range(20):
        await stage.listener(queue)
    for _ in range(20):
        await stage.advance(1_000)
        await stage.answer_probes()
    await stage.start()
    times = []
    for second in range(40):
        await stage.advance(1_000)
        times.extend([second] * len(stage.scout.in_flight))
        await stage.answer_probes()
    assert len(set(times)) > 10
    assert set(stage.scout.asked) == {lane.owned.endpoint.liveness_url for lane in stage.lanes}


async def test_many_idle_listeners_have_no_task_and_cost_a_few_commits_a_minute(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.tuning = Tuning(probes_at_once=1_000)
    queue, _ = await stage.running()
    for _ in range(300):
        await stage.listener(queue)
    writes = 0
    write = stage.store.write

    def counted(work: Work[object]) -> Awaitable[object]:
        nonlocal writes
        writes += 1
        return write(work)

    for _ in range(40):
        await stage.advance(1_000)
        await stage.answer_probes()
    monkeypatch.setattr(stage.store, "write", counted)
    asked = len(stage.scout.asked)
    for _ in range(10 * 60):
        stage.clock.advance(1_000)
        stage.dispatcher.timers.wake_due()
        await stage.quiet()
        for each in tuple(stage.scout.in_flight):
            each.end()
    await stage.quiet()
    # Every 30 seconds for the first five minutes, then every five minutes.
    assert 301 * 9 <= len(stage.scout.asked) - asked <= 301 * 14
    assert writes <= 11 * 3
    assert not stage.dispatcher.tasks.running
    assert len(stage.dispatcher.timers._due) <= 2 * (2 * 301 + 1) + 64


@on_sqlite_only
async def test_health_is_stored_and_reported_after_an_outage(stage: Stage, tmp_path: Path) -> None:
    _, listener = await stage.running()
    await _with_system_queue(stage, listener)
    await stage.probe(503, times=2)
    while not stage.scout.in_flight:
        await stage.advance(1_000)
    blocker = apsw.Connection(str(tmp_path / "discue.db"))
    blocker.execute("BEGIN IMMEDIATE")
    stage.scout.in_flight[0].end(503)
    await until(lambda: not stage.store.healthy, 30)
    blocker.execute("ROLLBACK")
    blocker.close()
    async with asyncio.timeout(30):
        await stage.quiet()
    assert (await stage.liveness(listener)).state == "inactive"
    events = await system_events(stage.store, listener.organization)
    assert [event["type"] for event in events] == ["listener.inactive"]
