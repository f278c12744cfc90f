"""Workers share cursors: decided by what each look at the database shows, settled by guarded writes."""

from collections.abc import Collection, Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.dispatch.cluster.lease import Lease
from discue.dispatch.cluster.ownership import (
    Ownership,
    Predecessors,
    Sightings,
    candidates,
    to_bury,
    to_claim,
    to_give_up,
)
from discue.domain.ids import RowIds
from discue.domain.rendezvous import Rendezvous
from discue.observability.logs import Log
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


class Desk:
    """Owns cursors without delivering anything. `stuck`: it takes nothing."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._owned: set[CursorKey] = set()
        self.given_up: list[int] = []
        self.stuck = False

    @property
    def owned(self) -> Collection[CursorKey]:
        return self._owned

    async def take(self, cursors: Sequence[CursorKey]) -> int:
        if self.stuck:
            return 0
        won = await self._store.write(partial(claim, owner=self._lease.session_id, cursors=cursors))
        self._owned.update(won)
        return len(won)

    async def hand_over(self, cursors: Sequence[CursorKey]) -> None:
        await self._store.write(partial(release, owner=self._lease.session_id, cursors=cursors))
        self._owned.difference_update(cursors)
        self.given_up.append(len(cursors))


class Player:
    """One worker, as far as owning goes."""

    def __init__(self, house: "House", role: str) -> None:
        self.store = house.store
        self.lease = Lease(house.store, house.row_ids, house.clock, role, LEASE_SECONDS)
        self.desk = Desk(house.store, self.lease)
        self.ownership = Ownership(house.store, self.desk, self.lease, house.clock, Log("test"))

    @property
    def me(self) -> int:
        return self.lease.session_id

    async def look(self) -> None:
        while await self.ownership.saw(await self.store.engine.poll(())):
            pass


class House:
    """A database, a clock that all its workers share, and the workers that live."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = StandingClock()
        self.row_ids = RowIds(self.clock)
        self.players: list[Player] = []
        self._made = 0

    async def player(self, role: str = "all", predecessors: Predecessors = ()) -> Player:
        player = Player(self, role)
        await player.lease.join()
        await player.ownership.begin(predecessors)
        self.players.append(player)
        return player

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
        """Every worker renews, and looks once a second."""
        for _ in range(seconds):
            self.clock.advance(1_000)
            for player in self.players:
                await player.lease.renew()
                await player.look()

    async def kill(self, player: Player) -> None:
        """Its lease runs out, and nobody renews it."""
        self.players.remove(player)
        await self.set_lease(player, "clock_ms()")

    async def set_lease(self, player: Player, until: str) -> None:
        sql = f"UPDATE worker SET lease_until = {until} WHERE incarnation = $1"
        assert await self.store.write(lambda tx: tx.execute(sql, player.me)) == 1

    async def owners(self) -> dict[CursorKey, int | None]:
        rows = await self.store.read(lambda tx: tx.rows("SELECT organization, listener, stream, owner FROM cursor"))
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    async def members(self) -> dict[int, bool]:
        """Each with whether it is dead."""
        return {member.session_id: member.dead for member in (await self.store.engine.poll(())).members}


@pytest.fixture
def house(store: Store) -> House:
    return House(store)


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
def test_nobody_is_buried_whose_lease_is_good_and_nobody_buries_itself(
    members: list[WorkerRow], me: int, long_ahead: set[int]
) -> None:
    buried = to_bury(members, me, long_ahead)
    assert me not in buried
    for member in members:
        if member.dead or 0 < member.remaining_ms <= LEASE_MS:
            assert member.session_id not in buried
        elif member.session_id != me and member.remaining_ms <= 0:
            assert member.session_id in buried


@given(memberships(), st.sets(st.integers(1, 9)))
def test_whoever_could_be_buried_should_own_nothing(members: list[WorkerRow], long_ahead: set[int]) -> None:
    assert not set(to_bury(members, 0, long_ahead)) & set(candidates(members))
    assert all(
        not member.dead and not member.is_leaving and member.role != "api" and 0 < member.remaining_ms <= LEASE_MS
        for member in members
        if member.session_id in candidates(members)
    )


@given(st.sets(st.integers(1, 99), min_size=1, max_size=6), cursor_sets)
def test_what_is_free_is_claimed_by_exactly_one(members: set[int], free: list[CursorKey]) -> None:
    shares = Rendezvous(sorted(members))
    claimed = [cursor for me in members for cursor in to_claim(shares, me, free, ())]
    assert sorted(claimed) == sorted(free)


@given(st.sets(st.integers(1, 99), min_size=1, max_size=6), cursor_sets)
def test_what_is_given_up_is_what_another_one_claims_and_what_is_claimed_is_kept(
    members: set[int], owned: list[CursorKey]
) -> None:
    shares = Rendezvous(sorted(members))
    for me in members:
        given_up = to_give_up(shares, me, owned)
        elsewhere = [cursor for other in members - {me} for cursor in to_claim(shares, other, owned, ())]
        assert sorted(given_up) == sorted(elsewhere)
        assert to_give_up(shares, me, to_claim(shares, me, owned, ())) == []


@given(st.sets(st.integers(1, 99), min_size=1, max_size=6), cursor_sets)
def test_what_lies_too_long_is_claimed_by_whoever_sees_it(members: set[int], free: list[CursorKey]) -> None:
    shares = Rendezvous(sorted(members))
    assert all(to_claim(shares, me, free, set(free)) == free for me in members)


def test_what_was_not_there_at_one_look_begins_anew() -> None:
    sightings: Sightings[str] = Sightings()
    sightings.look(["a", "b"], 0.0)
    sightings.look(["a"], 1.0)
    sightings.look(["a", "b"], 2.0)
    assert sightings.for_seconds(2.0, 2.0) == {"a"}
    assert sightings.for_seconds(3.0, 4.9) == {"a"}
    assert sightings.for_seconds(3.0, 5.0) == {"a", "b"}


async def test_one_that_is_alone_takes_everything_at_once(house: House) -> None:
    cursors = await house.cursors(1_300)
    alice = await house.player()
    assert set((await house.owners()).values()) == {alice.me}
    assert set(alice.desk.owned) == set(cursors)
    assert alice.ownership.keeps_house


async def test_what_comes_later_is_taken_at_the_next_look(house: House) -> None:
    alice = await house.player()
    [cursor] = await house.cursors(1)
    await alice.look()
    assert await house.owners() == {cursor: alice.me}


async def test_another_one_gets_its_share_when_it_has_stayed_for_a_while_and_a_bounded_number_a_second(
    house: House,
) -> None:
    await house.cursors(1_300)
    alice, bob = await house.player(), await house.player()
    await house.pass_seconds(3)
    assert alice.desk.given_up == []
    assert not bob.desk.owned
    await house.pass_seconds(1)
    assert alice.desk.given_up == [500]
    await alice.look()
    assert alice.desk.given_up == [500]
    await house.pass_seconds(3)
    shares = Rendezvous([alice.me, bob.me])
    assert all(owner == shares.owner_of(cursor) for cursor, owner in (await house.owners()).items())
    assert 550 < sum(alice.desk.given_up) < 750
    moved = len(alice.desk.given_up)
    await house.pass_seconds(10)
    assert len(alice.desk.given_up) == moved, "and then there is rest"
    assert bob.desk.given_up == []


async def test_one_that_comes_and_goes_at_once_moves_nothing(house: House) -> None:
    await house.cursors(20)
    alice = await house.player()
    await house.pass_seconds(5)
    for _ in range(3):
        bob = await house.player()
        await house.pass_seconds(2)
        house.players.remove(bob)
        await bob.lease.leave()
        await house.pass_seconds(2)
    assert alice.desk.given_up == []


async def test_the_cursors_of_one_whose_lease_is_over_go_to_the_others(house: House) -> None:
    await house.cursors(60)
    alice, bob, charlie = [await house.player() for _ in range(3)]
    await house.pass_seconds(30)
    assert all(player.desk.owned for player in house.players)
    await house.kill(bob)
    await alice.look()
    await charlie.look()
    shares = Rendezvous([alice.me, charlie.me])
    assert all(owner == shares.owner_of(cursor) for cursor, owner in (await house.owners()).items())
    assert set(await house.members()) == {alice.me, charlie.me}


async def test_exactly_one_keeps_house_and_another_one_when_it_goes(house: House) -> None:
    players = [await house.player() for _ in range(3)]
    await house.pass_seconds(1)
    [keeper] = [player for player in players if player.ownership.keeps_house]
    await house.kill(keeper)
    await house.pass_seconds(1)
    assert sum(player.ownership.keeps_house for player in house.players) == 1


async def test_after_an_outage_nobody_is_buried_before_it_had_the_time_to_renew(house: House) -> None:
    alice, bob = await house.player(), await house.player()
    await house.pass_seconds(30)
    house.clock.advance(LEASE_MS)
    for player in (alice, bob):
        await house.set_lease(player, "clock_ms() - 1000")
    await alice.lease.renew()
    await alice.look()
    assert await house.members() == {alice.me: False, bob.me: False}
    house.clock.advance(LEASE_MS // 3)
    await alice.look()
    assert set(await house.members()) == {alice.me}


async def test_when_the_clock_of_the_database_jumped_nobody_is_buried_for_it(house: House) -> None:
    alice, bob = await house.player(), await house.player()
    await house.pass_seconds(30)
    for player in (alice, bob):
        await house.set_lease(player, "clock_ms() - 3600000")
    await alice.look()
    assert await house.members() == {alice.me: False, bob.me: False}
    await house.pass_seconds(30)
    assert await house.members() == {alice.me: False, bob.me: False}


async def test_a_lease_that_reaches_too_far_is_over_when_nobody_mends_it_for_its_whole_length(house: House) -> None:
    alice, bob = await house.player(), await house.player()
    await house.pass_seconds(30)
    house.players.remove(bob)
    await house.set_lease(bob, "clock_ms() + 3600000")
    await house.pass_seconds(LEASE_SECONDS)
    assert set(await house.members()) == {alice.me, bob.me}
    await house.pass_seconds(1)
    assert set(await house.members()) == {alice.me}


async def test_what_a_thief_left_half_done_is_carried_on_by_others(house: House) -> None:
    cursors = await house.cursors(5)
    alice = await house.player()
    await house.pass_seconds(5)
    bob = await house.player()
    await house.kill(alice)
    await house.store.write(partial(workers.expire_worker, session_id=alice.me))
    await house.store.write(partial(workers.release_cursors, dead=alice.me, limit=2))
    await bob.look()
    assert set((await house.owners()).values()) == {bob.me, alice.me}, "whoever buried her may be at it"
    await house.pass_seconds(3)
    assert await house.owners() == dict.fromkeys(cursors, bob.me)
    assert set(await house.members()) == {bob.me}


async def test_what_whoever_should_have_it_leaves_lying_is_taken_by_another_one_and_stays_there(house: House) -> None:
    await house.cursors(20)
    alice, bob = await house.player(), await house.player()
    await house.pass_seconds(10)
    shared = await house.owners()
    [given_up] = alice.desk.given_up
    bob.desk.stuck = True
    later = await house.cursors(20)
    await house.pass_seconds(3)
    assert None in (await house.owners()).values()
    await house.pass_seconds(1)
    assert await house.owners() == {**shared, **dict.fromkeys(later, alice.me)}
    bob.desk.stuck = False
    await house.pass_seconds(10)
    assert alice.desk.given_up == [given_up]


async def test_one_that_only_answers_the_api_owns_nothing_and_buries_the_dead(house: House) -> None:
    cursors = await house.cursors(3)
    alice = await house.player()
    api = await house.player("api")
    await house.pass_seconds(30)
    assert await house.owners() == dict.fromkeys(cursors, alice.me)
    await house.kill(alice)
    await house.pass_seconds(5)
    assert await house.owners() == dict.fromkeys(cursors, None)
    assert set(await house.members()) == {api.me}
    assert not api.ownership.keeps_house


async def test_one_that_leaves_takes_and_gives_up_nothing(house: House) -> None:
    alice, bob = await house.player(), await house.player()
    await alice.lease.begin_leaving()
    alice.ownership.begin_leaving()
    cursors = await house.cursors(10)
    await house.pass_seconds(1)
    assert await house.owners() == dict.fromkeys(cursors, bob.me)
    house.players.remove(bob)
    await bob.lease.leave()
    await house.pass_seconds(5)
    assert await house.owners() == dict.fromkeys(cursors, None)


async def test_one_whose_lease_is_over_does_nothing(house: House) -> None:
    alice = await house.player()
    [cursor] = await house.cursors(1)
    house.clock.advance(LEASE_MS)
    await alice.look()
    assert await house.owners() == {cursor: None}


async def test_one_that_was_buried_does_nothing_until_it_joined_afresh(house: House) -> None:
    alice = await house.player()
    [cursor] = await house.cursors(1)
    await house.store.write(partial(workers.expire_worker, session_id=alice.me, known_dead=True))
    await alice.look()
    assert await house.owners() == {cursor: None}
    assert not await alice.lease.renew()
    await alice.look()
    assert await house.owners() == {cursor: alice.me}


async def test_predecessors_that_are_known_to_be_gone_are_buried_at_once(house: House) -> None:
    cursors = await house.cursors(8)
    alice = await house.player()
    await house.pass_seconds(30)
    bob = await house.player(predecessors=[alice.me])
    assert set(bob.desk.owned) == set(cursors)
    assert set(await house.members()) == {bob.me}


async def test_one_that_knows_to_be_alone_takes_everything_whoever_had_it(house: House) -> None:
    cursors = await house.cursors(1_300)
    alice = await house.player()
    # Of a database that was copied, or that an older version served: no worker has a row there.
    await house.store.write(lambda tx: tx.execute("UPDATE cursor SET owner = 4711 WHERE listener % 2 = 0"))
    bob = await house.player(predecessors="all")
    assert set(bob.desk.owned) == set(cursors)
    assert set(await house.members()) == {bob.me}
    assert alice.me != bob.me


async def test_others_hear_that_somebody_came_and_that_cursors_are_free(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Notification] = []
    monkeypatch.setattr(house.store.engine, "notify", told.append)
    await house.cursors(3)
    alice = await house.player()
    assert Notification(cursors=True) in told
    told.clear()
    await house.player(predecessors=[alice.me])
    assert Notification(cursors=True) in told


async def test_there_is_company_as_soon_as_another_one_is_seen_and_until_it_is_gone(house: House) -> None:
    alice = await house.player()
    company = [house.store.has_other_workers]
    bob = await house.player("api")
    await alice.look()
    company.append(house.store.has_other_workers)
    house.players.remove(bob)
    await bob.lease.leave()
    await alice.look()
    company.append(house.store.has_other_workers)
    assert company == [False, True, False]
