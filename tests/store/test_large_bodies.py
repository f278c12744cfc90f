"""On SQLite, long bodies are stored apart from the log. They are read, listed and deleted like short ones."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from discue.domain.message_data import TEXT
from discue.domain.messages import MessageOptions, encode_options
from discue.domain.model import Listener, Queue
from discue.domain.reservations import SMALL_READ_BYTES
from discue.store import attempts, messages, purge, queues, tallies
from discue.store.delivery_rows import read_due, read_sweep
from discue.store.direct_appends import append_directly
from discue.store.engine import Append, NewEntry, QueueKey, Transaction
from discue.store.listeners import Sweep
from discue.store.message_log import bodies_by_seq
from discue.store.pagination import Selection
from discue.store.purge import Job, LogToTrim
from discue.store.sqlite.connection import APPLICATION_ID, INLINE_BYTES, connect
from discue.store.sqlite.engine import SqliteEngine
from discue.store.store import Store
from tests.store.rows import public_id, row_id, rows, stored_listener, stored_message
from tests.support.clocks import NOON

OURS = row_id(1)
SIZES = (0, 1, INLINE_BYTES, INLINE_BYTES + 1, 10_000, 300_000)
LONG = [size for size in SIZES if size > INLINE_BYTES]
EXTRA = encode_options(MessageOptions(headers=(("x-kind", "large"),)))
ENTRIES = tuple(NewEntry(public_id(20 + size), TEXT, b"x" * size, extra=EXTRA) for size in SIZES)


async def store_all(store: Store, queue: Queue) -> None:
    await store.append(Append(OURS, queue.id, queue.config_version, NOON, ENTRIES))


async def sizes_apart(store: Store) -> list[int]:
    return [row[0] for row in await rows(store, "SELECT size FROM body ORDER BY id")]


def expected_apart(store: Store) -> list[int]:
    return LONG if isinstance(store.engine, SqliteEngine) else []


async def test_bodies_of_all_sizes_are_read_as_they_were_stored(store: Store, queue: Queue) -> None:
    await store_all(store, queue)
    page = await store.page(OURS, queue.id, 0, 10, max_bytes=1 << 20)
    assert [entry.body for entry in page.entries] == [entry.body for entry in ENTRIES]
    for seq, entry in enumerate(ENTRIES, 1):
        message = await stored_message(store, queue, entry.id)
        is_read = len(entry.body) <= SMALL_READ_BYTES
        assert (message.body, message.size) == (entry.body if is_read else None, len(entry.body))
        assert await store.load(partial(bodies_by_seq, queue=(OURS, queue.id), seqs=[seq])) == {seq: entry.body}
    assert await sizes_apart(store) == expected_apart(store)


async def test_glance_has_the_first_bytes_of_a_body_of_any_size(store: Store, queue: Queue) -> None:
    await store_all(store, queue)
    keys = {(queue.id, seq): False for seq in range(1, len(ENTRIES) + 1)}
    found = await store.read(lambda tx: attempts.glances(tx, OURS, keys, 5))
    assert [found[key].start for key in keys] == [entry.body[:5] for entry in ENTRIES]


def test_start_of_a_body_is_read_without_the_rest_of_it(tmp_path: Path) -> None:
    path = tmp_path / "discue.db"
    with closing(connect(path)) as connection:
        connection.pragma("application_id", APPLICATION_ID)
        connection.execute("CREATE TABLE body (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")
        connection.execute("INSERT INTO body VALUES (1, ?)", (b"x" * 2_000_000,))
    with closing(connect(path)) as connection:
        assert _memory_of(connection, "SELECT body_start(1, 5), body_start(NULL, 5)", (b"xxxxx", None)) < 200_000
        assert _memory_of(connection, "SELECT substr(bytes, 1, 5) FROM body", (b"xxxxx",)) > 2_000_000


def _memory_of(connection: apsw.Connection, sql: str, expected: tuple[Any, ...]) -> int:
    """Return how much memory SQLite needs for a statement that returns one row."""
    before = apsw.memory_used()
    apsw.memory_high_water(reset=True)
    assert connection.execute(sql).fetchall() == [expected]
    return apsw.memory_high_water() - before


async def test_lists_show_the_size_of_the_data(store: Store, queue: Queue) -> None:
    await store_all(store, queue)
    page = await store.read(lambda tx: messages.page(tx, OURS, Selection(queue=queue.public_id, per_page=100)))
    assert [message.size for message in page.items] == list(reversed(SIZES))


async def test_page_ends_before_a_body_that_does_not_fit(store: Store, queue: Queue) -> None:
    await store_all(store, queue)
    page = await store.page(OURS, queue.id, 0, 10, max_bytes=sum(SIZES) - 1)
    assert (len(page.entries), page.through) == (len(SIZES) - 1, len(SIZES) - 1)


async def test_messages_appended_by_a_work_are_stored_in_the_same_way(store: Store, queue: Queue) -> None:
    heads: dict[QueueKey, int] = {}
    store.on_heads = [heads.update]
    assert await store.write(lambda tx: append_directly(tx, (OURS, queue.id), ENTRIES, NOON))
    assert heads == {(OURS, queue.id): len(SIZES)}
    page = await store.page(OURS, queue.id, 0, 10, max_bytes=1 << 20)
    assert [entry.body for entry in page.entries] == [entry.body for entry in ENTRIES]
    assert await sizes_apart(store) == expected_apart(store)


async def test_deleted_message_has_its_body_deleted(store: Store, queue: Queue) -> None:
    await store_all(store, queue)
    for entry in ENTRIES:
        message = await stored_message(store, queue, entry.id)
        assert await store.write(partial(messages.delete, message=message))
    assert await sizes_apart(store) == []
    assert await store.read(lambda tx: tallies.bytes_stored(tx, OURS)) == 0


async def test_retention_and_removal_of_a_queue_leave_no_body(store: Store, queue: Queue) -> None:
    await store_all(store, queue)
    await store.write(lambda tx: purge.trim_log(tx, LogToTrim(OURS, queue.id, 0, 5, None), 0, NOON + 1))
    assert await sizes_apart(store) == expected_apart(store)[-1:]
    await store.write(lambda tx: queues.mark_deleted(tx, OURS, queue.id, NOON))
    job = Job(OURS, row_id(90), "purge_queue", queue=queue.id)
    while not await store.write(lambda tx: purge.step(tx, job)):
        pass
    assert await sizes_apart(store) == []


async def test_row_of_a_long_body_is_short_on_sqlite(store: Store, queue: Queue) -> None:
    await store_all(store, queue)
    found = await rows(store, "SELECT coalesce(length(body), 0) FROM log ORDER BY seq")
    longest = INLINE_BYTES if isinstance(store.engine, SqliteEngine) else max(SIZES)
    assert max(row[0] for row in found) == longest


async def test_lane_reads_retries_only_as_far_as_their_bodies_fit(store: Store, queue: Queue) -> None:
    await store_all(store, queue)
    listener = await stored_listener(store, queue, 11)
    key = (OURS, listener.id, 0)
    for seq in range(1, len(ENTRIES) + 1):
        await store.write(partial(_wait_for_retry, listener, seq))

    async def found(most: int, *known: int, limit: int = 100) -> tuple[list[int], bool, list[int], int]:
        due = await store.read(
            lambda tx: read_due(tx, (OURS, queue.id), key, NOON + 60, limit=limit, max_bytes=most, known=known)
        )
        swept = await store.read(
            lambda tx: read_sweep(tx, (OURS, queue.id), key, Sweep(0, 9), limit=limit, max_bytes=most, known=known)
        )
        for retry in (*due.retries, *swept.retries):
            assert retry.entry is not None
            assert retry.entry.body == ENTRIES[retry.seq - 1].body
        follow = due.next_at == NOON + 60
        return [each.seq for each in due.retries], follow, [each.seq for each in swept.retries], swept.through

    assert await found(1 << 20) == ([1, 2, 3, 4, 5, 6], False, [1, 2, 3, 4, 5, 6], 9)
    assert await found(100_000) == ([1, 2, 3, 4, 5], True, [1, 2, 3, 4, 5], 5)
    assert await found(100_000, 1, 2, 3, 4, 5) == ([6], False, [6], 9), "the first one may have any size"
    assert await found(0) == ([1], True, [1], 1)
    assert await found(1 << 20, 2, limit=3) == ([1, 3], True, [1, 3], 3)
    assert await found(1 << 20, *range(1, 7)) == ([], False, [], 9)


async def _wait_for_retry(listener: Listener, seq: int, tx: Transaction) -> None:
    await tx.execute(_RETRY, listener.organization, listener.id, seq, listener.queue, NOON + seq)


_RETRY = """
    INSERT INTO delivery (organization, listener, stream, seq, queue, state, attempts, due_at, reason)
    VALUES ($1, $2, 0, $3, $4, 'retry', 1, $5, '')"""
