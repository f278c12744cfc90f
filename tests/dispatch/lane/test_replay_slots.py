"""All workers together run at most three replays of an organization at a time. The others wait."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from discue.dispatch.lane.context import PAGE_BYTES
from discue.dispatch.lane.states import LaneState
from discue.domain.errors import StoreUnavailable
from discue.domain.model import DeliveryOptions, Listener, Queue
from discue.domain.reservations import ReadBound
from discue.store import replays
from discue.store.engine import Notification, Transaction
from discue.store.ledger import Reservation
from discue.store.replays import REPLAYS_AT_ONCE
from tests.dispatch.replays import ask, cancel, deliver_all, stored, streams
from tests.dispatch.stage import Stage, Worker, until, well

_MESSAGES = 5
_KEPT_MS = 1_000
_TURN_MS = 10_000


async def _listeners(stage: Stage, queue: Queue, first: Listener, count: int) -> list[Listener]:
    """The listeners of a queue, which have received all of its messages."""
    found = [first, *[await stage.listener(queue, DeliveryOptions(max_in_flight=1)) for _ in range(count - 1)]]
    await stage.publish(queue, _MESSAGES)
    await deliver_all(stage)
    stage.courier.sent.clear()
    return found


def _sending(stage: Stage) -> set[str]:
    return {each.request.replay_id for each in stage.courier.in_flight}


async def test_fourth_replay_of_an_organization_waits_for_the_end_of_another(stage: Stage) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    listeners = await _listeners(stage, queue, first, 5)
    asked = [await ask(stage, listener) for listener in listeners]
    ids = [each.public_id for each in asked]
    assert _sending(stage) == set(ids[:REPLAYS_AT_ONCE])
    assert (await stored(stage, asked[3])).state == "waiting"
    most = 0
    while stage.courier.in_flight:
        most = max(most, len(_sending(stage)))
        stage.courier.in_flight[0].end(well())
        await stage.quiet()
    assert most == REPLAYS_AT_ONCE
    done = [await stored(stage, each) for each in asked]
    assert {(each.state, each.delivered) for each in done} == {("done", _MESSAGES)}


async def test_cancelled_replay_frees_its_slot(stage: Stage) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    listeners = await _listeners(stage, queue, first, 4)
    asked = [await ask(stage, listener) for listener in listeners]
    await cancel(stage, asked[0])
    await stage.quiet()
    assert asked[3].public_id in _sending(stage)


async def test_replay_of_a_disabled_listener_holds_no_slot(stage: Stage) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    listeners = await _listeners(stage, queue, first, 4)
    asked = [await ask(stage, listener) for listener in listeners]
    await stage.configure(listeners[1], status="disabled")
    await stage.quiet()
    assert asked[3].public_id in _sending(stage)


async def test_replays_of_another_organization_do_not_wait(stage: Stage) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    for listener in await _listeners(stage, queue, first, 4):
        await ask(stage, listener)
    other, theirs = await stage.running()
    await stage.publish(other, 1)
    await deliver_all(stage)
    asked = await ask(stage, theirs)
    await deliver_all(stage)
    assert (await stored(stage, asked)).state == "done"


async def test_replay_reserves_the_pages_of_the_log_that_it_reads(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, first = await stage.running()
    ledger, reserved = stage.store.ledger, list[tuple[int, ReadBound]]()
    reserve = ledger.reserve

    def spied(organization: int, bound: ReadBound) -> Awaitable[Reservation]:
        reserved.append((organization, bound))
        return reserve(organization, bound)

    monkeypatch.setattr(ledger, "reserve", spied)
    [listener] = await _listeners(stage, queue, first, 1)
    assert not reserved, "live deliveries reserve nothing"
    asked = await ask(stage, listener)
    await deliver_all(stage)
    assert (await stored(stage, asked)).state == "done"
    assert {(organization, bound.bytes) for organization, bound in reserved} == {(queue.organization, PAGE_BYTES)}
    assert ledger.held == 0


async def _two_workers(stage: Stage, first: int, second: int) -> tuple[Worker, Worker, list[Listener]]:
    """Start two workers, each with this number of listeners, which have received all messages."""
    queue, listener = await stage.running(DeliveryOptions(max_in_flight=1))
    listeners = await _listeners(stage, queue, listener, first + second)
    alice, bob = stage.worker, await stage.join()
    await alice.dispatcher.hand_over([(each.organization, each.id, 0) for each in listeners[first:]])
    await stage.take_free(bob)
    stage.store.has_other_workers = True
    return alice, bob, listeners


def _replaying(*workers: Worker) -> list[set[str]]:
    """Return the replays of which each worker has requests in flight."""
    return [{each.request.replay_id for each in worker.courier.in_flight} for worker in workers]


async def _finish(stage: Stage, worker: Worker) -> None:
    """End requests of a worker until it has no more."""
    while worker.courier.in_flight:
        worker.courier.end_all(well())
        await stage.quiet()


async def _pass(stage: Stage, milliseconds: int) -> None:
    """Let time pass, and all workers poll before and after."""
    await stage.poll()
    await stage.advance(milliseconds)
    await stage.poll()


async def _stored_slots(stage: Stage) -> int:
    return len(await stage.rows("SELECT number FROM replay_slot"))


async def test_replays_on_another_worker_wait_for_slots_that_the_first_gives_up(stage: Stage) -> None:
    alice, bob, listeners = await _two_workers(stage, 3, 2)
    asked = [await ask(stage, each) for each in listeners]
    ids = [each.public_id for each in asked]
    await _pass(stage, _KEPT_MS)
    assert _replaying(alice, bob) == [set(ids[:3]), set()]
    await _finish(stage, alice)
    assert (await stored(stage, asked[2])).state == "done"
    await stage.poll()
    assert _replaying(alice, bob) == [set(), set()], "a slot is kept for a moment"
    await _pass(stage, _KEPT_MS)
    # On PostgreSQL, the first worker may still be giving up its slots when the second one looks.
    await stage.poll()
    assert _replaying(alice, bob) == [set(), set(ids[3:])]
    await _finish(stage, bob)
    await _pass(stage, _KEPT_MS)
    assert {(await stored(stage, each)).state for each in asked} == {"done"}
    assert await _stored_slots(stage) == 0


async def test_death_of_a_worker_frees_its_slots(stage: Stage) -> None:
    alice, bob, listeners = await _two_workers(stage, 3, 2)
    ids = [(await ask(stage, each)).public_id for each in listeners]
    await stage.die(alice)
    await stage.poll()
    assert _replaying(bob) == [set(ids[3:])]
    await stage.take_free(bob)
    assert len(_replaying(bob)[0]) == REPLAYS_AT_ONCE
    await _finish(stage, bob)
    assert await streams(stage) == []


async def test_worker_that_was_expired_takes_its_slots_again(stage: Stage) -> None:
    alice, bob, listeners = await _two_workers(stage, 3, 2)
    ids = [(await ask(stage, each)).public_id for each in listeners]
    alice.lease.holds = False
    await stage.steal(alice)
    await stage.poll_for(bob)
    await stage.quiet()
    await stage.revive(alice)
    # The requests of its closed lanes, which keep the slots of their listeners.
    alice.courier.end_all(well())
    await stage.take_free(alice)
    [first, second] = _replaying(alice, bob)
    assert second == set(ids[3:])
    assert len(first) == 1, "one slot was left"


async def test_slot_that_no_replay_needs_is_given_up_and_announced(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    [listener] = await _listeners(stage, queue, first, 1)
    await ask(stage, listener)
    assert await _stored_slots(stage) == 1
    await stage.configure(listener, status="disabled")
    announced = list[Notification]()
    monkeypatch.setattr(stage.store.engine, "notify", announced.append)
    await stage.poll()
    assert await _stored_slots(stage) == 1
    assert not announced
    await _pass(stage, _KEPT_MS)
    assert await _stored_slots(stage) == 0
    assert announced == [Notification(cursors=True)]
    await stage.configure(listener, status="enabled")
    await deliver_all(stage)
    assert await streams(stage) == []


class Holds:
    """Counts the changes of slots in the store, and lets them fail."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.error: Exception | None = None
        """Raised instead of a change."""
        self._hold = replays.hold_slots

    async def __call__(self, tx: Transaction, session_id: int, organization: int, count: int) -> int:
        held = await self._hold(tx, session_id, organization, count)
        # On PostgreSQL, a work begins again after each statement that its connection had not prepared yet.
        self.counts.append(count)
        if self.error is not None:
            raise self.error
        return held


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> Holds:
    made = Holds()
    monkeypatch.setattr(replays, "hold_slots", made)
    return made


async def test_replays_that_follow_each_other_on_a_worker_keep_its_slot(stage: Stage, holds: Holds) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    [listener] = await _listeners(stage, queue, first, 1)
    for _ in range(3):
        await ask(stage, listener)
        await deliver_all(stage)
        await stage.poll()
    assert await streams(stage) == []
    assert holds.counts == [1]


async def test_change_of_slots_that_fails_is_repeated_at_the_next_poll(stage: Stage, holds: Holds) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    [listener] = await _listeners(stage, queue, first, 1)
    holds.error = StoreUnavailable(code="not_stored")
    asked = await ask(stage, listener)
    assert not _sending(stage)
    await stage.poll()
    assert holds.counts == [1, 1]
    holds.error = None
    await stage.poll()
    assert _sending(stage) == {asked.public_id}
    await deliver_all(stage)
    holds.error = StoreUnavailable(code="not_stored")
    await _pass(stage, _KEPT_MS)
    assert await _stored_slots(stage) == 1
    holds.error = None
    await _pass(stage, _KEPT_MS)
    assert await _stored_slots(stage) == 0


async def test_slot_of_unknown_outcome_is_given_up(stage: Stage, holds: Holds) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    [listener] = await _listeners(stage, queue, first, 1)
    holds.error = StoreUnavailable(code="not_stored")
    asked = await ask(stage, listener)
    holds.error = None
    # The commit may have succeeded all the same.
    hold = partial(holds, session_id=stage.worker.session_id, organization=queue.organization, count=2)
    assert await stage.store.write(hold) == 2
    await cancel(stage, asked)
    await _pass(stage, _KEPT_MS)
    assert await _stored_slots(stage) == 0


async def test_slots_are_taken_again_after_lost_connections_and_given_up_without_replays(stage: Stage) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    listeners = await _listeners(stage, queue, first, 3)
    asked = [await ask(stage, each) for each in listeners]
    stage.dispatcher.registry.invalidate()
    stage.courier.end_all(well())
    # The store may be another server that never got the last commits.
    await stage.store.write(lambda tx: tx.execute("DELETE FROM replay_slot"))
    await stage.dispatcher.registry.reset()
    await stage.quiet()
    assert await _stored_slots(stage) == REPLAYS_AT_ONCE
    stage.dispatcher.registry.invalidate()
    stage.courier.end_all(well())
    for each in asked:
        await cancel(stage, each)
    await stage.dispatcher.registry.reset()
    await _pass(stage, _KEPT_MS)
    assert await _stored_slots(stage) == 0


def _delay_results(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return an event for which the results of changes of slots wait."""
    write, may_return = stage.store.write, asyncio.Event()

    async def write_slowly(work: Callable[[Transaction], Awaitable[object]]) -> object:
        result = await write(work)
        if isinstance(work, partial) and isinstance(work.func, Holds):
            await may_return.wait()
        return result

    monkeypatch.setattr(stage.store, "write", write_slowly)
    return may_return


def _replay_lanes(stage: Stage) -> int:
    return sum(lane.key[2] > 0 and lane.owned.state is LaneState.RUNNING for lane in stage.lanes)


async def test_result_from_before_lost_connections_is_ignored(
    stage: Stage, holds: Holds, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    [listener] = await _listeners(stage, queue, first, 1)
    may_return = _delay_results(stage, monkeypatch)
    asking = asyncio.get_running_loop().create_task(ask(stage, listener))
    await until(lambda: holds.counts == [1])
    await stage.dispatcher.registry.reset()
    await until(lambda: _replay_lanes(stage) == 1)
    await stage.store.write(lambda tx: tx.execute("DELETE FROM replay_slot"))
    may_return.set()
    asked = await asking
    assert not _sending(stage)
    await stage.poll()
    assert await _stored_slots(stage) == 1
    assert _sending(stage) == {asked.public_id}


async def test_replays_that_begin_while_a_slot_is_taken_get_theirs_at_once(
    stage: Stage, holds: Holds, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    listeners = await _listeners(stage, queue, first, 3)
    may_return = _delay_results(stage, monkeypatch)
    asking = [asyncio.get_running_loop().create_task(ask(stage, listeners[0]))]
    await until(lambda: holds.counts == [1])
    asking += [asyncio.get_running_loop().create_task(ask(stage, each)) for each in listeners[1:]]
    await until(lambda: _replay_lanes(stage) == 3)
    may_return.set()
    await asyncio.gather(*asking)
    await stage.quiet()
    assert len(_sending(stage)) == REPLAYS_AT_ONCE
    assert holds.counts == [1, 3]


async def test_replays_of_one_listener_leave_their_slots_to_others_after_a_turn(stage: Stage) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=50))
    listeners = await _listeners(stage, queue, first, 3)
    endless = [await ask(stage, first, pace=1) for _ in range(REPLAYS_AT_ONCE)]
    wanted = [await ask(stage, each, 1, 1) for each in listeners[1:]]
    await stage.advance(_TURN_MS - 1)
    await stage.poll()
    assert _sending(stage) == {each.public_id for each in endless}
    await stage.advance(1)
    await stage.poll()
    assert {each.public_id for each in wanted} <= _sending(stage)
    await deliver_all(stage)
    assert [(await stored(stage, each)).state for each in wanted] == ["done"] * 2


async def test_replays_take_turns_in_order_of_arrival(stage: Stage) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    listeners = await _listeners(stage, queue, first, 7)
    asked = [await ask(stage, listener) for listener in listeners]
    ids = [each.public_id for each in asked]
    for turn in ([0, 1, 2], [3, 4, 5], [6, 0, 1], [2, 3, 4]):
        # The requests in flight belong to replays of this turn, or began in the turn before.
        await stage.end(stage.courier.in_flight[::], well())
        assert _sending(stage) == {ids[number] for number in turn}
        await stage.advance(_TURN_MS)
        await stage.poll()
    await _finish(stage, stage.worker)
    done = [await stored(stage, each) for each in asked]
    assert {(each.state, each.delivered) for each in done} == {("done", _MESSAGES)}


async def test_replay_whose_turn_is_over_keeps_no_messages_in_memory(stage: Stage) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    listeners = await _listeners(stage, queue, first, 6)
    asked = [await ask(stage, listener) for listener in listeners]
    await stage.advance(_TURN_MS)
    await stage.poll()
    waiting = {each.id for each in asked[:REPLAYS_AT_ONCE]}
    assert [bool(lane.backlog.new) for lane in stage.lanes if lane.key[2] in waiting] == [False] * REPLAYS_AT_ONCE


async def test_replay_keeps_its_slot_while_no_other_replay_waits(stage: Stage, holds: Holds) -> None:
    queue, first = await stage.running(DeliveryOptions(max_in_flight=1))
    [listener] = await _listeners(stage, queue, first, 1)
    asked = await ask(stage, listener)
    for _ in range(_MESSAGES - 1):
        await _pass(stage, _TURN_MS)
        await stage.end(stage.courier.in_flight[0], well())
        assert _sending(stage) == {asked.public_id}
    assert holds.counts == [1]


async def test_worker_passes_no_slot_on_while_another_slot_is_free(stage: Stage) -> None:
    alice, bob, listeners = await _two_workers(stage, 2, 0)
    ids = [(await ask(stage, each)).public_id for each in listeners]
    await _pass(stage, _TURN_MS)
    await stage.end(alice.courier.in_flight[::], well())
    assert _replaying(alice, bob) == [set(ids), set()]
    assert await _stored_slots(stage) == 2


async def test_replay_that_lasts_longer_than_a_turn_leaves_its_slot_to_another_worker(stage: Stage) -> None:
    alice, bob, listeners = await _two_workers(stage, 3, 1)
    ids = [(await ask(stage, each)).public_id for each in listeners]
    await _pass(stage, _TURN_MS - 1)
    assert _replaying(alice, bob) == [set(ids[:3]), set()]
    await stage.advance(1)
    await stage.poll_for(alice)
    await stage.quiet()
    assert await _stored_slots(stage) == 2
    await stage.poll_for(bob)
    await stage.quiet()
    await stage.end(alice.courier.in_flight[::], well())
    assert _replaying(alice, bob) == [set(ids[1:3]), {ids[3]}]
    await stage.advance(_TURN_MS)
    await stage.poll_for(bob)
    await stage.quiet()
    await stage.poll_for(alice)
    await stage.quiet()
    await stage.end(bob.courier.in_flight[::], well())
    assert _replaying(alice, bob) == [set(ids[:3]), set()], "the other worker passes it on, too"


async def test_other_worker_has_its_turn_although_replays_of_the_first_wait(stage: Stage) -> None:
    alice, bob, listeners = await _two_workers(stage, 5, 1)
    ids = [(await ask(stage, each)).public_id for each in listeners]
    assert _replaying(alice, bob) == [set(ids[:3]), set()]
    await _end_replay(stage, alice, ids[0])
    assert _replaying(alice, bob) == [set(ids[1:4]), set()]
    await stage.advance(_TURN_MS)
    await stage.poll_for(alice)
    await stage.quiet()
    await stage.poll_for(bob)
    await stage.quiet()
    await stage.end(alice.courier.in_flight[::], well())
    assert _replaying(alice, bob) == [{ids[3], ids[4]}, {ids[5]}]
    await stage.poll()
    await _end_replay(stage, alice, ids[3])
    assert _replaying(alice, bob) == [{ids[1], ids[4]}, {ids[5]}], "its next turn has begun"


async def test_replay_whose_turn_was_cut_short_is_the_first_to_continue(stage: Stage) -> None:
    alice, bob, listeners = await _two_workers(stage, 6, 0)
    ids = [(await ask(stage, each)).public_id for each in listeners]
    await stage.advance(_TURN_MS)
    await stage.poll_for(alice)
    await stage.quiet()
    await stage.end(alice.courier.in_flight[::], well())
    assert _replaying(alice, bob) == [set(ids[4:]), set()]
    await stage.poll()
    assert await _stored_slots(stage) == 2, "it is left to others for a moment"
    await _pass(stage, _KEPT_MS)
    assert _replaying(alice, bob) == [set(ids[3:]), set()]


async def test_worker_takes_a_slot_back_that_no_other_worker_needs(stage: Stage) -> None:
    alice, bob, listeners = await _two_workers(stage, 3, 0)
    ids = [(await ask(stage, each)).public_id for each in listeners]
    await stage.advance(_TURN_MS)
    await stage.poll_for(alice)
    await stage.quiet()
    await stage.end(alice.courier.in_flight[::], well())
    assert _replaying(alice, bob) == [set(ids[1:]), set()]
    await stage.poll()
    assert await _stored_slots(stage) == 2, "it is left to others for a moment"
    await _pass(stage, _KEPT_MS)
    assert _replaying(alice, bob) == [set(ids), set()]


async def _end_replay(stage: Stage, worker: Worker, replay: str) -> None:
    """End the requests of a replay until it has no more."""
    while sent := [each for each in worker.courier.in_flight if each.request.replay_id == replay]:
        await stage.end(sent, well())
