"""Cursors without lanes: when a lane is dropped, and what brings it up again."""

import asyncio
import itertools
from typing import Any

import msgspec
import pytest

from discue.dispatch import registry
from discue.dispatch.lane.probes import LATE_MS
from discue.domain.errors import StoreDamaged
from discue.domain.model import DeliveryOptions, Listener, Queue
from discue.domain.rate import RateLimit
from discue.domain.retry import RetryOptions
from discue.store import cursors
from discue.store.cursors import LaneRecord
from discue.store.engine import Transaction, Work
from tests.dispatch import replays
from tests.dispatch.lane.test_redelivery import redeliver
from tests.dispatch.stage import Stage, badly, well
from tests.support.databases import on_sqlite_only

pytestmark = on_sqlite_only


async def _idle(stage: Stage, options: DeliveryOptions | None = None) -> tuple[Queue, Listener]:
    """Return a queue and a listener that has settled a message, and whose lane was dropped."""
    queue = await stage.queue(await stage.organization())
    listener = await stage.listener(queue, options, liveness_url="")
    await stage.start()
    await stage.publish(queue)
    await stage.end_all(well())
    await stage.drop_idle()
    assert stage.lanes == []
    assert len(stage.dispatcher.lanes) == 1
    return queue, listener


async def test_listener_without_messages_has_no_lane_until_one_is_published(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization())
    listener = await stage.listener(queue, liveness_url="")
    await stage.start()
    assert stage.lanes == []
    assert stage.dispatcher.lanes.queues == ((queue.organization, queue.id),)
    [message] = await stage.publish(queue)
    assert stage.courier.ids() == [message]
    await stage.end_all(well())
    await stage.assert_counts(listener, acknowledged=1, pending=0)


async def test_lanes_of_many_idle_cursors_are_made_in_several_turns(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = await stage.queue(await stage.organization())
    for _ in range(20):
        await stage.listener(queue, liveness_url="")
    await stage.start()
    # Each lane takes 3 of the 5 milliseconds of a turn.
    now = itertools.count(0, 0.003)
    monkeypatch.setattr(stage.dispatcher.registry, "_monotonic", lambda: next(now))
    stage.dispatcher.on_heads([((queue.organization, queue.id), 1)])
    assert len(stage.lanes) == 2
    await asyncio.sleep(0)
    assert len(stage.lanes) <= 4
    await stage.publish(queue)
    assert len(stage.courier.in_flight) == len(stage.lanes) == 20


async def test_idle_cursor_continues_where_its_lane_ended(stage: Stage) -> None:
    queue, listener = await _idle(stage)
    ids = await stage.publish(queue, 3)
    assert stage.courier.ids() == ids
    await stage.end_all(well())
    await stage.assert_counts(listener, acknowledged=4, pending=0)
    await stage.drop_idle()
    assert stage.lanes == []


async def test_lane_that_was_used_since_the_last_check_stays(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization())
    await stage.listener(queue, liveness_url="")
    await stage.start()
    await stage.publish(queue)
    await stage.end_all(well())
    await stage.dispatcher.registry.drop_idle()
    assert len(stage.lanes) == 1


async def test_lanes_are_dropped_between_reads_of_listeners_that_follow_each_other(stage: Stage) -> None:
    queue, _ = await _idle(stage)
    await stage.publish(queue)
    await stage.end_all(well())
    registry = stage.dispatcher.registry
    await registry.drop_idle()
    async with registry._reading:
        dropping = asyncio.create_task(registry.drop_idle())
        await asyncio.sleep(0)
        next_read = asyncio.create_task(registry._reading.acquire())
        await asyncio.sleep(0)
        assert len(stage.lanes) == 1
    await next_read
    assert stage.lanes == []
    registry._reading.release()
    await dropping


async def test_lane_with_a_request_in_flight_stays(stage: Stage) -> None:
    queue, listener = await _idle(stage)
    await stage.publish(queue)
    await stage.drop_idle()
    assert len(stage.lanes) == 1
    await stage.end_all(well())
    await stage.assert_counts(listener, acknowledged=2, pending=0)


async def test_lane_with_an_outcome_that_is_not_stored_stays(stage: Stage) -> None:
    queue, _ = await _idle(stage)
    await stage.publish(queue)
    stage.courier.end_all(well())
    assert len(stage.dispatcher.delayed_flushes._flushes) == 1
    await stage.drop_idle()
    assert len(stage.lanes) == 1


async def test_lane_with_a_retry_stays_and_makes_it(stage: Stage) -> None:
    queue, listener = await _idle(stage, DeliveryOptions(retry=RetryOptions(schedule=(60,), jitter=0)))
    [message] = await stage.publish(queue)
    await stage.end_all(badly())
    await stage.drop_idle()
    await stage.advance(60_000)
    assert stage.courier.ids() == [message]
    await stage.end_all(well())
    await stage.assert_counts(listener, acknowledged=2, retrying=0)


@pytest.mark.parametrize("is_limited", [True, False])
async def test_lane_that_counts_requests_or_probes_stays(stage: Stage, *, is_limited: bool) -> None:
    queue = await stage.queue(await stage.organization())
    options = DeliveryOptions(rate_limit=RateLimit(1, 1)) if is_limited else None
    await stage.listener(queue, options, liveness_url="" if is_limited else None)
    await stage.start()
    await stage.drop_idle()
    assert len(stage.lanes) == 1


async def test_lane_of_a_listener_whose_last_attempt_failed_stays(stage: Stage) -> None:
    queue, _ = await _idle(stage)
    await stage.publish(queue)
    await stage.end_all(badly(no_retry=True))
    await stage.drop_idle()
    assert len(stage.lanes) == 1


async def test_changed_configuration_of_an_idle_cursor_is_used(stage: Stage) -> None:
    queue, listener = await _idle(stage)
    await stage.configure(listener, notify_url="https://example.com/new")
    assert stage.lanes == []
    await stage.publish(queue)
    assert [sent.request.destination.target.path for sent in stage.courier.in_flight] == ["/new"]


async def test_new_configuration_of_a_lane_outlasts_the_lane(stage: Stage) -> None:
    queue, listener = await _idle(stage)
    await stage.publish(queue)
    await stage.configure(listener, notify_url="https://example.com/new")
    await stage.end_all(well())
    await stage.drop_idle()
    assert stage.lanes == []
    await stage.publish(queue)
    assert [sent.request.destination.target.path for sent in stage.courier.in_flight] == ["/new"]


async def test_disabled_listener_with_an_idle_cursor_gets_nothing_until_it_is_enabled(stage: Stage) -> None:
    queue, listener = await _idle(stage)
    await stage.configure(listener, status="disabled")
    [message] = await stage.publish(queue)
    assert stage.courier.ids() == []
    await stage.configure(listener, status="enabled")
    assert stage.courier.ids() == [message]


async def test_deleted_listener_has_no_idle_cursor(stage: Stage) -> None:
    queue, listener = await _idle(stage)
    await stage.delete_listener(listener)
    assert len(stage.dispatcher.lanes) == 0
    assert stage.dispatcher.lanes.queues == ()
    await stage.publish(queue)
    assert stage.courier.ids() == []


async def test_redelivery_and_replay_bring_up_the_lane(stage: Stage) -> None:
    queue, listener = await _idle(stage)
    await replays.ask(stage, listener, 1)
    assert len(stage.lanes) == 2
    await stage.end_all(well())
    await stage.drop_idle()
    assert stage.lanes == []
    await stage.publish(queue)
    await stage.end_all(badly(no_retry=True))
    await redeliver(stage, listener)
    await stage.end_all(well())
    await stage.drop_idle()
    # The end of its failures is not stored yet.
    assert len(stage.lanes) == 1
    await stage.advance(LATE_MS)
    await stage.drop_idle()
    assert stage.lanes == []
    await stage.assert_counts(listener, acknowledged=2, missed=0)


async def test_idle_cursors_move_to_another_worker(stage: Stage) -> None:
    queue, listener = await _idle(stage)
    giver = stage.worker
    taker = await stage.join()
    await stage.move(giver, taker)
    assert len(giver.dispatcher.lanes) == 0
    assert taker.lanes == []
    [message] = await stage.publish(queue)
    assert (giver.courier.ids(), taker.courier.ids()) == ([], [message])
    await stage.end_all(well())
    await stage.assert_counts(listener, acknowledged=2, pending=0)


async def test_message_that_comes_during_a_handover_is_left_to_the_next_owner(stage: Stage) -> None:
    queue, _ = await _idle(stage)
    giver, taker = stage.worker, await stage.join()
    giving = asyncio.ensure_future(giver.dispatcher.hand_over(tuple(giver.dispatcher.lanes.cursors)))
    await asyncio.sleep(0)
    [entry] = (await stage.append(queue)).entries
    giver.dispatcher.on_heads([((queue.organization, queue.id), 2)])
    await giving
    assert len(giver.dispatcher.lanes) == 0
    await stage.take_free(taker)
    assert (giver.courier.ids(), taker.courier.ids()) == ([], [entry.id])


async def test_idle_cursors_are_handed_over_without_lanes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await _idle(stage)
    made: list[LaneRecord] = []
    monkeypatch.setattr(stage.dispatcher.registry, "_new_lane", made.append)
    await stage.dispatcher.hand_over(tuple(stage.dispatcher.lanes.cursors))
    assert (made, len(stage.dispatcher.lanes)) == ([], 0)


async def test_handover_that_fails_leaves_the_cursor_to_its_worker(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, _ = await _idle(stage)
    write = stage.store.write

    async def failing(work: Work[Any]) -> Any:
        [message] = (await stage.append(queue)).entries
        monkeypatch.setattr(stage.store, "write", write)
        raise LookupError(message.id)

    monkeypatch.setattr(stage.store, "write", failing)
    with pytest.raises(LookupError) as error:
        await stage.dispatcher.hand_over(tuple(stage.dispatcher.lanes.cursors))
    assert stage.courier.ids() == []
    await stage.quiet()
    assert stage.courier.ids() == [str(error.value.args[0])]


async def test_head_that_is_known_wakes_no_cursor(stage: Stage) -> None:
    queue, _ = await _idle(stage)
    await stage.poll()
    assert stage.lanes == []
    await stage.delete_message(queue, stage.courier.sent[0].message_id)
    assert stage.lanes == []


async def test_drain_hands_idle_cursors_over(stage: Stage) -> None:
    await _idle(stage)
    await stage.dispatcher.drain(1)
    assert len(stage.dispatcher.lanes) == 0
    assert len((await stage.store.engine.poll(())).free) == 1


async def test_packed_record_is_complete_and_small(stage: Stage) -> None:
    queue, listener = await _idle(stage)
    owner = stage.worker.session_id
    [stored] = await stage.store.read(
        lambda tx: cursors.lanes_of(tx, owner=owner, organization=queue.organization, listener=listener.id)
    )
    [record] = stage.dispatcher.lanes.idle_records("")
    assert record == stored
    assert len(msgspec.msgpack.encode(record)) < 500
    assert isinstance(record, LaneRecord)


async def test_change_of_a_large_organization_does_not_delay_changes_of_another(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, other = await stage.queue(await stage.organization()), await stage.queue(await stage.organization())
    for _ in range(20):
        await stage.listener(large, liveness_url="")
    listener = await stage.listener(other, liveness_url="")
    await stage.start()
    read: list[int] = []

    async def reload(organization: int, _listener: int) -> None:
        read.append(organization)

    monkeypatch.setattr(stage.dispatcher.registry, "_reload", reload)
    stage.dispatcher.on_change("organization", large.organization, large.organization)
    stage.dispatcher.on_change("listener", other.organization, listener.id)
    await stage.quiet()
    assert read.index(other.organization) == 1
    assert read.count(large.organization) == 20


async def test_damaged_listener_holds_up_no_change_of_others(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = await stage.queue(await stage.organization())
    good, damaged = [await stage.listener(queue, liveness_url="") for _ in range(2)]
    await stage.start()
    read: list[int] = []
    is_read = asyncio.Event()

    async def reload(_organization: int, listener: int) -> None:
        read.append(listener)
        if listener == damaged.id:
            raise StoreDamaged
        is_read.set()

    monkeypatch.setattr(stage.dispatcher.registry, "_reload", reload)
    stage.dispatcher.on_change("organization", queue.organization, queue.organization)
    async with asyncio.timeout(20):
        await is_read.wait()
    assert read.count(damaged.id) <= 1
    assert read.count(good.id) == 1


async def test_damaged_listener_keeps_no_other_cursor_from_its_lane(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start and a takeover read the cursors of all listeners together."""
    queue = await stage.queue(await stage.organization())
    made = [await stage.listener(queue, liveness_url="") for _ in range(5)]
    damaged = made[2].id

    async def read_of(tx: Transaction, owner: int, organization: int, listener: int) -> list[LaneRecord]:
        if listener == damaged:
            raise StoreDamaged
        return await cursors.lanes_of(tx, owner, organization, listener)

    async def read_after(*_of: object, **_named: object) -> list[LaneRecord]:
        raise StoreDamaged

    monkeypatch.setattr(registry, "lanes_of", read_of)
    monkeypatch.setattr(registry, "lanes_after", read_after)
    await stage.start()
    await stage.quiet()
    found = {key[1] for key in stage.dispatcher.lanes.cursors}
    assert found == {each.id for each in made} - {damaged}
