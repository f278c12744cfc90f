"""The lanes of a worker: how they come up, are notified, and end."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw
import pytest

from discue.dispatch import delivery_rules, dispatcher, timers
from discue.dispatch.lane.context import Tuning
from discue.dispatch.lane.lane import Lane
from discue.dispatch.lane.limits import LANES_PER_TURN
from discue.domain.attempts import Outcome
from discue.domain.model import DeliveryOptions, Listener, Queue
from discue.domain.retry import RetryOptions
from discue.sending.request import AttemptRequest
from discue.store import organizations, queues
from discue.store.engine import Appended
from tests.dispatch.stage import DAY_MS, LIMITS, Courier, Stage, badly, until, well
from tests.support.databases import on_sqlite_only

pytestmark = on_sqlite_only


async def _with_listeners(stage: Stage, count: int) -> tuple[Queue, list[Listener]]:
    queue = await stage.queue(await stage.organization())
    return queue, [await stage.listener(queue) for _ in range(count)]


async def test_start_claims_every_cursor(stage: Stage) -> None:
    stage.tuning = Tuning(cursors_per_claim=2)
    queue, listeners = await _with_listeners(stage, 5)
    [message] = await stage.publish(queue)
    await stage.start()
    assert len(stage.dispatcher.lanes) == 5
    assert sorted(sent.listener_id for sent in stage.courier.sent) == [each.public_id for each in listeners]
    assert set(stage.courier.ids()) == {message}


async def test_listener_deleted_before_its_cursor_is_claimed_has_no_lane(stage: Stage) -> None:
    queue, _ = await _with_listeners(stage, 0)
    await stage.start()
    listener = await stage.listener(queue)
    await stage.delete_listener(listener)
    await stage.follow("listener", listener.organization, listener.id)
    assert len(stage.dispatcher.lanes) == 0
    assert stage.dispatcher.lanes.queues == ()


async def test_a_listener_that_hangs_does_not_delay_another(stage: Stage) -> None:
    queue, [hanging, healthy] = await _with_listeners(stage, 2)
    await stage.start()
    await stage.publish(queue, 300)
    while mine := [sent for sent in stage.courier.in_flight if sent.listener_id == healthy.public_id]:
        await stage.end(mine, well())
    assert (await stage.counts(healthy)).acknowledged == 300
    assert len(stage.courier.in_flight) == LIMITS.listener_max_in_flight
    assert (await stage.counts(hanging)).pending == 300


async def test_lane_that_fails_does_not_stop_others(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = KeyError("a defect of a library")

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(delivery_rules, "transformed", fail)
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    queue = await stage.queue(await stage.organization())
    await stage.listener(queue, DeliveryOptions(transform="data"))
    healthy = await stage.listener(queue)
    await stage.start()
    message, *_ = await stage.publish(queue)
    assert [(sent.listener_id, sent.message_id) for sent in stage.courier.sent] == [(healthy.public_id, message)]
    assert failures
    assert set(failures) == {failure}


async def test_the_lanes_of_a_deleted_queue_end_and_record_nothing(stage: Stage) -> None:
    queue, [listener, _] = await _with_listeners(stage, 2)
    await stage.start()
    await stage.publish(queue)
    await stage.store.write(partial(queues.mark_deleted, organization=queue.organization, queue=queue.id, now=1))
    await stage.follow("queue", queue.organization, queue.id)
    assert len(stage.dispatcher.lanes) == 0
    await stage.end(stage.courier.in_flight[::], badly())
    assert await stage.delivery_rows(listener) == []


async def test_the_lanes_of_a_deleted_organization_end_and_those_of_others_go_on(stage: Stage) -> None:
    gone, _ = await _with_listeners(stage, 2)
    queue, [listener] = await _with_listeners(stage, 1)
    await stage.start()
    await stage.store.write(partial(organizations.mark_deleted, organization=gone.organization, now=1))
    await stage.follow("organization", gone.organization, gone.organization)
    assert len(stage.dispatcher.lanes) == 1
    await stage.publish(queue)
    assert [sent.listener_id for sent in stage.courier.sent] == [listener.public_id]


async def test_a_suspended_organization_waits_and_goes_on_when_it_is_active(stage: Stage) -> None:
    queue, _ = await _with_listeners(stage, 1)
    await stage.start()
    for state, sent in (("suspended", 0), ("active", 3)):
        await stage.store.write(
            lambda tx, state=state: tx.execute("UPDATE organization SET state = $1", state)  # type: ignore[misc]
        )
        await stage.follow("organization", queue.organization, queue.organization)
        if state == "suspended":
            await stage.publish(queue, 3)
        assert len(stage.courier.sent) == sent


async def test_change_of_everything_reads_every_lane_again(stage: Stage) -> None:
    queue, [first, second] = await _with_listeners(stage, 2)
    await stage.start()
    await stage.store.write(lambda tx: tx.execute("UPDATE listener SET status = 'disabled' WHERE id = $1", first.id))
    await stage.follow("everything", 0, 0)
    await stage.publish(queue)
    assert [sent.listener_id for sent in stage.courier.sent] == [second.public_id]


async def test_a_change_of_a_listener_holds_for_the_next_attempt(stage: Stage) -> None:
    queue, [listener] = await _with_listeners(stage, 1)
    await stage.start()
    await stage.configure(listener, notify_url="http://other.example:8080/new?x=1")
    await stage.publish(queue)
    [sent] = stage.courier.in_flight
    target = sent.request.destination.target
    assert (target.authority, target.path) == ("other.example:8080", "/new?x=1")
    assert len(sent.request.keys) == 1
    assert sent.request.timeout_ms == LIMITS.timeout_ms


async def test_unreadable_listener_does_not_stop_others(stage: Stage) -> None:
    queue, [bad, good] = await _with_listeners(stage, 2)
    await stage.store.write(lambda tx: tx.execute("UPDATE listener SET notify_url = 'x' WHERE id = $1", bad.id))
    await stage.start()
    await stage.publish(queue)
    assert [sent.listener_id for sent in stage.courier.sent] == [good.public_id]
    await stage.configure(bad, notify_url="https://example.com/")
    assert len(stage.dispatcher.lanes) == 2


async def test_change_to_an_unusable_listener_ends_only_its_lane(stage: Stage) -> None:
    queue, [bad, good] = await _with_listeners(stage, 2)
    await stage.start()
    await stage.store.write(lambda tx: tx.execute("UPDATE listener SET notify_url = 'x' WHERE id = $1", bad.id))
    await stage.store.write(
        lambda tx: tx.execute("UPDATE listener SET notify_url = 'http://example.com/new' WHERE id = $1", good.id)
    )
    stage.dispatcher.on_change("listener", bad.organization, bad.id)
    stage.dispatcher.on_change("listener", good.organization, good.id)
    await stage.quiet()
    await stage.publish(queue)
    [sent] = stage.courier.sent
    assert (sent.listener_id, sent.request.destination.target.path) == (good.public_id, "/new")


async def test_a_drain_starts_nothing_and_stores_what_ends_in_time(stage: Stage) -> None:
    queue, [listener] = await _with_listeners(stage, 1)
    await stage.start()
    ids = await stage.publish(queue, LIMITS.listener_max_in_flight + 5)
    draining = asyncio.ensure_future(stage.dispatcher.drain(20))
    await asyncio.sleep(0)
    for sent in stage.courier.in_flight[::-1]:
        assert not draining.done()
        sent.end(well() if sent.message_id != ids[3] else badly())
    await draining
    assert len(stage.courier.sent) == LIMITS.listener_max_in_flight
    assert (await stage.counts(listener)).acknowledged == LIMITS.listener_max_in_flight - 1
    assert await stage.delivery_rows(listener) == [(4, "retry", 1)]
    await stage.start()
    assert stage.courier.ids() == ids[LIMITS.listener_max_in_flight :]


async def test_a_drain_ends_while_the_store_cannot_write(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_STORING_SECONDS", 0.05)
    queue, _ = await _with_listeners(stage, 1)
    await stage.start()
    await stage.publish(queue)
    other = apsw.Connection(str(tmp_path / "discue.db"))
    other.execute("BEGIN IMMEDIATE")
    stage.courier.end_all(well())
    await stage.dispatcher.drain(1)
    other.execute("ROLLBACK")
    other.close()


async def test_draining_worker_claims_no_cursor(stage: Stage) -> None:
    queue, _ = await _with_listeners(stage, 0)
    await stage.start()
    await stage.dispatcher.drain(0)
    await stage.listener(queue)
    await stage.publish(queue)
    assert len(stage.dispatcher.lanes) == 0
    assert stage.courier.sent == []


async def test_superseded_timers_are_removed(stage: Stage) -> None:
    """A delivery that waits for a day, while others come and go: its wake-up is asked for again and again."""
    queue, listeners = await _with_listeners(stage, 3)
    await stage.start()
    await stage.publish(queue)
    for _ in range(8):
        await stage.end(stage.courier.in_flight[::], badly())
        await stage.advance(2 * DAY_MS)
    await stage.end(stage.courier.in_flight[::], badly())
    largest = 0
    for _ in range(100):
        await stage.publish(queue)
        await stage.end(stage.courier.in_flight[::], badly())
        await stage.advance(6_000)
        await stage.end(stage.courier.in_flight[::], well())
        largest = max(largest, len(stage.dispatcher.timers._due))
    # Each lane, each place that is probed, and what is to be stored of them.
    assert largest <= 2 * (2 * len(listeners) + 1) + timers._SUPERSEDED_KEPT + 1
    assert {(await stage.counts(each)).retrying for each in listeners} == {1}
    await stage.advance(2 * DAY_MS)
    assert len(stage.courier.in_flight) == 3


async def test_a_timer_wakes_a_lane_whose_retry_is_due(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, _ = await stage.running(DeliveryOptions(retry=RetryOptions(schedule=(0,))))
    await stage.publish(queue)
    again = asyncio.Event()
    take = stage.courier.__class__.__call__

    def watched(self: object, request: AttemptRequest, done: object) -> None:
        take(self, request, done)  # type: ignore[arg-type]
        again.set()

    monkeypatch.setattr(stage.courier.__class__, "__call__", watched)
    stage.courier.in_flight[0].end(badly())
    await again.wait()
    assert stage.courier.in_flight[0].number == 2


async def test_invalidated_lanes_store_nothing(stage: Stage) -> None:
    """The connection was lost: a lane may hold a history that the new server does not have."""
    queue, [listener] = await _with_listeners(stage, 1)
    await stage.start()
    [message] = await stage.publish(queue)
    stage.dispatcher.registry.invalidate()
    await stage.end(tuple(stage.courier.in_flight), well())
    assert (await stage.counts(listener)).acknowledged == 0
    await stage.dispatcher.registry.reset()
    await stage.quiet()
    assert stage.courier.ids() == [message]


async def test_no_lane_comes_up_between_an_invalidation_and_a_reset(stage: Stage) -> None:
    queue, _ = await _with_listeners(stage, 1)
    await stage.start()
    stage.dispatcher.registry.invalidate()
    await stage.listener(queue)
    await stage.publish(queue)
    assert len(stage.dispatcher.lanes) == 0
    await stage.dispatcher.registry.reset()
    await stage.quiet()
    assert len(stage.dispatcher.lanes) == 2


async def test_lane_that_waits_for_its_turn_has_work_to_come(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, _ = await stage.running()
    courier, send = stage.courier, Courier.__call__

    def slow(self: Courier, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        stage.clock.advance(10)
        send(self, request, done)

    monkeypatch.setattr(Courier, "__call__", slow)
    await stage.append(queue, 3)
    assert stage.dispatcher.has_turns_to_come
    assert len(courier.in_flight) == 1
    await until(lambda: len(courier.in_flight) == 3)
    assert not stage.dispatcher.has_turns_to_come


@pytest.mark.parametrize("is_notified", [True, False], ids=["a notification", "an append"])
async def test_lanes_of_a_queue_with_many_listeners_take_turns(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, is_notified: bool
) -> None:
    queue, _ = await stage.running()
    for _ in range(2 * LANES_PER_TURN):
        await stage.listener(queue)
    started, start = [], Lane.start

    def counted(lane: Lane) -> None:
        started.append(lane)
        start(lane)

    monkeypatch.setattr(Lane, "start", counted)
    on_appended = stage.dispatcher.on_appended

    def once(appended: Appended) -> None:
        if is_notified:
            stage.dispatcher.on_heads([((queue.organization, queue.id), appended.entries[-1].seq)])
        else:
            on_appended(appended)
        at_once.append(len(started))

    at_once: list[int] = []
    stage.store.on_append = [once]
    await stage.append(queue)
    assert at_once == [LANES_PER_TURN]
    await stage.quiet()
    await until(lambda: len(stage.courier.in_flight) == 2 * LANES_PER_TURN + 1)


async def test_lanes_take_turns_when_a_message_of_their_queue_is_deleted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, _ = await stage.running()
    for _ in range(2 * LANES_PER_TURN):
        await stage.listener(queue)
    started, start = [], Lane.start

    def counted(lane: Lane) -> None:
        started.append(lane)
        start(lane)

    monkeypatch.setattr(Lane, "start", counted)
    stage.dispatcher.on_change("message", queue.organization, queue.id)
    assert len(started) == LANES_PER_TURN
    await until(lambda: len(started) == 2 * LANES_PER_TURN + 1)
