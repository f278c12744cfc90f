import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from discue.dispatch.cluster.lease import Lease
from discue.domain.errors import StoreUnavailable
from discue.domain.ids import RowIds
from discue.store import workers
from discue.store.engine import Work, WorkerRow
from discue.store.store import Store
from tests.support.clocks import StandingClock
from tests.support.stores import opened_store

SECONDS = 10


class Life:
    """One worker's lease, and what it was told."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = StandingClock()
        self.row_ids = RowIds(self.clock, slot=900)
        self.lease = Lease(store, self.row_ids, self.clock, "all", SECONDS)
        self.joining: list[int] = []
        self.lost: list[int] = []
        self.regained = 0
        self.lease.announce = self.joining.append
        self.lease.regained = self.regain
        self.lease.lost = lambda: self.lost.append(self.lease.session_id)

    def regain(self) -> None:
        assert self.lease.is_held()
        self.regained += 1

    def pass_seconds(self, seconds: float) -> None:
        self.clock.advance(round(seconds * 1_000))

    async def expire_worker(self) -> None:
        assert await self.store.write(partial(workers.expire_worker, session_id=self.lease.session_id, known_dead=True))

    async def members(self) -> tuple[WorkerRow, ...]:
        return (await self.store.engine.poll(())).members


@pytest.fixture
def life(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Life]:
    with opened_store(runner, "sqlite", tmp_path) as store:
        yield Life(store)


async def test_who_has_not_joined_holds_nothing(life: Life) -> None:
    assert not life.lease.is_held()
    assert not life.lease.may_judge()


async def test_joining_brings_an_incarnation_and_the_slot_of_the_row_ids(life: Life) -> None:
    await life.lease.join()
    [member] = await life.members()
    assert (member.session_id, member.slot, member.lease_ms) == (life.lease.session_id, life.lease.slot, 10_000)
    assert life.row_ids.slot == 0
    assert life.joining == [life.lease.session_id]


async def test_a_lease_is_held_for_less_than_its_length_and_for_as_long_again_when_it_is_renewed(life: Life) -> None:
    await life.lease.join()
    life.pass_seconds(8.9)
    assert life.lease.is_held()
    assert await life.lease.renew()
    life.pass_seconds(8.9)
    assert life.lease.is_held()
    life.pass_seconds(0.1)
    assert not life.lease.is_held()


async def test_it_counts_from_before_the_renewal_was_sent(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    await life.lease.join()
    write = life.store.write_urgently

    async def slow(work: Work[bool]) -> bool:
        answer = await write(work)
        life.pass_seconds(6)
        return answer

    monkeypatch.setattr(life.store, "write_urgently", slow)
    assert await life.lease.renew()
    life.pass_seconds(2.9)
    assert life.lease.is_held()
    life.pass_seconds(0.1)
    assert not life.lease.is_held()


async def test_a_renewal_that_fails_prolongs_nothing(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    await life.lease.join()

    async def fail(_: object) -> object:
        raise StoreUnavailable

    life.pass_seconds(5)
    with monkeypatch.context() as patched:
        patched.setattr(life.store, "write_urgently", fail)
        with pytest.raises(StoreUnavailable):
            await life.lease.renew()
    assert life.lease.is_held()
    life.pass_seconds(4)
    assert not life.lease.is_held()
    assert life.regained == 1
    assert await life.lease.renew()
    assert life.lease.is_held()
    assert life.regained == 2
    assert life.lost == []


async def test_one_that_was_declared_dead_drops_everything_and_joins_as_another_one(life: Life) -> None:
    await life.lease.join()
    first = life.lease.session_id
    await life.expire_worker()
    held_when_lost = []
    life.lease.lost = lambda: held_when_lost.append((life.lease.session_id, life.lease.is_held()))
    assert not await life.lease.renew()
    assert held_when_lost == [(first, False)]
    assert life.lease.session_id != first
    assert life.lease.is_held()
    assert [member.dead for member in await life.members()] == [True, False]


async def test_two_renewals_of_a_dead_one_join_once(life: Life) -> None:
    await life.lease.join()
    await life.expire_worker()
    assert sorted(await asyncio.gather(life.lease.renew(), life.lease.renew())) == [False, True]
    assert len(await life.members()) == 2


async def test_one_that_is_declared_dead_while_it_leaves_does_not_come_back(life: Life) -> None:
    await life.lease.join()
    await life.lease.begin_leaving()
    assert life.lease.is_held()
    await life.expire_worker()
    assert not await life.lease.renew()
    assert not life.lease.is_held()
    assert [member.dead for member in await life.members()] == [True]


async def test_whoever_left_holds_nothing_and_has_no_row(life: Life) -> None:
    await life.lease.join()
    await life.lease.leave()
    assert not life.lease.is_held()
    assert await life.members() == ()


async def test_an_incarnation_that_is_there_already_is_not_used_again(life: Life) -> None:
    taken = RowIds(life.clock, slot=900).next()
    await life.store.write(partial(workers.join, session_id=taken, role="all", lease_ms=1_000))
    await life.lease.join()
    assert life.joining[0] == taken
    assert life.lease.session_id != taken


async def test_others_get_the_time_of_a_renewal_before_they_are_judged(life: Life) -> None:
    await life.lease.join()
    life.pass_seconds(3.2)
    assert not life.lease.may_judge()
    life.pass_seconds(0.2)
    assert life.lease.may_judge()
    await life.lease.renew()
    assert life.lease.may_judge()


async def test_after_a_lapse_they_get_it_again(life: Life) -> None:
    await life.lease.join()
    life.pass_seconds(9.5)
    assert not life.lease.may_judge()
    await life.lease.renew()
    assert not life.lease.may_judge()
    life.pass_seconds(3.4)
    assert life.lease.may_judge()


async def test_and_after_whatever_else_gives_rise_to_doubt(life: Life) -> None:
    await life.lease.join()
    life.pass_seconds(5)
    assert life.lease.may_judge()
    life.lease.doubt()
    life.pass_seconds(3.5)
    assert not life.lease.may_judge()
    await life.lease.renew()
    assert not life.lease.may_judge()
    life.pass_seconds(3.4)
    assert life.lease.may_judge()
