import asyncio
from functools import partial

import pytest

from discue.domain.lockout import FAILURES, FIRST_LOCK_MS, Lockout, LockoutSubject
from discue.store import api_keys, feed, lockouts, organizations
from discue.store.engine import Transaction
from discue.store.events import Occurrence
from discue.store.lockouts import FailureOutcome
from discue.store.store import Store
from tests.store.rows import a_key, an_organization, public_id, row_id
from tests.support.clocks import NOON

ADDRESS = LockoutSubject("address", "192.0.2.1")
KEY = LockoutSubject("api_key", public_id(7))
OPERATOR, TENANT = row_id(2), row_id(1)


@pytest.fixture
def _organizations(runner: asyncio.Runner, store: Store) -> None:
    async def work(tx: Transaction) -> None:
        await organizations.insert(tx, an_organization(2, is_operator=True))
        await organizations.insert(tx, an_organization(1))
        await api_keys.insert(tx, a_key(TENANT, 7))

    runner.run(store.write(work))


pytestmark = pytest.mark.usefixtures("_organizations")


async def fail(store: Store, subject: LockoutSubject, now: int = NOON, *, number: int = 100) -> FailureOutcome:
    occurrence = Occurrence(row_id(number), "")
    return await store.write_exclusively(lambda tx: lockouts.count_failure(tx, subject, now, occurrence))


async def lock(store: Store, subject: LockoutSubject, now: int = NOON, *, number: int = 100) -> int:
    for _ in range(FAILURES - 1):
        await fail(store, subject, now, number=number)
    return (await fail(store, subject, now, number=number)).failures.locked_until


async def active(store: Store, now: int = NOON, limit: int = 10) -> list[Lockout]:
    return await store.read(lambda tx: lockouts.active(tx, now, limit))


async def changes(store: Store) -> list[tuple[str, int]]:
    return [(change.kind, change.ref) for change in await store.read(partial(feed.since, version=0, limit=100))]


async def events_of(store: Store, organization: int) -> list[tuple[str, str, str]]:
    sql = "SELECT kind, ref, name FROM event WHERE organization = $1"
    return [tuple(row) for row in await store.read(lambda tx: tx.rows(sql, organization))]


async def test_failures_add_up_to_a_lock_that_the_feed_tells_of(store: Store) -> None:
    counted = [await fail(store, ADDRESS, NOON + number) for number in range(FAILURES)]
    assert [each.begins for each in counted] == [False] * (FAILURES - 1) + [True]
    until = NOON + FAILURES - 1 + FIRST_LOCK_MS
    assert counted[-1].failures.locked_until == until
    assert await active(store) == [Lockout(ADDRESS, until)]
    assert await changes(store) == [("lockout", ADDRESS.number)]


async def test_an_attempt_that_comes_too_late_counts_no_more(store: Store) -> None:
    until = await lock(store, ADDRESS)
    counted = await fail(store, ADDRESS, NOON + 1)
    assert counted == FailureOutcome(counted.failures, begins=False, too_late=True)
    assert counted.failures.locked_until == until
    assert (await fail(store, ADDRESS, until)).failures.failed_at == (until,)


async def test_the_organization_of_a_key_hears_of_its_lock_and_the_operator_of_an_addresss(store: Store) -> None:
    await lock(store, KEY, number=100)
    await lock(store, ADDRESS, number=101)
    assert await events_of(store, TENANT) == [("lockout", public_id(7), "key-7")]
    assert await events_of(store, OPERATOR) == [("lockout", "", "192.0.2.1")]


async def test_the_operator_hears_of_a_key_that_is_gone(store: Store) -> None:
    assert await store.write(lambda tx: api_keys.delete(tx, TENANT, row_id(7)))
    await lock(store, KEY)
    assert await events_of(store, OPERATOR) == [("lockout", "", KEY.name)]


async def test_a_lock_is_recorded_before_there_is_an_organization(store: Store) -> None:
    async def nobody(tx: Transaction) -> None:
        await organizations.delete(tx, OPERATOR)

    await store.write(nobody)
    await lock(store, ADDRESS)
    assert len(await active(store)) == 1


async def test_released_subject_starts_without_failures(store: Store) -> None:
    await lock(store, ADDRESS)
    assert await store.write_exclusively(partial(lockouts.release, subject=ADDRESS))
    assert await active(store) == []
    assert await store.read(partial(lockouts.locks_of, numbers=[ADDRESS.number])) == [Lockout(ADDRESS, 0)]
    assert await changes(store) == [("lockout", ADDRESS.number)] * 2
    assert (await fail(store, ADDRESS)).failures.failed_at == (NOON,)
    assert not await store.write_exclusively(partial(lockouts.release, subject=KEY))


async def test_active_are_those_that_hold_the_longest_ones_first(store: Store) -> None:
    first = await lock(store, ADDRESS, NOON, number=100)
    second = await lock(store, KEY, NOON + 5_000, number=101)
    assert [each.subject for each in await active(store)] == [KEY, ADDRESS]
    assert [each.subject for each in await active(store, limit=1)] == [KEY]
    assert [each.subject for each in await active(store, first)] == [KEY]
    assert await active(store, second) == []


async def test_old_failures_are_forgotten_in_steps(store: Store) -> None:
    for number, at in enumerate((NOON, NOON + 1, NOON + 2)):
        await fail(store, LockoutSubject("address", f"192.0.2.{number}"), at)
    assert await store.write(partial(lockouts.delete_old, failed_before=NOON + 2)) == 2
    assert await store.write(partial(lockouts.delete_old, failed_before=NOON + 2)) == 0
    assert (await fail(store, LockoutSubject("address", "192.0.2.2"), NOON + 3)).failures.failed_at == (
        NOON + 2,
        NOON + 3,
    )
