import asyncio
from contextlib import suppress
from functools import partial

import pytest

from discue.domain.errors import Unavailable
from discue.domain.ids import WORKER_SLOTS
from discue.store import workers
from discue.store.cursors import claim
from discue.store.engine import CursorKey, Row, Transaction, WorkerRow
from discue.store.store import Store
from tests.store.rows import stored_listeners

LEASE_MS = 60_000
ALICE, BOB, CHARLIE = 11, 12, 13
EVERYTHING = 1_000


async def join(store: Store, *session_ids: int, lease_ms: int = LEASE_MS) -> list[int]:
    return [
        await store.write(partial(workers.join, session_id=each, role="all", lease_ms=lease_ms)) for each in session_ids
    ]


async def members(store: Store) -> dict[int, WorkerRow]:
    return {member.session_id: member for member in (await store.engine.poll(())).members}


async def make_cursors(store: Store, count: int) -> list[CursorKey]:
    return [(listener.organization, listener.id, 0) for listener in await stored_listeners(store, count)]


async def take(store: Store, owner: int, cursors: list[CursorKey]) -> list[CursorKey]:
    return await store.write(partial(claim, owner=owner, cursors=cursors))


async def owners(store: Store) -> list[Row]:
    return await store.read(lambda tx: tx.rows("SELECT owner, token FROM cursor ORDER BY listener"))


async def expire(store: Store, session_id: int, lease_until: str = "clock_ms()") -> None:
    """The time of a lease has come."""
    sql = f"UPDATE worker SET lease_until = {lease_until} WHERE session_id = $1"
    assert await store.write(lambda tx: tx.execute(sql, session_id)) == 1


async def test_each_worker_alive_has_a_slot_of_its_own_also_when_they_join_at_once(store: Store) -> None:
    slots = await asyncio.gather(*(join(store, session_id) for session_id in range(1, 21)))
    assert sorted(slot for [slot] in slots) == list(range(20))


async def test_slot_is_reused_after_leaving_but_not_after_mere_expiry(store: Store) -> None:
    await join(store, ALICE, BOB, CHARLIE)
    await expire(store, ALICE)
    assert await store.write(partial(workers.leave, session_id=BOB, limit=EVERYTHING))
    assert await join(store, 21, 22) == [1, 3]


async def test_worker_does_not_join_when_all_slots_are_taken(store: Store) -> None:
    async def fill(tx: Transaction) -> None:
        for slot in WORKER_SLOTS:
            await tx.execute(
                "INSERT INTO worker (session_id, lease_until, role, slot) VALUES ($1, $2, 'all', $1)", slot, 0
            )

    await store.write(fill)
    with pytest.raises(Unavailable, match="768"):
        await join(store, 1_000)


async def test_renewal_extends_an_expired_lease(store: Store) -> None:
    await join(store, ALICE)
    await expire(store, ALICE)
    assert await store.write(partial(workers.renew, session_id=ALICE, lease_ms=5_000))
    alice = (await members(store))[ALICE]
    assert alice.lease_ms == 5_000
    assert 0 < alice.remaining_ms <= 5_000


async def test_expired_worker_can_neither_renew_nor_claim(store: Store) -> None:
    cursors = await make_cursors(store, 1)
    await join(store, ALICE)
    assert await store.write(partial(workers.expire_worker, session_id=ALICE, known_dead=True))
    for session_id in (ALICE, BOB):
        assert not await store.write(partial(workers.renew, session_id=session_id, lease_ms=LEASE_MS))
        with pytest.raises(workers.MayNotClaim):
            await store.write(partial(workers.claim_cursors, session_id=session_id, cursors=cursors))
    assert (await members(store))[ALICE].dead
    assert await owners(store) == [(None, 0)]


@pytest.mark.parametrize("lease_until", ["clock_ms()", "clock_ms() + 70000"], ids=["over", "longer than it is"])
async def test_expired_worker_is_declared_dead_once(store: Store, lease_until: str) -> None:
    await join(store, ALICE, BOB)
    expire_worker = partial(workers.expire_worker, session_id=ALICE)
    assert not await store.write(expire_worker)
    await expire(store, ALICE, lease_until)
    assert sorted(await asyncio.gather(*(store.write(expire_worker) for _ in range(5)))) == [False] * 4 + [True]
    assert [member.dead for member in (await members(store)).values()] == [True, False]


async def test_cursors_of_a_dead_worker_are_released_in_steps_with_new_tokens(store: Store) -> None:
    cursors = await make_cursors(store, 5)
    await join(store, ALICE, BOB)
    await take(store, ALICE, cursors[:4])
    await take(store, BOB, cursors[4:])
    before = await owners(store)
    await store.write(partial(workers.expire_worker, session_id=ALICE, known_dead=True))
    step = partial(workers.release_cursors, dead=ALICE, limit=3)
    assert await store.write(step) == 3
    assert [owner for owner, _ in await owners(store)] == [None, None, None, ALICE, BOB]
    assert not await store.write(partial(workers.delete, session_id=ALICE))
    assert [await store.write(step), await store.write(step)] == [1, 0]
    assert await owners(store) == [(None, token + 1) for _, token in before[:4]] + before[4:]
    assert await store.write(partial(workers.delete, session_id=ALICE))
    assert list(await members(store)) == [BOB]


async def test_live_worker_keeps_its_cursors_and_its_row(store: Store) -> None:
    cursors = await make_cursors(store, 2)
    await join(store, ALICE)
    await take(store, ALICE, cursors)
    assert await store.write(partial(workers.release_cursors, dead=ALICE, limit=EVERYTHING)) == 0
    assert not await store.write(partial(workers.delete, session_id=ALICE))
    assert [owner for owner, _ in await owners(store)] == [ALICE, ALICE]


async def test_leaving_worker_claims_nothing_and_is_listed_until_its_lease_ends(store: Store) -> None:
    cursors = await make_cursors(store, 2)
    await join(store, ALICE)
    claim_cursors = partial(workers.claim_cursors, session_id=ALICE)
    assert await store.write(partial(claim_cursors, cursors=cursors[:1])) == cursors[:1]
    await store.write(partial(workers.begin_leaving, session_id=ALICE))
    assert (await members(store))[ALICE].is_leaving
    with pytest.raises(workers.MayNotClaim):
        await store.write(partial(claim_cursors, cursors=cursors[1:]))
    assert await store.write(partial(workers.renew, session_id=ALICE, lease_ms=LEASE_MS))
    assert (await members(store))[ALICE].is_leaving


async def test_worker_that_left_owns_no_cursor(store: Store) -> None:
    cursors = await make_cursors(store, 5)
    await join(store, ALICE)
    await take(store, ALICE, cursors)
    step = partial(workers.leave, session_id=ALICE, limit=2)
    # Leaving once more succeeds: a worker may have been expired meanwhile.
    assert [await store.write(step) for _ in range(4)] == [False, False, True, True]
    assert [owner for owner, _ in await owners(store)] == [None] * 5
    assert await members(store) == {}


async def test_no_claim_happens_between_expiry_and_deletion_of_a_worker(store: Store) -> None:
    """A claim of a worker that hung is released again, or takes nothing."""
    cursors = await make_cursors(store, 8)
    await join(store, ALICE)

    async def claim_one(cursor: CursorKey) -> None:
        with suppress(workers.MayNotClaim):
            await store.write(partial(workers.claim_cursors, session_id=ALICE, cursors=[cursor]))

    async def expire_worker() -> None:
        await store.write(partial(workers.expire_worker, session_id=ALICE, known_dead=True))
        while await store.write(partial(workers.release_cursors, dead=ALICE, limit=3)):
            pass
        await store.write(partial(workers.delete, session_id=ALICE))

    claims = [claim_one(cursor) for cursor in cursors]
    await asyncio.gather(*claims[:4], expire_worker(), *claims[4:])
    assert [owner for owner, _ in await owners(store)] == [None] * 8
    assert await members(store) == {}


async def test_owners_without_a_row_are_found_in_order(store: Store) -> None:
    cursors = await make_cursors(store, 4)
    await join(store, BOB)
    for owner, cursor in zip((ALICE, BOB, CHARLIE), cursors, strict=False):
        await take(store, owner, [cursor])
    found = [await store.read(partial(workers.missing_owner_after, session_id=after)) for after in (0, ALICE, CHARLIE)]
    assert found == [ALICE, CHARLIE, None]
    assert await store.write(partial(workers.release_cursors, dead=CHARLIE, limit=EVERYTHING)) == 1
    assert [owner for owner, _ in await owners(store)] == [ALICE, BOB, None, None]
