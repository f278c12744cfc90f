"""Every list pages in the same way: the walks here are the specification."""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.errors import BadRequest
from discue.domain.ids import row_id_at
from discue.store import across_queues, listeners, messages, queues
from discue.store.engine import Row, Transaction, Value
from discue.store.pagination import LARGEST, InMemoryRows, Listing, Merged, Part, ScanLimits, Selection, created_at
from discue.store.store import Store
from tests.store.rows import (
    a_listener,
    a_queue,
    an_append,
    append_all,
    public_id,
    publish,
    publish_each,
    row_id,
    stored_queue,
)
from tests.store.test_list_filters import (
    SUBJECTS,
    Build,
    _keys,
    _messages,
    _messages_confined,
    _messages_of_one_queue,
    _messages_of_queue,
    _organizations,
    _queues,
)
from tests.store.walks import check, forwards, ids_of
from tests.support.clocks import NOON

ORGANIZATION, STRANGER = row_id(1), row_id(1_001)
OF_ONE_LOG = (_messages_of_queue, _messages_of_one_queue, _messages_confined)


@pytest.mark.parametrize(
    ("store", "subject_of"),
    [
        *(("sqlite", each) for each in SUBJECTS if each not in OF_ONE_LOG),
        # Each kind of list once: a table, a table without organizations, several logs.
        *(("postgres", each) for each in (_keys, _organizations, _messages)),
    ],
    indirect=["store"],
)
async def test_a_walk_goes_on_where_an_item_was_removed(store: Store, subject_of: Build) -> None:
    pages, items = await subject_of(store)
    ids = [item.id for item in items]
    removed = f"{ids[1][:-1]}b"
    older = await store.read(lambda tx: pages(tx, Selection(per_page=100, after=removed)))
    newer = await store.read(lambda tx: pages(tx, Selection(per_page=100, before=removed)))
    assert (ids_of(older), ids_of(newer)) == (ids[1::-1], ids[:1:-1])


async def test_a_walk_along_a_log_goes_on_where_a_message_was_removed(store: Store) -> None:
    queue = await stored_queue(store, ORGANIZATION, 1)
    await publish_each(store, queue, ((public_id(number), NOON + number) for number in range(10, 17)))
    await store.write(lambda tx: tx.execute("DELETE FROM log WHERE seq = 5"))
    for pages in (
        lambda tx, selection: messages.page_of_queue(tx, queue, selection),
        lambda tx, selection: messages.page(tx, ORGANIZATION, selection, {queue.public_id}),
    ):
        older = await store.read(partial(pages, selection=Selection(after=public_id(14))))
        newer = await store.read(partial(pages, selection=Selection(before=public_id(14))))
        assert ids_of(older) == [public_id(number) for number in (13, 12, 11, 10)]
        assert ids_of(newer) == [public_id(number) for number in (16, 15)]


class Counting:
    """A transaction that counts its statements, and the rows they read."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.heads = tx.heads
        self.inline_bytes = tx.inline_bytes
        self.has_intake = tx.has_intake
        self.rows_read = 0
        self.statements = 0

    async def row(self, sql: str, *values: Value) -> Row | None:
        self.rows_read += 1
        self.statements += 1
        return await self._tx.row(sql, *values)

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        found = await self._tx.rows(sql, *values)
        self.rows_read += len(found)
        self.statements += 1
        return found

    async def exclusive(self) -> None:
        await self._tx.exclusive()

    async def end_sessions(self, session_id: int) -> None:
        await self._tx.end_sessions(session_id)

    async def execute(self, sql: str, *values: Value) -> int:
        return await self._tx.execute(sql, *values)


async def test_a_page_far_down_the_messages_reads_only_keys_of_those_before_it(store: Store) -> None:
    queue = await stored_queue(store, ORGANIZATION, 1)
    await publish(store, queue, [public_id(number) for number in range(10, 210)])

    async def work(tx: Transaction) -> tuple[Listing[Any], int]:
        counting = Counting(tx)
        return await messages.page(counting, ORGANIZATION, Selection(per_page=3, page=20)), counting.rows_read

    found, rows_read = await store.read(work)
    assert ids_of(found) == [public_id(number) for number in (152, 151, 150)]
    # 61 keys, of which the last tells that there is a next page.
    assert rows_read < 61 + 20


async def test_listeners_of_many_queues_are_read_by_few_statements(store: Store) -> None:
    owners = [await stored_queue(store, ORGANIZATION, number) for number in range(10, 340)]
    named = [a_listener(owner, 1_000 + number) for number, owner in enumerate(owners)]

    async def insert(tx: Transaction) -> None:
        for each in named:
            await listeners.insert(tx, each, 0)

    await store.write(insert)
    only = {each.public_id for each in owners[:-1]} | {named[-1].public_id}

    async def work(tx: Transaction) -> tuple[Listing[Any], int, int]:
        counting = Counting(tx)
        found = await listeners.page(counting, ORGANIZATION, Selection(per_page=3), only)
        return found, counting.statements, counting.rows_read

    found, statements, rows_read = await store.read(work)
    assert ids_of(found) == [each.public_id for each in named[:-4:-1]]
    assert statements < 10
    assert rows_read < len(only) + 10


async def test_messages_of_many_queues_are_read_up_to_the_page(store: Store) -> None:
    owners = [await stored_queue(store, ORGANIZATION, number) for number in range(10, 60)]
    appends = (an_append(owner, 1_000 + index * 10, 10, now=NOON + index) for index, owner in enumerate(owners))
    await append_all(store, appends)

    async def work(tx: Transaction) -> tuple[Listing[Any], int]:
        counting = Counting(tx)
        targets = {each.public_id for each in owners}
        found = await messages.page(counting, ORGANIZATION, Selection(per_page=20), targets)
        return found, counting.rows_read

    found, rows_read = await store.read(work)
    assert ids_of(found) == [public_id(number) for number in range(1_499, 1_479, -1)]
    # Less than a whole page of each queue.
    assert rows_read < len(owners) * 10


def _rows(keys: Iterable[int]) -> InMemoryRows[Row]:
    return InMemoryRows([(key, str(key)) for key in keys], lambda _tx, public_id: _located(int(public_id)))


async def _located(key: int) -> tuple[int, int]:
    return key, key


@given(st.lists(st.sets(st.integers(1, 60)), min_size=1, max_size=12), st.integers(1, 9), st.integers(0, 61))
def test_source_and_other_rows_are_one_list(parts: list[set[int]], limit: int, bound: int) -> None:
    some = [(key, str(key)) for key in sorted(set().union(*parts[1:]) - parts[0])]
    merged, everything = Merged[Row](_rows(parts[0]), some), _rows(set().union(*parts))

    async def compare(tx: Transaction) -> None:
        for offset in (0, 3, 20, 59):
            part = Part(None, None, limit, offset=offset)
            assert list(await merged.read(tx, part)) == list(await everything.read(tx, part))
        for newest_first in (True, False):
            part = Part.beyond((bound, bound), limit, newest_first=newest_first)
            assert list(await merged.read(tx, part)) == list(await everything.read(tx, part))

    asyncio.run(compare(None))  # type: ignore[arg-type]


async def test_numbered_page_that_needs_too_many_reads_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, _ = await _messages_confined(store)
    assert (await store.read(lambda tx: pages(tx, Selection(per_page=3, page=300)))).items == ()
    monkeypatch.setattr(across_queues, "_LIMITS_OF_SOME", ScanLimits(2, 2, 4))
    with pytest.raises(BadRequest) as refused:
        await store.read(lambda tx: pages(tx, Selection(per_page=3, page=3)))
    assert refused.value.faults[0].pointer == "?page"


async def test_walk_continues_where_a_scan_of_some_queues_stopped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across_queues, "_LIMITS_OF_SOME", ScanLimits(2, 1, 3))
    pages, items = await _messages_confined(store)
    assert await forwards(store, pages, Selection(per_page=3)) == [item.id for item in reversed(items)]


async def test_message_without_an_alias_is_found_by_its_id_however_many_messages_are_newer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across_queues, "_LIMITS_OF_SOME", ScanLimits(1, 1, 2))
    pages, _ = await _messages_confined(store)
    page = await store.read(lambda tx: pages(tx, Selection(alias=public_id(100))))
    assert (ids_of(page), page.has_next) == ([public_id(100)], False)


async def test_messages_of_one_queue_are_found_however_many_messages_of_other_queues_are_newer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across_queues, "_LIMITS_OF_SOME", ScanLimits(1, 1, 2))
    first, second = [await stored_queue(store, ORGANIZATION, number) for number in (10, 11)]
    await publish(store, first, [public_id(100)])
    await publish(store, second, [public_id(number) for number in range(101, 105)])
    page = await store.read(lambda tx: messages.page(tx, ORGANIZATION, Selection(), {first.public_id}))
    assert (ids_of(page), page.has_next) == ([public_id(100)], False)


async def test_first_page_of_several_queues_is_found_however_many_messages_of_other_queues_are_newer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across_queues, "_LIMITS_OF_SOME", ScanLimits(2, 2, 4))
    first, second, other = [await stored_queue(store, ORGANIZATION, number) for number in (10, 11, 12)]
    await publish(store, first, [public_id(100)])
    await publish(store, second, [public_id(101)])
    await publish(store, other, [public_id(number) for number in range(10_000, 10_008)])
    only = {first.public_id, second.public_id}
    page = await store.read(lambda tx: messages.page(tx, ORGANIZATION, Selection(), only))
    assert (ids_of(page), page.has_next) == ([public_id(101), public_id(100)], False)
    # One of the newer messages is a target of its own.
    page = await store.read(lambda tx: messages.page(tx, ORGANIZATION, Selection(), only | {public_id(10_001)}))
    assert ids_of(page) == [public_id(10_001), public_id(101), public_id(100)]


async def test_the_messages_of_a_deleted_queue_are_not_listed_before_they_are_removed(store: Store) -> None:
    pages, _ = await _messages(store)
    await store.write(lambda tx: queues.mark_deleted(tx, ORGANIZATION, row_id(11), NOON))
    await check(store, pages, Selection(per_page=4), [public_id(number) for number in range(110, 99, -2)])


async def test_messages_of_one_millisecond_keep_the_order_of_their_log(store: Store) -> None:
    queue = await stored_queue(store, ORGANIZATION, 1)
    ids = [public_id(5, letter) for letter in "kcxa"]
    await publish(store, queue, ids)
    page = await store.read(lambda tx: messages.page_of_queue(tx, queue, Selection(per_page=2)))
    assert ids_of(page) == ["".join(each) for each in reversed(ids[2:])]
    rest = await store.read(lambda tx: messages.page_of_queue(tx, queue, Selection(after=ids[2])))
    assert ids_of(rest) == list(reversed(ids[:2]))


async def test_anchor_of_another_organization_reveals_nothing(store: Store) -> None:
    pages, items = await _queues(store)
    foreign = a_queue(STRANGER, 900)
    await store.write(lambda tx: queues.insert(tx, foreign))
    for anchor in (foreign.public_id, public_id(900, "q")):
        page = await store.read(lambda tx, anchor=anchor: pages(tx, Selection(per_page=100, after=anchor)))  # type: ignore[misc]
        assert ids_of(page) == [item.id for item in reversed(items)]


@pytest.mark.parametrize("text", ["", "?", "zzzzzzzzzzzzzzzzzzzzz", "\x00é", "~" * 300])
def test_a_text_that_is_no_id_stands_for_some_time(text: str) -> None:
    assert 0 < row_id_at(created_at(text) + 1) <= LARGEST


def test_the_time_of_an_id_is_when_it_was_made() -> None:
    assert created_at(public_id(17)) == NOON + 17


async def test_list_of_many_queues_takes_few_statements(store: Store) -> None:
    owners = [await stored_queue(store, ORGANIZATION, 3_000 + number) for number in range(60)]
    ids = [public_id(2_000 + number) for number in range(120)]
    await append_all(
        store, (an_append(owners[number % 60], 2_000 + number, now=NOON + number) for number in range(120))
    )
    only = {owner.public_id for owner in owners}
    places: list[dict[str, Any]] = [{}, {"after": ids[80]}, {"before": ids[10]}, {"page": 2}, {"created_after": NOON}]
    for place in places:

        async def work(tx: Transaction, place: dict[str, Any] = place) -> tuple[int, list[str]]:
            counting = Counting(tx)
            page = await messages.page(counting, ORGANIZATION, Selection(per_page=20, **place), only)
            return counting.statements, [item.id for item in page.items]

        statements, found = await store.read(work)
        assert statements < 30
        first = {"after": 79, "before": 30, "page": 99}.get(next(iter(place), ""), 119)
        assert found == ids[first : first - 20 : -1]
