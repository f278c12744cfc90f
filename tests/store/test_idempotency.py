"""An idempotency key is kept in the very commit of what it was used for: both stand, or neither does."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from discue.domain.model import Queue
from discue.domain.window import Interval
from discue.store import idempotency, queues, tallies
from discue.store.engine import (
    AlreadyDone,
    Append,
    Appended,
    Batch,
    IdempotencyRecord,
    QueueClosed,
    StaleConfiguration,
    Transaction,
)
from discue.store.idempotency import StoredResponse
from discue.store.store import Store
from tests.store import rows
from tests.store.rows import appended, row_id, stored_queue
from tests.support.clocks import NOON
from tests.support.stores import ENGINES, WAITING_BYTES, another, opened_store
from tests.support.tallied import drift

OURS, THEIRS = row_id(1), row_id(2)
KEY = (-5, 7)
ONCE = IdempotencyRecord(KEY, b"fingerprint", b"content", row_id(100))
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
    """Ignore the report of a batch that was split because two workers stored one key."""


def once_of(high: int, low: int = 0, content: bytes = b"c") -> IdempotencyRecord:
    return IdempotencyRecord((high, low), b"f", content, row_id(abs(high)) + (high < 0))


def an_append(
    queue: Queue, number: int, idempotency_record: IdempotencyRecord | None = ONCE, *, count: int = 1, version: int = 1
) -> Append:
    # Each request has an id of its own, also one that repeats another.
    record = None if idempotency_record is None else msgspec.structs.replace(idempotency_record, id=row_id(number))
    return rows.an_append(queue, number, count, now=NOON + number, version=version, record=record)


async def keep(store: Store, *onces: IdempotencyRecord) -> None:
    async def work(tx: Transaction) -> None:
        for idempotency_record in onces:
            assert await idempotency.store_key(tx, OURS, idempotency_record, NOON)

    await store.write(work)


async def kept(store: Store, organization: int = OURS, key: tuple[int, int] = KEY) -> StoredResponse | None:
    return await store.read(lambda tx: idempotency.read_response(tx, organization, key))


async def seqs(store: Store, queue: Queue) -> list[int]:
    return [entry.seq for entry in (await store.page(queue.organization, queue.id, 0, 100, max_bytes=1 << 20)).entries]


async def test_idempotency_key_is_stored_with_its_request_and_time(store: Store, queue: Queue) -> None:
    await appended(store, an_append(queue, 200, None))
    [answer] = await appended(store, an_append(queue, 100))
    assert isinstance(answer, Appended)
    assert answer.entries[0].stored_at == NOON + 200
    assert await kept(store) == StoredResponse(b"fingerprint", b"content", NOON + 200)
    assert await seqs(store, queue) == [1, 2]


async def test_key_that_shares_half_of_its_hash_with_another_is_unknown(store: Store, queue: Queue) -> None:
    await appended(store, an_append(queue, 100, once_of(5, 1)))
    assert await kept(store, key=(5, 2)) is None
    assert [type(answer) for answer in await appended(store, an_append(queue, 200, once_of(5, 2)))] == [AlreadyDone]


async def test_append_that_is_not_stored_stores_no_key(store: Store) -> None:
    queue, closed = [await stored_queue(store, OURS, number) for number in (10, 11)]
    await store.write(lambda tx: queues.mark_deleted(tx, OURS, closed.id, NOON))
    answers = await appended(store, an_append(queue, 100, version=2), an_append(closed, 101, once_of(1, 1)))
    assert [type(answer) for answer in answers] == [StaleConfiguration, QueueClosed]
    assert [await kept(store), await kept(store, key=(1, 1))] == [None, None]
    [answer] = await appended(store, an_append(queue, 102))
    assert isinstance(answer, Appended)


async def test_responses_of_one_queue_share_rows(store: Store, queue: Queue) -> None:
    large = [once_of(number, content=bytes([number]) * 40_000) for number in range(100, 103)]
    small = [once_of(number, content=bytes([number])) for number in range(100)]
    await appended(
        store,
        *(
            an_append(queue, 200 + idempotency_record.key[0], idempotency_record)
            for idempotency_record in (*small, *large)
        ),
    )
    assert await store.read(lambda tx: tx.rows("SELECT count(*) FROM idempotency_response")) == [(4,)]
    for idempotency_record in (*small, *large):
        assert await kept(store, key=idempotency_record.key) == StoredResponse(
            b"f", idempotency_record.content, NOON + 302
        )
    assert await store.read(drift) == {}


async def test_repeated_keys_are_recognised_among_new_ones(store: Store, queue: Queue) -> None:
    await appended(store, *(an_append(queue, 100 + number, once_of(number)) for number in (0, 3)))
    appends = [an_append(queue, 200 + number, once_of(number)) for number in range(5)]
    expected = [AlreadyDone, Appended, Appended, AlreadyDone, Appended]
    assert [type(answer) for answer in await appended(store, *appends)] == expected
    assert await seqs(store, queue) == [1, 2, 3, 4, 5]
    stored_at = [found.stored_at - NOON for number in range(5) if (found := await kept(store, key=(number, 0)))]
    assert stored_at == [103, 204, 204, 103, 204]


async def test_work_does_not_store_a_key_twice(store: Store) -> None:
    async def work(tx: Transaction) -> bool:
        return await idempotency.store_key(tx, OURS, ONCE, NOON)

    assert await store.write(work)
    assert not await store.write(work)
    assert await kept(store) == StoredResponse(b"fingerprint", b"content", NOON)


async def test_old_keys_are_deleted_in_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "SCANNED_KEYS", 2)
    await keep(store, *map(once_of, range(-3, 4)))
    left: Interval | None = (-2, 3)
    steps = []
    while left is not None:
        left = await store.write(partial(idempotency.delete_old_keys, interval=left, kept_before=NOON + 3))
        steps.append(left)
    assert steps == [(0, 3), (2, 3), None]
    assert [number for number in range(-3, 4) if await kept(store, key=(number, 0))] == [-3, 3]


async def test_old_responses_are_deleted_in_steps_oldest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "RESPONSE_ROWS_PER_STEP", 2)
    await keep(store, *map(once_of, range(4)))
    counts = [await store.write(lambda tx: idempotency.delete_old_responses(tx, OURS, NOON + 3)) for _ in range(3)]
    assert counts == [2, 1, 0]
    assert [await kept(store, key=(number, 0)) is not None for number in range(4)] == [False, False, False, True]


async def test_one_of_many_appends_with_one_key_in_two_workers_is_stored(stores: tuple[Store, Store]) -> None:
    queue = await stored_queue(stores[0], OURS, 10)
    answers = await asyncio.gather(
        *(stores[number % 2].append(an_append(queue, 100 + number)) for number in range(TOGETHER)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers].count(Appended) == 1
    assert {type(answer) for answer in answers} <= {Appended, AlreadyDone}
    assert await seqs(stores[0], queue) == [1]


async def test_keys_that_two_workers_keep_in_opposite_orders_stand_each_once(stores: tuple[Store, Store]) -> None:
    made = [await stored_queue(stores[0], OURS, number) for number in range(10, 14)]
    onces = [once_of(number) for number in range(4)]

    def appends(first: int, step: int) -> list[Append]:
        return [an_append(made[(first + number) % 4], first + number, onces[::step][number]) for number in range(4)]

    batches = await asyncio.gather(
        stores[0].engine.commit(Batch(appends=appends(100, 1))),
        stores[1].engine.commit(Batch(appends=appends(200, -1))),
    )
    answers = [type(answer) for batch in batches for answer in batch.appends]
    assert answers.count(Appended) == 4
    assert set(answers) <= {Appended, AlreadyDone}


async def test_kept_responses_count_as_stored_bytes_until_they_are_deleted(store: Store, queue: Queue) -> None:
    before = await store.read(lambda tx: tallies.bytes_stored(tx, OURS))
    one, other = once_of(1, content=b"a" * 1_000), once_of(2, content=b"b" * 500)
    [stored] = await appended(store, an_append(queue, 100, one))
    assert isinstance(stored, Appended)
    await store.write(lambda tx: idempotency.store_key(tx, OURS, other, NOON))
    sizes = await store.read(lambda tx: tx.rows("SELECT size FROM idempotency_response ORDER BY size"))
    assert [size > content for (size,), content in zip(sizes, (500, 1_000), strict=True)] == [True, True]
    messages = (await store.read(lambda tx: tx.rows("SELECT sum(size) FROM log")))[0][0]
    expected = before + messages + sum(size for (size,) in sizes)
    assert await store.read(lambda tx: tallies.bytes_stored(tx, OURS)) == expected
    assert await store.read(drift) == {}

    # A repeated request stores nothing more.
    assert [type(each) for each in await appended(store, an_append(queue, 101, one))] == [AlreadyDone]
    assert await store.read(lambda tx: tallies.bytes_stored(tx, OURS)) == expected

    assert await store.write(lambda tx: idempotency.delete_old_responses(tx, OURS, NOON + 3_600_000)) == 2
    assert await store.read(lambda tx: tallies.bytes_stored(tx, OURS)) == before + messages
    assert await store.read(drift) == {}
