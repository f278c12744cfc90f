import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from discue.auth.authenticator import Authenticator
from discue.auth.control_plane_cache import KeyRecord, KeyRejected
from discue.control import api_keys, organizations
from discue.control.api_keys import KeyFields
from discue.domain import api_key
from discue.domain.errors import DiscueError, Locked, LockedOut, Overloaded
from discue.domain.ids import ALPHABET
from discue.domain.lockout import FAILURES, FIRST_LOCK_MS
from discue.domain.scopes import Scope
from discue.observability.logs import Log
from discue.store.engine import Row, Value
from tests.support.cast import Cast, control_of

HOME, ELSEWHERE = "192.0.2.1", "192.0.2.2"
UNKNOWN_KEY = "dsk_" + "0" * 53
CHECKS_AT_ONCE = 3
MOST_CHECKS = 4_096


class Worker:
    """A worker on a shared database, with its cache and its authenticator."""

    def __init__(self, cast: Cast, slot: int) -> None:
        self.control = control_of(cast.control.store, cast.clock)
        self.control.row_ids.slot = slot
        self.cache = self.control.cache
        self.authenticator = Authenticator(self.control.store, self.cache, cast.clock, self.control.row_ids, log=Log())

    async def hear(self) -> None:
        """Look at the database, as a worker does once a second."""
        polled = await self.control.store.engine.poll(())
        await self.cache.saw(polled.epoch, polled.feed_version)

    async def authenticate(self, key: str, address: str) -> KeyRecord:
        return self.authenticator.known(key, address) or await self.authenticator.check(key, address)

    async def asked(self, key: str, address: str = HOME) -> KeyRecord | type[DiscueError]:
        """Return the principal of a key, or the error that refuses it."""
        try:
            return await self.authenticate(key, address)
        except DiscueError as error:
            return type(error)

    async def fail(self, key: str, address: str = HOME, times: int = FAILURES) -> None:
        for _ in range(times):
            assert await self.asked(key, address) is KeyRejected


@pytest.fixture
def here(cast: Cast, runner: asyncio.Runner) -> Worker:
    worker = Worker(cast, 1)
    runner.run(worker.cache.open())
    return worker


@pytest.fixture
def there(cast: Cast, runner: asyncio.Runner) -> Worker:
    worker = Worker(cast, 2)
    runner.run(worker.cache.open())
    return worker


def wrong(key: str) -> str:
    return key[:-1] + ("0" if key[-1] != "0" else "1")


async def let_in(worker: Worker, key: str, address: str = HOME) -> bool:
    return isinstance(await worker.asked(key, address), KeyRecord)


@pytest.mark.parametrize("key", ["dsk_", "wrong", "dsk_" + "!" * 53, UNKNOWN_KEY, "dsk_" + "é" * 53, "dsk_\ud800"])
async def test_five_failures_lock_out_unknown_keys_only(cast: Cast, here: Worker, key: str) -> None:
    await here.fail(key)
    for locked in (key, UNKNOWN_KEY, "another"):
        assert await here.asked(locked) is LockedOut
    assert await let_in(here, cast.alice.key)
    assert await here.asked(wrong(cast.alice.key)) is KeyRejected
    assert await here.asked(key, ELSEWHERE) is KeyRejected


async def test_uncached_key_is_accepted_while_unknown_keys_are_locked_out(
    cast: Cast, here: Worker, there: Worker
) -> None:
    await here.fail(UNKNOWN_KEY)
    created = await cast.bob({"queues": Scope("write")})
    await there.hear()
    for worker in (here, there):
        assert await worker.asked(UNKNOWN_KEY) is LockedOut
        assert await let_in(worker, created.key)


async def test_deleted_key_in_use_locks_out_no_valid_key(cast: Cast, here: Worker) -> None:
    deleted = await cast.bob({"queues": Scope("write")})
    assert await let_in(here, deleted.key)
    await api_keys.delete(cast.control, cast.alice.principal, deleted.principal.key_public_id)
    await here.hear()
    await here.fail(deleted.key)
    for _ in range(10 * FAILURES):
        assert await here.asked(deleted.key) is LockedOut
        assert await let_in(here, cast.alice.key)


async def test_lockout_has_a_retry_after_and_ends(cast: Cast, here: Worker) -> None:
    await here.fail(wrong(cast.alice.key))
    cast.clock.advance(500)
    with pytest.raises(LockedOut) as locked:
        await here.authenticate(cast.alice.key, HOME)
    assert (locked.value.status, locked.value.retry_after_seconds) == (403, 60)
    cast.clock.advance(FIRST_LOCK_MS - 501)
    with pytest.raises(LockedOut) as locked:
        await here.authenticate(cast.alice.key, HOME)
    assert locked.value.retry_after_seconds == 1
    cast.clock.advance(1)
    assert await let_in(here, cast.alice.key)


@pytest.mark.parametrize("is_known", [True, False])
async def test_lockout_doubles_while_failures_continue(cast: Cast, here: Worker, *, is_known: bool) -> None:
    lasted = []
    for _ in range(6):
        await here.fail(wrong(cast.alice.key) if is_known else UNKNOWN_KEY)
        with pytest.raises(LockedOut) as locked:
            await here.authenticate(cast.alice.key if is_known else UNKNOWN_KEY, HOME)
        seconds = locked.value.retry_after_seconds
        assert seconds is not None
        lasted.append(seconds)
        cast.clock.advance(seconds * 1_000)
    assert lasted == [60, 120, 240, 480, 900, 900]


async def test_wrong_secrets_lock_out_one_key_at_one_address(cast: Cast, here: Worker) -> None:
    await here.fail(wrong(cast.alice.key))
    for key in (cast.alice.key, wrong(cast.alice.key)):
        assert await here.asked(key) is LockedOut
    assert await let_in(here, cast.charlie.key)
    assert await let_in(here, cast.alice.key, ELSEWHERE)


async def test_wrong_secrets_from_many_addresses_do_not_lock_out_the_owner(cast: Cast, here: Worker) -> None:
    for number in range(3 * FAILURES):
        await here.fail(wrong(cast.alice.key), f"198.51.100.{number}")
        assert await let_in(here, cast.alice.key)


async def test_owner_does_not_wait_for_checks_of_wrong_secrets_from_other_addresses(
    cast: Cast, here: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The strangers' checks hang until the owner is accepted."""
    authenticate, may_end = here.cache.authenticate, asyncio.Event()

    async def delayed(presented: str) -> KeyRecord:
        if presented != cast.alice.key:
            await may_end.wait()
        return await authenticate(presented)

    monkeypatch.setattr(here.cache, "authenticate", delayed)
    guesses = [
        asyncio.ensure_future(here.asked(wrong(cast.alice.key), f"198.51.100.{number}"))
        for number in range(3 * CHECKS_AT_ONCE)
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        assert await let_in(here, cast.alice.key)
    may_end.set()
    assert set(await asyncio.gather(*guesses)) == {KeyRejected}


async def test_failures_of_existing_and_unknown_keys_count_separately(cast: Cast, here: Worker) -> None:
    await here.fail(wrong(cast.alice.key), times=FAILURES - 1)
    await here.fail(wrong(cast.charlie.key), times=FAILURES - 1)
    await here.fail(UNKNOWN_KEY, times=FAILURES - 1)
    assert await let_in(here, cast.alice.key)
    await here.fail(wrong(cast.alice.key), times=1)
    assert await here.asked(cast.alice.key) is LockedOut
    assert await let_in(here, cast.charlie.key)
    assert await here.asked(UNKNOWN_KEY) is KeyRejected


@pytest.mark.parametrize("is_known", [True, False])
async def test_ipv6_64_network_is_one_address(cast: Cast, here: Worker, *, is_known: bool) -> None:
    key = wrong(cast.alice.key) if is_known else UNKNOWN_KEY
    for number in range(FAILURES):
        await here.fail(key, f"2001:db8::{number + 1}", times=1)
    assert await here.asked(key, "2001:db8::ffff") is LockedOut
    assert await here.asked(key, "2001:db8:0:1::1") is KeyRejected


async def test_success_does_not_reset_the_failure_count(cast: Cast, here: Worker) -> None:
    for _ in range(FAILURES):
        assert await let_in(here, cast.alice.key)
        await here.fail(wrong(cast.alice.key), times=1)
    assert await here.asked(cast.alice.key) is LockedOut


async def test_attempt_during_a_lockout_writes_nothing(
    cast: Cast, here: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.fail(UNKNOWN_KEY)
    await here.fail(wrong(cast.alice.key))

    async def fails(work: object) -> None:
        raise AssertionError(work)

    monkeypatch.setattr(cast.control.store, "write_exclusively", fails)
    for key in (UNKNOWN_KEY, wrong(cast.alice.key), cast.alice.key):
        assert await here.asked(key) is LockedOut


async def test_locked_out_key_is_refused_without_reading_it(
    cast: Cast, here: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the time of the response would reveal whether the secret is right."""
    await here.fail(wrong(cast.alice.key))

    async def fails(work: object) -> None:
        raise AssertionError(work)

    monkeypatch.setattr(cast.control.store, "read", fails)
    for key in (wrong(cast.alice.key), cast.alice.key):
        assert await here.asked(key) is LockedOut


async def test_flood_from_one_address_leaves_room_for_checks_of_others(
    cast: Cast, here: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticate, may_end = here.cache.authenticate, asyncio.Event()

    async def delayed(presented: str) -> KeyRecord:
        if presented == UNKNOWN_KEY:
            await may_end.wait()
        return await authenticate(presented)

    monkeypatch.setattr(here.cache, "authenticate", delayed)
    flood = [asyncio.ensure_future(here.asked(UNKNOWN_KEY)) for _ in range(MOST_CHECKS)]
    await asyncio.sleep(0)
    assert await let_in(here, cast.alice.key, ELSEWHERE)
    may_end.set()
    answers = await asyncio.gather(*flood)
    assert answers.count(Overloaded) == MOST_CHECKS - MOST_CHECKS // 4
    assert len(here.authenticator._semaphore) == 0


async def test_disabled_or_expired_key_is_rejected_without_counting(cast: Cast, here: Worker) -> None:
    disabled, expired = await cast.bob({"queues": Scope("write")}), await cast.bob({"queues": Scope("write")})
    alias = "com.example.alice"
    await api_keys.change_for(cast.control, alias, disabled.principal.key_public_id, "disabled")
    fields = KeyFields(expires_at=cast.clock.now() + 1)
    await api_keys.change(cast.control, cast.alice.principal, expired.principal.key_public_id, fields)
    cast.clock.advance(2)
    for person in (disabled, expired):
        await here.fail(person.key, times=3 * FAILURES)
    assert await let_in(here, cast.alice.key)


async def test_suspended_organization_is_rejected_without_counting(cast: Cast, here: Worker) -> None:
    await organizations.set_state(cast.control, "com.example.alice", "suspended")
    await here.hear()
    for _ in range(3 * FAILURES):
        assert await here.asked(cast.alice.key) is Locked
    assert await let_in(here, cast.charlie.key)


@pytest.mark.parametrize("is_known", [True, False])
async def test_lockout_by_one_worker_reaches_the_others(
    cast: Cast, here: Worker, there: Worker, *, is_known: bool
) -> None:
    assert await let_in(there, cast.alice.key)
    key = wrong(cast.alice.key) if is_known else UNKNOWN_KEY
    await here.fail(key)
    await there.hear()
    assert await there.asked(key) is LockedOut
    assert await let_in(there, cast.alice.key) == (not is_known)
    assert await let_in(there, cast.alice.key, ELSEWHERE)


@pytest.mark.parametrize("is_known", [True, False])
async def test_failures_at_all_workers_count_together(
    cast: Cast, here: Worker, there: Worker, *, is_known: bool
) -> None:
    key = wrong(cast.alice.key) if is_known else UNKNOWN_KEY
    for number in range(FAILURES):
        await (here, there)[number % 2].fail(key, times=1)
    # `here` has started the lockout; `there` learns of it when it counts one more failure.
    assert await there.asked(key) is LockedOut
    assert await here.asked(key) is LockedOut


async def test_starting_worker_knows_active_lockouts(cast: Cast, here: Worker) -> None:
    await here.fail(wrong(cast.alice.key))
    late = Worker(cast, 3)
    await late.cache.open()
    assert await late.asked(cast.alice.key) is LockedOut
    cast.clock.advance(FIRST_LOCK_MS)
    later = Worker(cast, 4)
    await later.cache.open()
    assert not later.cache.locks.until


async def test_worker_knows_active_lockouts_after_a_reset(cast: Cast, here: Worker, there: Worker) -> None:
    await here.fail(wrong(cast.alice.key))
    await there.cache.reset()
    assert await there.asked(cast.alice.key) is LockedOut


async def test_right_secret_that_waits_behind_wrong_ones_is_locked_out(cast: Cast, here: Worker) -> None:
    """Otherwise as many secrets as fit into the queue could be tried at once."""
    guesses = [wrong(cast.alice.key)] * (FAILURES + CHECKS_AT_ONCE)
    answers = await asyncio.gather(*(here.asked(key) for key in [*guesses, cast.alice.key]))
    assert answers[-1] is LockedOut


async def test_concurrent_requests_with_a_valid_key_are_all_accepted(cast: Cast, here: Worker) -> None:
    answers = await asyncio.gather(*(here.asked(cast.alice.key, f"192.0.2.{number}") for number in range(50)))
    assert all(isinstance(answer, KeyRecord) for answer in answers)


def guesses_near(key: str, dice: random.Random) -> str:
    """Return a key with one or two characters changed, added, removed or swapped."""
    characters = list(key)
    for _ in range(dice.randint(1, 2)):
        place, other = dice.randrange(len(characters)), dice.choice(ALPHABET + "_-é \0")
        change = dice.randrange(4)
        if change == 0:
            characters[place] = other
        elif change == 1:
            characters.insert(place, other)
        elif change == 2:
            del characters[place]
        else:
            characters[place], characters[-1] = characters[-1], characters[place]
    return "".join(characters)


def guesses_of(keys: list[str], dice: random.Random) -> Callable[[], str]:
    def guess() -> str:
        near = dice.random() < 0.7
        text = guesses_near(dice.choice(keys), dice) if near else "dsk_" + "".join(dice.choices(ALPHABET, k=53))
        return text if text not in keys else guess()

    return guess


async def test_random_and_near_miss_keys_are_never_accepted(cast: Cast, here: Worker) -> None:
    guess = guesses_of([cast.alice.key, cast.charlie.key, cast.olga.key], random.Random(7))  # noqa: S311
    for _ in range(2_000):
        with pytest.raises(KeyRejected):
            await here.cache.authenticate(guess())


async def test_client_that_guesses_keys_is_locked_out_after_five(cast: Cast, here: Worker) -> None:
    guess = guesses_of([cast.alice.key, cast.charlie.key], random.Random(11))  # noqa: S311
    answers = [await here.asked(guess()) for _ in range(2_000)]
    assert set(answers) == {KeyRejected, LockedOut}
    # Of the two keys that it is near to, and of unknown keys.
    assert answers.count(KeyRejected) <= 3 * FAILURES


class Recording:
    """A transaction that keeps what it is asked."""

    def __init__(self, tx: Any, statements: list[str]) -> None:
        self._tx = tx
        self.heads = tx.heads
        self._statements = statements

    async def row(self, sql: str, *values: Value) -> Row | None:
        self._statements.append(sql)
        row: Row | None = await self._tx.row(sql, *values)
        return row

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        self._statements.append(sql)
        rows: list[Row] = await self._tx.rows(sql, *values)
        return rows

    async def execute(self, sql: str, *values: Value) -> int:
        self._statements.append(sql)
        changed: int = await self._tx.execute(sql, *values)
        return changed

    async def exclusive(self) -> None:
        await self._tx.exclusive()

    async def end_sessions(self, session_id: int) -> None:
        await self._tx.end_sessions(session_id)


async def test_wrong_keys_of_every_kind_cost_equal_work(
    cast: Cast, here: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of wrong key runs equal statements and one comparison, and returns an equal error."""
    statements: list[str] = []
    compared: list[bytes] = []
    store, matches = cast.control.store, api_key.matches

    def recorded(run: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        return lambda work: run(lambda tx: work(Recording(tx, statements)))

    def counted(secret: str, secret_hash: bytes) -> bool:
        compared.append(secret_hash)
        return matches(secret, secret_hash)

    monkeypatch.setattr(store, "read", recorded(store.read))
    monkeypatch.setattr(store, "write", recorded(store.write))
    monkeypatch.setattr(api_key, "matches", counted)
    seen = []
    for key in ("malformed", UNKNOWN_KEY, wrong(cast.alice.key)):
        statements.clear()
        compared.clear()
        with pytest.raises(KeyRejected) as rejected:
            await here.authenticate(key, HOME)
        seen.append(([_table(sql) for sql in statements], len(compared), rejected.value.detail))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][1] == 1


def _table(sql: str) -> str:
    """Return the verb of a statement and its table."""
    verb, *words = sql.split()
    return f"{verb} {words[words.index('FROM' if verb == 'SELECT' else 'INTO') + 1]}"


@pytest.mark.parametrize("is_known", [True, False])
async def test_concurrent_attempts_hardly_exceed_the_limit(cast: Cast, here: Worker, *, is_known: bool) -> None:
    guesses = [wrong(cast.alice.key) if is_known else UNKNOWN_KEY] * 50
    answers = await asyncio.gather(*(here.asked(guess) for guess in guesses))
    assert FAILURES <= answers.count(KeyRejected) < FAILURES + CHECKS_AT_ONCE
    assert answers.count(LockedOut) == 50 - answers.count(KeyRejected)
    assert len(here.authenticator._semaphore) == 0
