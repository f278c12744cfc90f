"""How workers share cursors: by snapshots of the cluster, and by guarded writes."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.dispatch import ownership
from discue.dispatch.dispatcher import Dispatcher
from discue.dispatch.lane.context import WorkerSession
from discue.dispatch.lease import Leadership, Lease
from discue.dispatch.ownership import (
    FirstSeen,
    Ownership,
    Predecessors,
    Rendezvous,
    candidates,
    to_claim,
    to_expire,
    to_release,
)
from discue.domain.ids import RowIds
from discue.observability.logs import Log
from discue.observability.supervisor import BackgroundTasks
from discue.store import listeners, organizations, queues, workers
from discue.store.cursors import claim, release
from discue.store.engine import CursorKey, Notification, Transaction, WorkerRow
from discue.store.store import Store
from tests.store.rows import a_listener, a_queue, an_organization
from tests.support.clocks import StandingClock

LEASE_SECONDS = 60
LEASE_MS = LEASE_SECONDS * 1_000


@pytest.fixture
def engine_name() -> str:
    return "sqlite"


class CursorHolder:
    """A dispatcher, its registry and its lanes in one: owns cursors without delivering. If `is_stuck`, claims none."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self.registry = self.lanes = self
        self.cursors: set[CursorKey] = set()
        self.released: list[int] = []
        self.is_stuck = False
        self.tasks = BackgroundTasks(Log("test"), "task_failed")
        self.may_release = asyncio.Event()
        self.may_release.set()
        self.is_closed = False

    async def take(self, cursors: Sequence[CursorKey]) -> int:
        if self.is_stuck:
            return 0
        won = await self._store.write(partial(claim, owner=self._lease.session.id, cursors=cursors))
        self.cursors.update(won)
        return len(won)

    async def hand_over(self, cursors: Sequence[CursorKey]) -> None:
        await self.may_release.wait()
        await self._store.write(partial(release, owner=self._lease.session.id, cursors=cursors))
        self.cursors.difference_update(cursors)
        self.released.append(len(cursors))


class Worker:
    """A worker with a lease and cursors, and nothing else."""

    def __init__(self, cluster: "Cluster", role: str) -> None:
        self.store = cluster.store
        self.leadership = Leadership()
        self.lease = Lease(
            cluster.store,
            WorkerSession(cluster.clock),
            cluster.row_ids,
            role,
            seconds=LEASE_SECONDS,
            on_expired=lambda: None,
            on_held=lambda: None,
        )
        self.holder = CursorHolder(cluster.store, self.lease)
        dispatcher = cast(Dispatcher, self.holder)
        self.ownership = Ownership(
            cluster.store, dispatcher, self.lease, self.leadership, log=Log("test"), on_recorded=lambda _due_at: None
        )

    @property
    def me(self) -> int:
        return self.lease.session.id

    async def look(self) -> None:
        while await self.ownership.on_snapshot(await self.store.engine.poll(())):
            pass
        if self.holder.may_release.is_set():
            await asyncio.gather(*self.holder.tasks.running)


class Cluster:
    """A database, the clock that its workers share, and the live workers."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = StandingClock()
        self.row_ids = RowIds(self.clock)
        self.workers: list[Worker] = []
        self._made = 0

    async def worker(self, role: str = "all", predecessors: Predecessors = ()) -> Worker:
        worker = Worker(self, role)
        await worker.lease.join()
        await worker.ownership.begin(predecessors)
        self.workers.append(worker)
        return worker

    async def cursors(self, count: int) -> list[CursorKey]:
        self._made += count + 2
        first = self._made - count
        organization = an_organization(first - 2)
        queue = a_queue(organization.id, first - 1)
        made = [a_listener(queue, first + number) for number in range(count)]

        async def work(tx: Transaction) -> None:
            await organizations.insert(tx, organization)
            await queues.insert(tx, queue)
            for listener in made:
                await listeners.insert(tx, listener, 0)

        await self.store.write(work)
        return [(listener.organization, listener.id, 0) for listener in made]

    async def pass_seconds(self, seconds: int) -> None:
        """Let every worker renew its lease and poll once a second."""
        for _ in range(seconds):
            self.clock.advance(1_000)
            for worker in self.workers:
                await worker.lease.renew()
                await worker.look()

    async def kill(self, worker: Worker) -> None:
        """Let the lease of a worker end that does not renew it."""
        self.workers.remove(worker)
        for _ in range(3):
            self.clock.advance(LEASE_MS // 3)
            for each in self.workers:
                await each.lease.renew()
        await self.set_lease(worker, "clock_ms()")

    async def set_lease(self, worker: Worker, until: str) -> None:
        sql = f"UPDATE worker SET lease_until = {until} WHERE session_id = $1"
        assert await self.store.write(lambda tx: tx.execute(sql, worker.me)) == 1

    async def owners(self) -> dict[CursorKey, int | None]:
        rows = await self.store.read(lambda tx: tx.rows("SELECT organization, listener, stream, owner FROM cursor"))
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    async def members(self) -> dict[int, bool]:
        """Return each session id, and whether the worker is dead."""
        return {member.session_id: member.dead for member in (await self.store.engine.poll(())).members}


@pytest.fixture
def cluster(store: Store) -> Cluster:
    return Cluster(store)


@st.composite
def memberships(draw: st.DrawFn) -> list[WorkerRow]:
    made = []
    for session_id in draw(st.lists(st.integers(1, 9), min_size=1, unique=True)):
        role = draw(st.sampled_from(["all", "api", "dispatch"]))
        remaining = draw(st.sampled_from([-LEASE_MS, 0, 1, LEASE_MS, LEASE_MS + 1]))
        made.append(WorkerRow(session_id, role, 0, LEASE_MS, remaining, draw(st.booleans()), draw(st.booleans())))
    return made


cursor_sets = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 99), st.just(0)), unique=True)


@given(memberships(), st.integers(1, 9), st.sets(st.integers(1, 9)))
def test_only_other_workers_with_an_ended_lease_are_expired(
    members: list[WorkerRow], me: int, long_ahead: set[int]
) -> None:
    expired = {member.session_id for member in to_expire(members, me, long_ahead)}
    assert me not in expired
    for member in members:
        if member.dead or 0 < member.remaining_ms <= LEASE_MS:
            assert member.session_id not in expired
        elif member.session_id != me and member.remaining_ms <= 0:
            assert member.session_id in expired


@given(memberships(), st.sets(st.integers(1, 9)))
def test_worker_that_can_be_expired_is_no_candidate(members: list[WorkerRow], long_ahead: set[int]) -> None:
    expired = {member.session_id for member in to_expire(members, 0, long_ahead)}
    assert not expired & set(candidates(members))
    assert all(
        not member.dead and not member.is_leaving and member.role != "api" and 0 < member.remaining_ms <= LEASE_MS
        for member in members
        if member.session_id in candidates(members)
    )


@given(st.sets(st.integers(1, 99), min_size=1, max_size=6), cursor_sets)
def test_free_cursor_is_claimed_by_exactly_one_worker(members: set[int], free: list[CursorKey]) -> None:
    shares = Rendezvous(sorted(members))
    claimed = [cursor for me in members for cursor in to_claim(shares, me, free, ())]
    assert sorted(claimed) == sorted(free)


@given(st.sets(st.integers(1, 99), min_size=1, max_size=6), cursor_sets)
def test_released_cursors_are_claimed_by_others_and_claimed_ones_are_kept(
    members: set[int], owned: list[CursorKey]
) -> None:
    shares = Rendezvous(sorted(members))
    for me in members:
        released = to_release(shares, me, owned)
        elsewhere = [cursor for other in members - {me} for cursor in to_claim(shares, other, owned, ())]
        assert sorted(released) == sorted(elsewhere)
        assert to_release(shares, me, to_claim(shares, me, owned, ())) == []


@given(st.sets(st.integers(1, 99), min_size=1, max_size=6), cursor_sets)
def test_cursor_that_is_free_for_too_long_is_claimed_by_any_worker(members: set[int], free: list[CursorKey]) -> None:
    shares = Rendezvous(sorted(members))
    assert all(to_claim(shares, me, free, set(free)) == free for me in members)


def test_interruption_restarts_the_time_an_item_was_seen() -> None:
    first_seen: FirstSeen[str] = FirstSeen()
    first_seen.update(["a", "b"], 0.0)
    first_seen.update(["a"], 1.0)
    first_seen.update(["a", "b"], 2.0)
    assert first_seen.seen_for(2.0, 2.0) == {"a"}
    assert first_seen.seen_for(3.0, 4.9) == {"a"}
    assert first_seen.seen_for(3.0, 5.0) == {"a", "b"}


async def test_single_worker_claims_all_cursors_at_once(cluster: Cluster) -> None:
    cursors = await cluster.cursors(1_300)
    alice = await cluster.worker()
    assert set((await cluster.owners()).values()) == {alice.me}
    assert set(alice.holder.cursors) == set(cursors)
    assert alice.leadership.is_held


async def test_new_worker_gets_its_share_after_a_while_in_limited_steps(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "_RELEASED_PER_STEP", 500)
    await cluster.cursors(1_300)
    alice, bob = await cluster.worker(), await cluster.worker()
    await cluster.pass_seconds(3)
    assert alice.holder.released == []
    assert not bob.holder.cursors
    await cluster.pass_seconds(1)
    assert alice.holder.released == [500]
    await alice.look()
    assert alice.holder.released == [500]
    await cluster.pass_seconds(3)
    shares = Rendezvous([alice.me, bob.me])
    assert all(owner == shares.owner_of(cursor) for cursor, owner in (await cluster.owners()).items())
    assert 550 < sum(alice.holder.released) < 750
    moved = len(alice.holder.released)
    await cluster.pass_seconds(10)
    assert len(alice.holder.released) == moved, "nothing moves once the shares are settled"
    assert bob.holder.released == []


async def test_handover_that_cannot_be_stored_holds_up_no_poll(cluster: Cluster) -> None:
    await cluster.cursors(60)
    alice, bob = await cluster.worker(), await cluster.worker()
    alice.holder.may_release.clear()
    await cluster.pass_seconds(5)
    await cluster.kill(bob)
    await cluster.pass_seconds(5)
    assert set(await cluster.members()) == {alice.me}
    assert (alice.holder.released, len(alice.holder.cursors)) == ([], 60)
    # The members have changed meanwhile: once it is stored, the worker claims again what it has handed over.
    alice.holder.may_release.set()
    await cluster.pass_seconds(10)
    assert len(alice.holder.released) == 1
    assert len(alice.holder.cursors) == 60
    assert set((await cluster.owners()).values()) == {alice.me}


async def test_short_lived_worker_moves_no_cursor(cluster: Cluster) -> None:
    await cluster.cursors(20)
    alice = await cluster.worker()
    await cluster.pass_seconds(5)
    for _ in range(3):
        bob = await cluster.worker()
        await cluster.pass_seconds(2)
        cluster.workers.remove(bob)
        await bob.lease.leave()
        await cluster.pass_seconds(2)
    assert alice.holder.released == []


async def test_cursors_of_an_expired_worker_go_to_the_others(cluster: Cluster) -> None:
    await cluster.cursors(60)
    alice, bob, charlie = [await cluster.worker() for _ in range(3)]
    await cluster.pass_seconds(30)
    assert all(worker.holder.cursors for worker in cluster.workers)
    await cluster.kill(bob)
    await alice.look()
    await charlie.look()
    shares = Rendezvous([alice.me, charlie.me])
    assert all(owner == shares.owner_of(cursor) for cursor, owner in (await cluster.owners()).items())
    assert set(await cluster.members()) == {alice.me, charlie.me}


async def test_exactly_one_worker_is_leader_and_has_a_successor(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    workers = [await cluster.worker() for _ in range(3)]
    await cluster.pass_seconds(1)
    [keeper] = [worker for worker in workers if worker.leadership.is_held]
    await cluster.kill(keeper)
    await cluster.pass_seconds(1)
    [successor] = [worker for worker in cluster.workers if worker.leadership.is_held]
    gained = [vars(each)["discue_fields"] for each in caplog.records if each.message == "leader_gained"]
    assert [fields["session_id"] for fields in gained][-2:] == [keeper.me, successor.me]


async def test_no_worker_is_expired_after_an_outage_before_it_could_renew(cluster: Cluster) -> None:
    alice, bob = await cluster.worker(), await cluster.worker()
    await cluster.pass_seconds(30)
    cluster.clock.advance(LEASE_MS)
    for worker in (alice, bob):
        await cluster.set_lease(worker, "clock_ms() - 1000")
    await alice.lease.renew()
    await alice.look()
    assert await cluster.members() == {alice.me: False, bob.me: False}
    cluster.clock.advance(LEASE_MS // 3)
    await alice.look()
    assert set(await cluster.members()) == {alice.me}


async def test_no_worker_is_expired_when_the_clock_of_the_database_jumps(cluster: Cluster) -> None:
    alice, bob = await cluster.worker(), await cluster.worker()
    await cluster.pass_seconds(30)
    for worker in (alice, bob):
        await cluster.set_lease(worker, "clock_ms() - 3600000")
    await alice.look()
    assert await cluster.members() == {alice.me: False, bob.me: False}
    await cluster.pass_seconds(30)
    assert await cluster.members() == {alice.me: False, bob.me: False}


async def test_worker_that_renews_after_a_jump_of_the_clock_expires_no_other(cluster: Cluster) -> None:
    alice, bob = await cluster.worker(), await cluster.worker()
    await cluster.pass_seconds(30)
    await cluster.set_lease(bob, "clock_ms() - 3600000")
    await alice.look()
    assert await cluster.members() == {alice.me: False, bob.me: False}
    await cluster.pass_seconds(30)
    assert await cluster.members() == {alice.me: False, bob.me: False}


async def test_lease_that_is_ahead_ends_after_its_whole_length(cluster: Cluster) -> None:
    alice, bob = await cluster.worker(), await cluster.worker()
    await cluster.pass_seconds(30)
    cluster.workers.remove(bob)
    await cluster.set_lease(bob, "clock_ms() + 3600000")
    await cluster.pass_seconds(LEASE_SECONDS)
    assert set(await cluster.members()) == {alice.me, bob.me}
    await cluster.pass_seconds(1)
    assert set(await cluster.members()) == {alice.me}


async def test_half_done_takeover_is_completed_by_another_worker(cluster: Cluster) -> None:
    cursors = await cluster.cursors(5)
    alice = await cluster.worker()
    await cluster.pass_seconds(5)
    bob = await cluster.worker()
    await cluster.kill(alice)
    await cluster.store.write(partial(workers.expire_worker, session_id=alice.me))
    await cluster.store.write(partial(workers.release_cursors, dead=alice.me, limit=2))
    await bob.look()
    assert set((await cluster.owners()).values()) == {bob.me, alice.me}, "the expirer may still free them"
    await cluster.pass_seconds(3)
    assert await cluster.owners() == dict.fromkeys(cursors, bob.me)
    assert set(await cluster.members()) == {bob.me}


async def test_cursor_that_its_owner_leaves_free_is_claimed_by_another_worker_and_stays(
    cluster: Cluster,
) -> None:
    await cluster.cursors(20)
    alice, bob = await cluster.worker(), await cluster.worker()
    await cluster.pass_seconds(10)
    shared = await cluster.owners()
    [released] = alice.holder.released
    bob.holder.is_stuck = True
    later = await cluster.cursors(20)
    await cluster.pass_seconds(3)
    assert None in (await cluster.owners()).values()
    await cluster.pass_seconds(1)
    assert await cluster.owners() == {**shared, **dict.fromkeys(later, alice.me)}
    bob.holder.is_stuck = False
    await cluster.pass_seconds(10)
    assert alice.holder.released == [released]


async def test_api_worker_owns_no_cursor_and_expires_workers(cluster: Cluster) -> None:
    cursors = await cluster.cursors(3)
    alice = await cluster.worker()
    api = await cluster.worker("api")
    await cluster.pass_seconds(30)
    assert await cluster.owners() == dict.fromkeys(cursors, alice.me)
    await cluster.kill(alice)
    await cluster.pass_seconds(5)
    assert await cluster.owners() == dict.fromkeys(cursors, None)
    assert set(await cluster.members()) == {api.me}
    assert not api.leadership.is_held


async def test_leaving_worker_claims_and_releases_nothing(cluster: Cluster) -> None:
    alice, bob = await cluster.worker(), await cluster.worker()
    await alice.lease.begin_leaving()
    alice.holder.is_closed = True
    cursors = await cluster.cursors(10)
    await cluster.pass_seconds(1)
    assert await cluster.owners() == dict.fromkeys(cursors, bob.me)
    cluster.workers.remove(bob)
    await bob.lease.leave()
    await cluster.pass_seconds(5)
    assert await cluster.owners() == dict.fromkeys(cursors, None)


async def test_worker_with_an_ended_lease_does_nothing(cluster: Cluster) -> None:
    alice = await cluster.worker()
    [cursor] = await cluster.cursors(1)
    cluster.clock.advance(LEASE_MS)
    await alice.look()
    assert await cluster.owners() == {cursor: None}


async def test_expired_worker_does_nothing_until_it_has_joined_again(cluster: Cluster) -> None:
    alice = await cluster.worker()
    [cursor] = await cluster.cursors(1)
    await cluster.store.write(partial(workers.expire_worker, session_id=alice.me, known_dead=True))
    await alice.look()
    assert await cluster.owners() == {cursor: None}
    assert not await alice.lease.renew()
    await alice.look()
    assert await cluster.owners() == {cursor: alice.me}


async def test_predecessors_are_expired_at_once(cluster: Cluster) -> None:
    cursors = await cluster.cursors(8)
    alice = await cluster.worker()
    await cluster.pass_seconds(30)
    bob = await cluster.worker(predecessors=[alice.me])
    assert set(bob.holder.cursors) == set(cursors)
    assert set(await cluster.members()) == {bob.me}


async def test_worker_that_is_alone_claims_cursors_of_unknown_owners(cluster: Cluster) -> None:
    cursors = await cluster.cursors(1_300)
    alice = await cluster.worker()
    # In a copied database, or one of an older version, owners have no rows.
    await cluster.store.write(lambda tx: tx.execute("UPDATE cursor SET owner = 4711 WHERE listener % 2 = 0"))
    bob = await cluster.worker(predecessors="all")
    assert set(bob.holder.cursors) == set(cursors)
    assert set(await cluster.members()) == {bob.me}
    assert alice.me != bob.me


async def test_other_workers_are_notified_of_a_new_worker_and_of_free_cursors(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifications: list[Notification] = []
    monkeypatch.setattr(cluster.store.engine, "notify", notifications.append)
    await cluster.cursors(3)
    alice = await cluster.worker()
    assert Notification(cursors=True) in notifications
    notifications.clear()
    await cluster.worker(predecessors=[alice.me])
    assert Notification(cursors=True) in notifications


async def test_store_has_other_workers_while_they_are_seen(cluster: Cluster) -> None:
    alice = await cluster.worker()
    company = [cluster.store.has_other_workers]
    bob = await cluster.worker("api")
    await alice.look()
    company.append(cluster.store.has_other_workers)
    cluster.workers.remove(bob)
    await bob.lease.leave()
    await alice.look()
    company.append(cluster.store.has_other_workers)
    assert company == [False, True, False]
