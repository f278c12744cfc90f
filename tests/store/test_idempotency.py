"""An idempotency key is kept in the very commit of what it was used for: both stand, or neither does."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.model import Queue
from discue.store import idempotency, queues
from discue.store.commit import Store
from discue.store.engine import (
    AlreadyDone,
    Append,
    Appended,
    Batch,
    NewEntry,
    Once,
    QueueClosed,
    StaleConfiguration,
    Transaction,
    UniqueViolation,
)
from discue.store.idempotency import Kept
from tests.clocks import NOON
from tests.store.rows import public_id, row_id, stored_queue
from tests.stores import ENGINES, WAITING_BYTES, another, opened_store

OURS, THEIRS = row_id(1), row_id(2)
KEY = (-5, 7)
ONCE = Once(KEY, b"fingerprint", b"content")
TOGETHER = 8


@pytest.fixture(params=sorted(ENGINES))
def stores(request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """Two on one database, as two workers have it."""
    with opened_store(runner, request.param, tmp_path, _tolerate) as first:
        engine = another(first.engine)
        engine._report = _tolerate  # type: ignore[attr-defined]
        runner.run(engine.open())
        yield first, Store(engine, max_waiting_bytes=WAITING_BYTES)
        runner.run(engine.close())


def _tolerate(_place: str, _error: BaseException) -> None:
    """That one key was kept by two at once is told, as whatever splits a batch."""


def an_append(queue: Queue, number: int, once: Once | None = ONCE, *, count: int = 1, version: int = 1) -> Append:
    entries = tuple(NewEntry(public_id(number + index), True, b"{}") for index in range(count))
    return Append(queue.organization, queue.id, version, NOON + number, entries, once)


async def committed(store: Store, *appends: Append) -> list[Appended | Exception]:
    return list((await store.engine.commit(Batch(appends=appends))).appends)


async def kept(store: Store, organization: int = OURS, key: tuple[int, int] = KEY) -> Kept | None:
    return await store.read(lambda tx: idempotency.kept(tx, organization, key))


async def seqs(store: Store, queue: Queue) -> list[int]:
    return [entry.seq for entry in (await store.page(queue.organization, queue.id, 0, 100, 1 << 20)).entries]


async def test_a_key_is_kept_with_what_it_was_used_for_and_the_time_of_that(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    await committed(store, an_append(queue, 200, None))
    [answer] = await committed(store, an_append(queue, 100))
    assert isinstance(answer, Appended)
    assert answer.entries[0].stored_at == NOON + 200
    assert await kept(store) == Kept(b"fingerprint", b"content", NOON + 200)
    assert await seqs(store, queue) == [1, 2]


async def test_a_key_that_is_kept_stores_nothing_and_its_neighbours_are_stored(store: Store) -> None:
    queue, other = [await stored_queue(store, OURS, number) for number in (10, 11)]
    await committed(store, an_append(queue, 100, count=3))
    answers = await committed(
        store,
        an_append(other, 200, None),
        an_append(queue, 201),
        an_append(other, 202, Once((8, 8), b"f", b"c")),
        an_append(queue, 203, None),
    )
    assert [type(answer) for answer in answers] == [Appended, AlreadyDone, Appended, Appended]
    assert await seqs(store, queue) == [1, 2, 3, 4]
    assert await seqs(store, other) == [1, 2]
    assert await kept(store) == Kept(b"fingerprint", b"content", NOON + 100)


async def test_of_two_in_one_commit_the_first_is_stored(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    answers = await committed(store, an_append(queue, 100), an_append(queue, 101))
    assert [type(answer) for answer in answers] == [Appended, AlreadyDone]
    assert await seqs(store, queue) == [1]


async def test_every_organization_has_keys_of_its_own(store: Store) -> None:
    ours, theirs = await stored_queue(store, OURS, 10), await stored_queue(store, THEIRS, 11)
    answers = await committed(store, an_append(ours, 100), an_append(theirs, 101))
    assert [type(answer) for answer in answers] == [Appended, Appended]
    assert await kept(store, THEIRS) == Kept(b"fingerprint", b"content", NOON + 101)


async def test_what_is_not_stored_keeps_no_key(store: Store) -> None:
    queue, closed = [await stored_queue(store, OURS, number) for number in (10, 11)]
    await store.write(lambda tx: queues.mark_deleted(tx, OURS, closed.id, NOON))
    answers = await committed(store, an_append(queue, 100, version=2), an_append(closed, 101, Once((1, 1), b"", b"")))
    assert [type(answer) for answer in answers] == [StaleConfiguration, QueueClosed]
    assert [await kept(store), await kept(store, key=(1, 1))] == [None, None]
    [answer] = await committed(store, an_append(queue, 102))
    assert isinstance(answer, Appended)


async def test_many_keys_go_with_one_commit(store: Store) -> None:
    made = [await stored_queue(store, OURS, number) for number in range(10, 14)]
    appends = [an_append(made[number % 4], 100 + number, Once((number, -number), b"f", b"c")) for number in range(70)]
    assert {type(answer) for answer in await committed(store, *appends)} == {Appended}
    again = [an_append(made[number % 4], 300 + number, Once((number, -number), b"f", b"c")) for number in range(70)]
    assert {type(answer) for answer in await committed(store, *again)} == {AlreadyDone}


async def test_a_work_that_meets_its_key_is_told_so(store: Store) -> None:
    async def keep(tx: Transaction) -> bool:
        return await idempotency.keep(tx, OURS, ONCE, NOON)

    assert await store.write(keep)
    assert not await store.write(keep)
    assert await store.write(lambda tx: idempotency.keep(tx, THEIRS, ONCE, NOON))


async def test_keys_are_forgotten_from_the_oldest_in_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "FORGOTTEN_A_STEP", 2)
    for number in range(4):
        once = Once((number, 0), b"", b"")
        await store.write(lambda tx, once=once: idempotency.keep(tx, OURS, once, NOON + once.key[0]))  # type: ignore[misc]
    counts = [await store.write(lambda tx: idempotency.forget(tx, NOON + 3)) for _ in range(3)]
    assert counts == [2, 1, 0]
    assert [await kept(store, key=(number, 0)) is not None for number in range(4)] == [False, False, False, True]


async def test_of_many_that_append_with_one_key_in_two_workers_one_is_stored(stores: tuple[Store, Store]) -> None:
    queue = await stored_queue(stores[0], OURS, 10)
    answers = await asyncio.gather(
        *(stores[number % 2].append(an_append(queue, 100 + number)) for number in range(TOGETHER)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers].count(Appended) == 1
    assert {type(answer) for answer in answers} <= {Appended, AlreadyDone, UniqueViolation}
    assert await seqs(stores[0], queue) == [1]


async def test_keys_that_two_workers_keep_in_opposite_orders_stand_each_once(stores: tuple[Store, Store]) -> None:
    made = [await stored_queue(stores[0], OURS, number) for number in range(10, 14)]
    onces = [Once((number, 0), b"", b"") for number in range(4)]

    def appends(first: int, step: int) -> list[Append]:
        return [an_append(made[(first + number) % 4], first + number, onces[::step][number]) for number in range(4)]

    batches = await asyncio.gather(
        stores[0].engine.commit(Batch(appends=appends(100, 1))),
        stores[1].engine.commit(Batch(appends=appends(200, -1))),
    )
    answers = [type(answer) for batch in batches for answer in batch.appends]
    assert answers.count(Appended) == 4
    assert set(answers) <= {Appended, AlreadyDone, UniqueViolation}
