"""A worker's lease: when it is held, and how it ends."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from discue.dispatch.lane.context import WorkerSession
from discue.dispatch.lease import Lease
from discue.domain.errors import StoreUnavailable
from discue.domain.ids import RowIds
from discue.store import workers
from discue.store.engine import Work, WorkerRow
from discue.store.store import Store
from tests.support.clocks import StandingClock
from tests.support.stores import opened_store

SECONDS = 10


class Life:
    """The lease of one worker, and the calls of its callbacks."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = StandingClock()
        self.row_ids = RowIds(self.clock, slot=900)
        self.session = WorkerSession(self.clock)
        self.joining: list[int] = []
        self.lost: list[int] = []
        self.regained = 0
        self.on_expired: Callable[[], object] = lambda: self.lost.append(self.session.id)
        self.lease = Lease(
            store,
            self.session,
            self.row_ids,
            "all",
            seconds=SECONDS,
            on_expired=self.expire,
            on_held=self.regain,
            announce=self.joining.append,
        )

    def expire(self) -> None:
        self.on_expired()

    def regain(self) -> None:
        assert self.session.is_held()
        self.regained += 1

    def pass_seconds(self, seconds: float) -> None:
        self.clock.advance(round(seconds * 1_000))

    async def expire_worker(self) -> None:
        assert await self.store.write(partial(workers.expire_worker, session_id=self.session.id, known_dead=True))

    async def members(self) -> tuple[WorkerRow, ...]:
        return (await self.store.engine.poll(())).members


@pytest.fixture
def life(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Life]:
    with opened_store(runner, "sqlite", tmp_path) as store:
        yield Life(store)


async def test_lease_is_not_held_before_the_worker_has_joined(life: Life) -> None:
    assert not life.session.is_held()
    assert not life.lease.may_expire(10_000)


async def test_joining_sets_the_session_id_and_the_slot_of_the_row_ids(life: Life) -> None:
    await life.lease.join()
    [member] = await life.members()
    assert (member.session_id, member.slot, member.lease_ms) == (life.session.id, life.row_ids.slot, 10_000)
    assert life.row_ids.slot == 0
    assert life.joining == [life.session.id]


async def test_lease_is_held_for_less_than_its_length_after_each_renewal(life: Life) -> None:
    await life.lease.join()
    life.pass_seconds(8.9)
    assert life.session.is_held()
    assert await life.lease.renew()
    life.pass_seconds(8.9)
    assert life.session.is_held()
    life.pass_seconds(0.1)
    assert not life.session.is_held()


async def test_lease_counts_from_before_the_renewal_was_sent(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    await life.lease.join()
    write = life.store.write_urgently

    async def slow(work: Work[bool]) -> bool:
        answer = await write(work)
        life.pass_seconds(6)
        return answer

    monkeypatch.setattr(life.store, "write_urgently", slow)
    assert await life.lease.renew()
    life.pass_seconds(2.9)
    assert life.session.is_held()
    life.pass_seconds(0.1)
    assert not life.session.is_held()


async def test_failed_renewal_does_not_extend_the_lease(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    await life.lease.join()

    async def fail(_: object) -> object:
        raise StoreUnavailable

    life.pass_seconds(5)
    with monkeypatch.context() as patched:
        patched.setattr(life.store, "write_urgently", fail)
        with pytest.raises(StoreUnavailable):
            await life.lease.renew()
    assert life.session.is_held()
    life.pass_seconds(4)
    assert not life.session.is_held()
    assert life.regained == 1
    assert await life.lease.renew()
    assert life.session.is_held()
    assert life.regained == 2
    assert life.lost == []


async def test_expired_worker_joins_under_a_new_session_id(life: Life) -> None:
    await life.lease.join()
    first = life.session.id
    await life.expire_worker()
    held_when_lost = []
    life.on_expired = lambda: held_when_lost.append((life.session.id, life.session.is_held()))
    assert not await life.lease.renew()
    assert held_when_lost == [(first, False)]
    assert life.session.id != first
    assert life.session.is_held()
    assert [member.dead for member in await life.members()] == [True, False]


async def test_expired_session_is_not_renewed_once_a_failover_has_lost_its_end(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lanes of the expired session are gone: a renewed lease would send nothing."""
    await life.lease.join()
    first, write = life.session.id, life.store.write_urgently
    await life.expire_worker()

    async def fail_to_join(work: partial[Any]) -> Any:
        if work.func is workers.join:
            raise StoreUnavailable
        return await write(work)

    with monkeypatch.context() as patched:
        patched.setattr(life.store, "write_urgently", fail_to_join)
        with pytest.raises(StoreUnavailable):
            await life.lease.renew()
    await life.store.write(lambda tx: tx.execute("UPDATE worker SET dead = 0"))
    assert not await life.lease.renew()
    assert life.session.id != first
    assert life.session.is_held()
    assert life.lost == [first]


async def test_two_renewals_of_an_expired_worker_join_once(life: Life) -> None:
    await life.lease.join()
    await life.expire_worker()
    assert sorted(await asyncio.gather(life.lease.renew(), life.lease.renew())) == [False, True]
    assert len(await life.members()) == 2


async def test_worker_that_is_expired_while_it_leaves_does_not_join_again(life: Life) -> None:
    await life.lease.join()
    await life.lease.begin_leaving()
    assert life.session.is_held()
    await life.expire_worker()
    assert not await life.lease.renew()
    assert not life.session.is_held()
    assert [member.dead for member in await life.members()] == [True]


async def test_worker_that_left_holds_no_lease_and_has_no_row(life: Life) -> None:
    await life.lease.join()
    await life.lease.leave()
    assert not life.session.is_held()
    assert await life.members() == ()


async def test_renewal_in_flight_when_the_worker_leaves_holds_nothing(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    await life.lease.join()
    write = life.store.write_urgently

    async def leave_meanwhile(_: Work[bool]) -> bool:
        monkeypatch.setattr(life.store, "write_urgently", write)
        await life.lease.leave()
        return True

    monkeypatch.setattr(life.store, "write_urgently", leave_meanwhile)
    assert await life.lease.renew()
    assert not life.session.is_held()


async def test_worker_that_begins_to_leave_while_it_is_expired_does_not_join_again(life: Life) -> None:
    await life.lease.join()
    await life.expire_worker()
    expired = life.session.id
    leaving: list[asyncio.Future[None]] = []
    life.on_expired = lambda: leaving.append(asyncio.ensure_future(life.lease.begin_leaving()))
    await life.lease.renew()
    await leaving[0]
    assert not await life.store.write(partial(workers.renew, session_id=expired, lease_ms=1_000))
    await life.lease.leave()
    assert not life.session.is_held()


async def test_session_id_that_exists_is_not_used_again(life: Life) -> None:
    taken = RowIds(life.clock, slot=900).next()
    await life.store.write(partial(workers.join, session_id=taken, role="all", lease_ms=1_000))
    await life.lease.join()
    assert life.joining[0] == taken
    assert life.session.id != taken


@pytest.mark.parametrize("after", ["joining", "a lapse", "an invalidation"])
async def test_peers_have_time_to_renew_before_they_may_be_expired(life: Life, after: str) -> None:
    await life.lease.join()
    if after == "a lapse":
        life.pass_seconds(9.5)
    elif after == "an invalidation":
        life.pass_seconds(5)
        assert life.lease.may_expire(10_000)
        life.lease.invalidate()
        life.pass_seconds(3.5)
    assert not life.lease.may_expire(10_000)
    await life.lease.renew()
    life.pass_seconds(3.2)
    assert not life.lease.may_expire(10_000)
    life.pass_seconds(0.2)
    assert life.lease.may_expire(10_000)
    assert not life.lease.may_expire(11_000), "that worker renews less often"
    await life.lease.renew()
    assert life.lease.may_expire(10_000)
