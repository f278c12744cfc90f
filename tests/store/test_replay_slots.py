"""Replay slots: three for each organization, however many workers take them at once."""

import asyncio
from functools import partial

from discue.store import organizations, replays, workers
from discue.store.replays import REPLAYS_AT_ONCE
from discue.store.store import Store
from tests.store.rows import an_organization, row_id

OURS, THEIRS = row_id(1), row_id(2)
ALICE, BOB, CHARLIE, DORA = 11, 12, 13, 14


async def _join(store: Store, *session_ids: int) -> None:
    """Start workers in an installation with two organizations."""
    for number in (1, 2):
        await store.write(partial(organizations.insert, organization=an_organization(number)))
    for each in session_ids:
        await store.write(partial(workers.join, session_id=each, role="all", lease_ms=60_000))


async def _hold(store: Store, session_id: int, count: int, organization: int = OURS) -> int:
    return await store.write(partial(replays.hold_slots, session_id=session_id, organization=organization, count=count))


async def _owners(store: Store) -> list[int]:
    sql = "SELECT owner FROM replay_slot WHERE organization = $1 ORDER BY number"
    return [row[0] for row in await store.read(lambda tx: tx.rows(sql, OURS))]


async def test_workers_hold_three_slots_of_an_organization_together(store: Store) -> None:
    await _join(store, ALICE, BOB)
    assert await _hold(store, ALICE, 2) == 2
    assert await _hold(store, BOB, 2) == 1
    assert await _hold(store, ALICE, 3) == 2
    assert await _hold(store, BOB, 1, THEIRS) == 1
    assert await _owners(store) == [ALICE, ALICE, BOB]


async def test_slot_that_is_given_up_is_free_for_another_worker(store: Store) -> None:
    await _join(store, ALICE, BOB)
    assert await _hold(store, ALICE, 3) == 3
    assert await _hold(store, BOB, 1) == 0
    assert await _hold(store, ALICE, 1) == 1
    assert await _hold(store, BOB, 3) == 2
    assert await _hold(store, ALICE, 0) == 0
    assert await _owners(store) == [BOB, BOB]


async def test_slot_is_free_unless_living_workers_hold_all_three(store: Store) -> None:
    await _join(store, ALICE, BOB)

    async def has_free() -> bool:
        return await store.read(partial(replays.has_free_slot, organization=OURS))

    assert await has_free()
    await _hold(store, ALICE, 2)
    await _hold(store, BOB, 3, THEIRS)
    assert await has_free()
    await _hold(store, BOB, 1)
    assert not await has_free()
    await store.write(lambda tx: tx.execute("UPDATE worker SET dead = 1 WHERE session_id = $1", BOB))
    assert await has_free()


async def test_slots_of_dead_and_unknown_workers_are_free(store: Store) -> None:
    await _join(store, ALICE, BOB, CHARLIE)
    assert [await _hold(store, each, 1) for each in (ALICE, BOB, DORA)] == [1, 1, 1]
    assert await store.write(partial(workers.expire_worker, session_id=ALICE, known_dead=True))
    assert await _hold(store, CHARLIE, 3) == 2
    assert await _owners(store) == [CHARLIE, BOB, CHARLIE]
    assert await store.write(partial(workers.leave, session_id=BOB, limit=1))
    assert await _hold(store, CHARLIE, 3) == 3


async def test_session_takes_no_slot_of_a_deleted_organization(store: Store) -> None:
    await _join(store, ALICE)
    assert await _hold(store, ALICE, 1) == 1
    await store.write(partial(organizations.mark_deleted, organization=OURS, now=1))
    assert await _hold(store, ALICE, 3) == 1
    assert await _hold(store, ALICE, 0) == 0
    assert await _owners(store) == []


async def test_workers_that_take_slots_at_once_hold_three_together(store: Store) -> None:
    sessions = (ALICE, BOB, CHARLIE, DORA)
    await _join(store, *sessions)
    for round_number in range(20):
        # In every other round, the slots have owners that are gone.
        if round_number % 2:
            await _hold(store, 1_000 + round_number, REPLAYS_AT_ONCE)
        held = await asyncio.gather(*(_hold(store, each, REPLAYS_AT_ONCE) for each in sessions))
        assert sum(held) == REPLAYS_AT_ONCE
        assert sorted(await _owners(store)) == sorted(
            session for session, count in zip(sessions, held, strict=True) for _ in range(count)
        )
        await asyncio.gather(*(_hold(store, each, 0) for each in sessions))
        assert await _owners(store) == []
