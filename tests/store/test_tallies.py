"""Counts are written in the very commits that they count: nothing makes them drift from what there is."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec
import pytest

from discue.domain.attempts import Attempt
from discue.domain.message_data import TEXT
from discue.domain.model import Queue
from discue.store import delivery_rows, messages, tallies
from discue.store.delivery_rows import RequestEnd
from discue.store.engine import AlreadyDone, Append, Appended, DeliveryRow, IdempotencyRecord, NewEntry, Settle
from discue.store.store import Store
from discue.store.tallies import BYTES_STORED, MESSAGE_ADDED, MESSAGE_PUBLISHED_NOT_OK, MESSAGE_PUBLISHED_OK, TallyEntry
from tests.store.rows import (
    a_settle,
    appended,
    public_id,
    row_id,
    settled,
    stored_listener,
    stored_message,
    stored_queue,
    take_all,
)
from tests.support.clocks import NOON
from tests.support.stores import WAITING_BYTES, another
from tests.support.tallied import tallied, there

OURS, THEIRS = row_id(1), row_id(2)
OWNER = 77
PERIOD = tallies.period_of(NOON)


def an_append(
    queue: Queue,
    first: int,
    sizes: Sequence[int],
    *,
    now: int = NOON,
    idempotency_record: IdempotencyRecord | None = None,
) -> Append:
    entries = tuple(
        NewEntry(public_id(first + index), codec=TEXT, body=b"x" * size) for index, size in enumerate(sizes)
    )
    return Append(queue.organization, queue.id, queue.config_version, now, entries, idempotency_record)


async def counted(store: Store, organization: int = OURS) -> dict[int, int]:
    """By kind."""
    found = await store.read(tallied)
    return {kind: n for (owner, kind), n in found.items() if owner == organization}


async def nothing_drifted(store: Store) -> bool:
    return await store.read(tallied) == await store.read(there)


async def a_cursor(store: Store, queue: Queue, number: int) -> Settle:
    """A settle that would change nothing in a new listener's cursor."""
    listener = await stored_listener(store, queue, number)
    await store.write(lambda tx: take_all(tx, OWNER))
    return a_settle(listener, token=1)


def with_attempts(settle: Settle, first: int, errors: Sequence[str]) -> Settle:
    made = tuple(
        Attempt(row_id(first + index), settle.organization, settle.listener, settle.queue, index, 1, 0, error, 1)
        for index, error in enumerate(errors)
    )
    return msgspec.structs.replace(settle, attempts=made)


async def test_messages_count_for_the_period_in_which_they_came(store: Store, queue: Queue) -> None:
    later = NOON + tallies.PERIOD_MS
    await appended(store, an_append(queue, 100, [1]))
    await appended(store, an_append(queue, 101, [1, 1], now=later))
    found = await store.read(lambda tx: tallies.since(tx, OURS, PERIOD))
    assert sorted(found) == [(PERIOD, MESSAGE_ADDED, 1), (PERIOD + 1, MESSAGE_ADDED, 2)]
    assert await store.read(lambda tx: tallies.since(tx, OURS, PERIOD + 2)) == []


async def test_repeated_idempotent_publish_is_not_counted(store: Store, queue: Queue) -> None:
    onces = [IdempotencyRecord((1, 2), b"fingerprint", b"content", row_id(number)) for number in range(3)]
    repeated = [
        an_append(queue, 100 + number, [3], idempotency_record=idempotency_record)
        for number, idempotency_record in enumerate(onces)
    ]
    answers = await appended(store, *repeated[:2], an_append(queue, 103, [4]))
    assert [type(answer) for answer in answers] == [Appended, AlreadyDone, Appended]
    [answer] = await appended(store, repeated[2])
    assert isinstance(answer, AlreadyDone)
    counts = await counted(store)
    assert counts.pop(tallies.RESPONSE_BYTES) > 0
    assert counts == {MESSAGE_ADDED: 2, BYTES_STORED: 7}
    assert await nothing_drifted(store)


async def test_attempts_are_counted_by_how_they_went_when_their_settle_is_stored(store: Store, queue: Queue) -> None:
    settle = await a_cursor(store, queue, 11)
    moved = with_attempts(settle, 100, ["", "status", "", "connect"])
    assert await settled(store, moved) == [True]
    assert await counted(store) == {MESSAGE_PUBLISHED_OK: 2, MESSAGE_PUBLISHED_NOT_OK: 2}
    # The same once more: the cursor has another version by now.
    assert await settled(store, moved) == [False]
    assert await settled(store, msgspec.structs.replace(with_attempts(settle, 200, [""]), version=1)) == [True]
    assert await counted(store) == {MESSAGE_PUBLISHED_OK: 3, MESSAGE_PUBLISHED_NOT_OK: 2}
    assert await nothing_drifted(store)


async def test_attempts_that_ended_elsewhere_after_a_hand_over_are_counted_once(store: Store, queue: Queue) -> None:
    settle = await a_cursor(store, queue, 11)
    sending = tuple(DeliveryRow(seq, "sending", 1, NOON, "", OWNER) for seq in (1, 2))
    assert await settled(store, msgspec.structs.replace(settle, delivery_rows=sending)) == [True]
    ends = [_end(settle, 1, ""), _end(settle, 2, "status")]
    assert await store.write(lambda tx: delivery_rows.record_ends(tx, ends)) == 2
    assert await store.write(lambda tx: delivery_rows.record_ends(tx, ends)) == 0
    assert await counted(store) == {MESSAGE_PUBLISHED_OK: 1, MESSAGE_PUBLISHED_NOT_OK: 1}
    assert await nothing_drifted(store)


def _end(settle: Settle, seq: int, error: str) -> RequestEnd:
    attempt = Attempt(row_id(300 + seq), settle.organization, settle.listener, settle.queue, seq, 1, 200, error, 1)
    return RequestEnd(0, OWNER, "ended", NOON, "", attempt)


@pytest.fixture
def workers(store: Store, runner: asyncio.Runner) -> Iterator[list[Store]]:
    """Three more processes on the same database, as far as that can tell."""
    engines = [another(store.engine) for _ in range(3)]
    for engine in engines:
        runner.run(engine.open())
    yield [
        Store(engine, max_waiting_bytes=WAITING_BYTES, worker_slot=partial(int, slot))
        for slot, engine in enumerate(engines, 1)
    ]
    for engine in engines:
        runner.run(engine.close())


async def test_several_workers_at_once_count_all_of_it(store: Store, workers: list[Store]) -> None:
    published = [await stored_queue(store, OURS, number) for number in (10, 11)]
    cursors = [await a_cursor(store, published[0], 20 + number) for number in range(4)]
    await asyncio.gather(
        *(_publish(worker, queue, 1_000 * place) for place, worker in enumerate(workers) for queue in published),
        *(
            worker.settle(with_attempts(settle, 10_000 * (place + 1) + number, [""]))
            for place, worker in enumerate(workers)
            for number, settle in enumerate(cursors)
        ),
    )
    found = await counted(store)
    assert found[MESSAGE_ADDED] == found[BYTES_STORED] == 3 * 2 * 20
    # Of all who try to move a cursor one succeeds.
    assert found[MESSAGE_PUBLISHED_OK] == len(cursors)
    assert await nothing_drifted(store)
    slots = await store.read(lambda tx: tx.rows("SELECT DISTINCT slot FROM tally WHERE kind = $1", MESSAGE_ADDED))
    assert len(slots) >= len(workers)


async def _publish(worker: Store, queue: Queue, first: int) -> None:
    await asyncio.gather(*(worker.append(an_append(queue, first + number, [1])) for number in range(20)))


async def test_counts_equal_the_rows_after_any_sequence_of_changes(troubled: tuple[Store, list[str]]) -> None:
    store, _ = troubled
    chance = random.Random(4_711)  # noqa: S311 - choices that can be made again
    owned = [await stored_queue(store, owner, number) for number, owner in ((10, OURS), (11, OURS), (12, THEIRS))]
    cursors = [await a_cursor(store, queue, 20 + number) for number, queue in enumerate(owned)]
    for step in range(120):
        queue, place = owned[step % 3], step % 3
        number = 1_000 + 50 * step
        kind = chance.choice(("append", "append", "batch", "stale", "double", "settle", "refused", "delete"))
        if kind == "settle":
            moved = with_attempts(cursors[place], number, chance.choices(("", "status"), k=3))
            assert await settled(store, moved) == [True]
            cursors[place] = msgspec.structs.replace(cursors[place], version=cursors[place].version + 1)
        elif kind == "refused":
            await settled(store, msgspec.structs.replace(with_attempts(cursors[place], number, [""]), version=999))
        elif kind == "delete":
            await _delete_one(store, queue)
        else:
            await appended(store, *_some_appends(kind, queue, number, chance))
    assert await nothing_drifted(store)


def _some_appends(kind: str, queue: Queue, number: int, chance: random.Random) -> list[Append]:
    sizes = [chance.randrange(50) for _ in range(chance.randrange(1, 8))]
    usual = an_append(queue, number, sizes)
    if kind == "stale":
        return [usual, msgspec.structs.replace(an_append(queue, number + 10, sizes), config_version=8)]
    if kind == "double":
        return [usual, an_append(queue, number, sizes)]
    if kind == "batch":
        return [usual, an_append(queue, number + 10, sizes), an_append(queue, number + 20, [])]
    return [usual]


async def _delete_one(store: Store, queue: Queue) -> None:
    row = await store.read(lambda tx: tx.row("SELECT min(id) FROM log WHERE queue = $1", queue.id))
    if row is None or row[0] is None:
        return
    message = await stored_message(store, queue, row[0])
    await store.write(lambda tx: messages.delete(tx, message))


async def test_old_counts_are_deleted_in_steps_and_stored_bytes_are_kept(store: Store) -> None:
    counts = [TallyEntry(OURS, PERIOD + number, MESSAGE_ADDED, 1) for number in range(10)]
    await store.write(lambda tx: tallies.add(tx, [*counts, TallyEntry(OURS, tallies.CURRENT, BYTES_STORED, 9)]))
    await store.write(lambda tx: tallies.add(tx, [TallyEntry(THEIRS, PERIOD, MESSAGE_ADDED, 1)]))
    forget = partial(tallies.delete_old, organization=OURS, before=PERIOD + 7, periods=3)
    removed = []
    while step := await store.write(forget):
        removed.append(step)
    assert sum(removed) == 7
    assert max(removed) <= 4
    assert await counted(store) == {MESSAGE_ADDED: 3, BYTES_STORED: 9}
    assert await counted(store, THEIRS) == {MESSAGE_ADDED: 1}


def test_numbers_of_events_in_databases_keep_their_meaning() -> None:
    numbers = [tallies.EVENT_KINDS[kind] for kind in ("api_key_added", "user_deleted", "lockout", "channel_deleted")]
    assert numbers == [5, 22, 23, 29]
