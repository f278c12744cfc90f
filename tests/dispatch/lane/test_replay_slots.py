"""A worker runs at most three replays of an organization at a time. The others wait."""

from collections.abc import Awaitable

import pytest

from discue.dispatch.lane.backlog import PAGE_BYTES
from discue.dispatch.lane.replay import REPLAYS_AT_ONCE
from discue.domain.model import DeliveryOptions, Listener, Queue
from discue.domain.reservations import ReadBound
from discue.store.ledger import Reservation
from tests.dispatch.replays import ask, cancel, deliver_all, stored
from tests.dispatch.stage import Stage, well

_MESSAGES = 5


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
