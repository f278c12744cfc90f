"""A list of messages costs the same whatever their size: no body is read. The tests count pages, not time."""

import os
from typing import Any

import apsw

from discue.domain.message_data import TEXT
from discue.domain.model import Queue
from discue.store import messages
from discue.store.engine import Append, NewEntry, Transaction
from discue.store.pagination import Selection
from discue.store.sqlite.engine import SqliteEngine
from discue.store.store import Store
from tests.store.rows import public_id, row_id, stored_queue
from tests.support.clocks import NOON

OURS = row_id(1)
_MESSAGES = 200
_SMALL_BYTES = 20
_LARGE_BYTES = 100_000
_SELECTIONS = (Selection(per_page=100), Selection(per_page=100, state="no_listeners"), Selection(per_page=100, page=2))
_FETCHED = "SELECT CAST(sum(pg_stat_get_xact_blocks_fetched(oid)) AS BIGINT) FROM pg_class"


async def _fill(store: Store, queue: Queue, first: int, size: int) -> None:
    body = os.urandom(size)
    for number in range(first, first + _MESSAGES):
        entry = NewEntry(public_id(number), TEXT, body)
        await store.append(Append(OURS, queue.id, queue.config_version, NOON + number, (entry,)))


async def _pages_read(store: Store, queue: Queue, selection: Selection) -> int:
    """Return how many pages of the database a list of a queue's messages reads."""

    async def list_messages(tx: Transaction) -> int:
        before = await _count(store, tx)
        found = await messages.page_of_queue(tx, queue, selection)
        assert len(found.items) == selection.per_page
        return await _count(store, tx) - before

    return await store.read(list_messages)


async def _count(store: Store, tx: Transaction) -> int:
    engine: Any = store.engine
    if isinstance(engine, SqliteEngine):
        kinds = (apsw.SQLITE_DBSTATUS_CACHE_HIT, apsw.SQLITE_DBSTATUS_CACHE_MISS)
        return sum(engine._reader.status(kind)[0] for kind in kinds)
    row = await tx.row(_FETCHED)
    assert row is not None
    return int(row[0])


async def test_list_of_large_messages_reads_as_many_pages_as_one_of_small_messages(store: Store) -> None:
    small, large = await stored_queue(store, OURS, 10), await stored_queue(store, OURS, 11)
    await _fill(store, small, 1_000, _SMALL_BYTES)
    await _fill(store, large, 2_000, _LARGE_BYTES)
    for selection in _SELECTIONS:
        counts = []
        for queue in (small, large):
            # The first list reads the catalog as well.
            await _pages_read(store, queue, selection)
            counts.append(await _pages_read(store, queue, selection))
        of_small, of_large = counts
        assert 0 < of_large <= 1.2 * of_small, selection


async def test_list_of_small_messages_reads_no_more_pages_when_large_ones_are_stored(store: Store) -> None:
    small, large = await stored_queue(store, OURS, 10), await stored_queue(store, OURS, 11)
    await _fill(store, small, 1_000, _SMALL_BYTES)
    selection = Selection(per_page=100)
    await _pages_read(store, small, selection)
    before = await _pages_read(store, small, selection)
    await _fill(store, large, 2_000, _LARGE_BYTES)
    # The indexes have grown.
    assert await _pages_read(store, small, selection) <= 1.2 * before
