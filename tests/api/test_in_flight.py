"""Requests with one idempotency key, one after another."""

import asyncio

import pytest

from discue.api import in_flight
from discue.api.in_flight import InFlight
from discue.domain.errors import Conflict

pytestmark = pytest.mark.usefixtures("runner")

PLACE = (1, 2, 3)


async def entered(table: InFlight, count: int) -> list["asyncio.Task[None]"]:
    """So many more that want to enter, each as far as it gets."""
    tasks = [asyncio.ensure_future(table.enter(PLACE)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_of_one_key_there_is_one_at_a_time_and_they_come_in_order() -> None:
    table = InFlight()
    await table.enter(PLACE)
    first, second = await entered(table, 2)
    assert not first.done()
    table.leave(PLACE)
    await first
    assert not second.done()
    table.leave(PLACE)
    await second
    table.leave(PLACE)
    assert len(table) == 0


async def test_other_keys_do_not_wait() -> None:
    table = InFlight()
    await table.enter(PLACE)
    await table.enter((1, 2, 4))
    assert len(table) == 2


async def test_who_waits_too_long_hears_of_a_conflict_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "LONGEST_WAIT_SECONDS", 0.0)
    table = InFlight()
    await table.enter(PLACE)
    (impatient,) = await entered(table, 1)
    with pytest.raises(Conflict) as raised:
        await impatient
    assert raised.value.retry_after_seconds == 1
    monkeypatch.undo()
    (patient,) = await entered(table, 1)
    table.leave(PLACE)
    await patient
    table.leave(PLACE)
    assert len(table) == 0


async def test_who_went_away_is_passed_over() -> None:
    table = InFlight()
    await table.enter(PLACE)
    gone, next_one = await entered(table, 2)
    gone.cancel()
    await asyncio.sleep(0)
    table.leave(PLACE)
    await next_one
    table.leave(PLACE)
    assert len(table) == 0


async def test_who_goes_away_at_the_moment_of_its_turn_leaves_it_to_the_next() -> None:
    table = InFlight()
    await table.enter(PLACE)
    gone, next_one = await entered(table, 2)
    table.leave(PLACE)
    gone.cancel()
    await next_one
    table.leave(PLACE)
    assert len(table) == 0


async def test_not_more_than_a_number_of_requests_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "WAITING", 1)
    table = InFlight()
    await table.enter(PLACE)
    (waiting,) = await entered(table, 1)
    with pytest.raises(Conflict):
        await table.enter(PLACE)
    table.leave(PLACE)
    await waiting
