import asyncio
from functools import partial

import pytest

from discue.domain.lockout import FAILURES, FAILURES_OF, FIRST_LOCK_MS, Lockout, LockoutSubject
from discue.store import api_keys, feed, lockouts, organizations
from discue.store.engine import Transaction
from discue.store.events import Occurrence
from discue.store.lockouts import FailureOutcome
from discue.store.store import Store
from tests.store.rows import a_key, an_organization, public_id, row_id
from tests.support.clocks import NOON

UNKNOWN = LockoutSubject.unknown_key("192.0.2.1")
KEY = LockoutSubject.api_key(public_id(7), "192.0.2.1")
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
    for _ in range(FAILURES_OF.get(subject.kind, FAILURES) - 1):
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
    counted = [await fail(store, UNKNOWN, NOON + number) for number in range(FAILURES)]
    assert [each.begins for each in counted] == [False] * (FAILURES - 1) + [True]
    until = NOON + FAILURES - 1 + FIRST_LOCK_MS
    assert counted[-1].failures.locked_until == until
    assert await active(store) == [Lockout(UNKNOWN, until)]
    assert await changes(store) == [("lockout", UNKNOWN.number)]


async def test_an_attempt_that_comes_too_late_counts_no_more(store: Store) -> None:
    until = await lock(store, UNKNOWN)
    counted = await fail(store, UNKNOWN, NOON + 1)
    assert counted == FailureOutcome(counted.failures, begins=False, too_late=True)
    assert counted.failures.locked_until == until
    assert (await fail(store, UNKNOWN, until)).failures.failed_at == (until,)


async def test_lock_of_a_key_is_an_event_of_its_organization_and_others_of_the_operator(store: Store) -> None:
    await lock(store, KEY, number=100)
    await lock(store, UNKNOWN, number=101)
    assert await events_of(store, TENANT) == [("lockout", public_id(7), "key-7")]
    await lock(store, LockoutSubject.sign_in("192.0.2.1"), number=102)
    assert await events_of(store, OPERATOR) == [
        ("lockout", "", "192.0.2.1"),
        ("lockout", "", "sign-in from 192.0.2.1"),
    ]


async def test_lock_of_a_deleted_key_is_not_an_event(store: Store) -> None:
    assert await store.write(lambda tx: api_keys.delete(tx, TENANT, row_id(7)))
    await lock(store, KEY)
    assert len(await active(store)) == 1
    assert [await events_of(store, organization) for organization in (TENANT, OPERATOR)] == [[], []]


@pytest.mark.parametrize("subject", [KEY, UNKNOWN], ids=["key", "unknown keys"])
async def test_at_most_ten_active_locks_of_a_key_or_of_unknown_keys_are_events(
    store: Store, subject: LockoutSubject
) -> None:
    organization = TENANT if subject is KEY else OPERATOR
    ends = [
        await lock(store, subject._replace(address=f"198.51.100.{number}"), number=100 + number) for number in range(12)
    ]
    assert len(await events_of(store, organization)) == 10
    assert len(await active(store, limit=20)) == 12
    await lock(store, subject, max(ends), number=120)
    assert len(await events_of(store, organization)) == 11


async def test_subjects_of_a_key_or_an_address_are_found_until_they_are_released(store: Store) -> None:
    elsewhere = KEY._replace(address="192.0.2.2")
    sign_in = LockoutSubject.sign_in("192.0.2.1")
    until = await lock(store, KEY)
    for subject in (elsewhere, UNKNOWN, sign_in):
        await fail(store, subject)

    async def of_name() -> set[Lockout]:
        return set(await store.read(partial(lockouts.of_name, kind="api_key", name=KEY.name, limit=10)))

    async def of_address() -> set[Lockout]:
        return set(await store.read(partial(lockouts.of_address, address="192.0.2.1", limit=10)))

    assert await of_name() == {Lockout(KEY, until), Lockout(elsewhere, 0)}
    assert await of_address() == {Lockout(KEY, until), Lockout(UNKNOWN, 0), Lockout(sign_in, 0)}
    assert len(await store.read(partial(lockouts.of_address, address="192.0.2.1", limit=2))) == 2
    for subject in (KEY, UNKNOWN):
        await store.write_exclusively(partial(lockouts.release, subject=subject))
    assert await of_name() == {Lockout(elsewhere, 0)}
    assert await of_address() == {Lockout(sign_in, 0)}


async def test_a_lock_is_recorded_before_there_is_an_organization(store: Store) -> None:
    async def nobody(tx: Transaction) -> None:
        await organizations.delete(tx, OPERATOR)

    await store.write(nobody)
    await lock(store, UNKNOWN)
    assert len(await active(store)) == 1


async def test_released_subject_starts_without_failures(store: Store) -> None:
    await lock(store, UNKNOWN)
    assert await store.write_exclusively(partial(lockouts.release, subject=UNKNOWN))
    assert await active(store) == []
    assert await store.read(partial(lockouts.locks_of, numbers=[UNKNOWN.number])) == [Lockout(UNKNOWN, 0)]
    assert await changes(store) == [("lockout", UNKNOWN.number)] * 2
    assert (await fail(store, UNKNOWN)).failures.failed_at == (NOON,)
    assert not await store.write_exclusively(partial(lockouts.release, subject=KEY))


async def test_active_are_those_that_hold_the_longest_ones_first(store: Store) -> None:
    first = await lock(store, UNKNOWN, NOON, number=100)
    second = await lock(store, KEY, NOON + 5_000, number=101)
    assert [each.subject for each in await active(store)] == [KEY, UNKNOWN]
    assert [each.subject for each in await active(store, limit=1)] == [KEY]
    assert [each.subject for each in await active(store, first)] == [KEY]
    assert await active(store, second) == []


async def test_old_failures_are_forgotten_in_steps(store: Store) -> None:
    for number, at in enumerate((NOON, NOON + 1, NOON + 2)):
        await fail(store, LockoutSubject.unknown_key(f"192.0.2.{number}"), at)
    assert await store.write(partial(lockouts.delete_old, failed_before=NOON + 2)) == 2
    assert await store.write(partial(lockouts.delete_old, failed_before=NOON + 2)) == 0
    assert (await fail(store, LockoutSubject.unknown_key("192.0.2.2"), NOON + 3)).failures.failed_at == (
        NOON + 2,
        NOON + 3,
    )
