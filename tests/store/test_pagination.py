"""Every list pages in the same way: the walks here are the specification."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, NamedTuple

import pytest

from discue.domain.errors import BadRequest
from discue.domain.ids import row_id_at
from discue.store import api_keys, listeners, messages, organizations, queues
from discue.store.engine import Row, Transaction, Value
from discue.store.pagination import LARGEST, Listing, Selection, created_at
from discue.store.store import Store
from tests.store.rows import (
    a_key,
    a_queue,
    public_id,
    publish,
    row_id,
    stored_listener,
    stored_organization,
    stored_queue,
)
from tests.store.walks import ids_of
from tests.support.clocks import NOON

ITEMS = 7
ORGANIZATION = row_id(1_000)
STRANGER = row_id(1_001)

Pages = Callable[[Transaction, Selection], Awaitable[Listing[Any]]]


class Subject(NamedTuple):
    """A list under test: its pages, the ids that it holds (oldest first), and how to remove one of them."""

    pages: Pages
    ids: Sequence[str]
    remove: Callable[[Transaction, int], Awaitable[object]]


def _numbers(offset: int) -> range:
    return range(offset, offset + ITEMS)


async def _organizations(store: Store) -> Subject:
    for number in _numbers(10):
        await stored_organization(store, number)

    async def remove(tx: Transaction, index: int) -> None:
        await organizations.delete(tx, row_id(10 + index))

    return Subject(organizations.page, [public_id(number) for number in _numbers(10)], remove)


async def _keys(store: Store) -> Subject:
    async def work(tx: Transaction) -> None:
        for number in _numbers(10):
            await api_keys.insert(tx, a_key(ORGANIZATION, number))
            await api_keys.insert(tx, a_key(STRANGER, number + 100))

    await store.write(work)
    return Subject(
        lambda tx, selection: api_keys.page(tx, ORGANIZATION, selection),
        [public_id(number) for number in _numbers(10)],
        lambda tx, index: api_keys.delete(tx, ORGANIZATION, row_id(10 + index)),
    )


async def _queues(store: Store) -> Subject:
    for number in _numbers(10):
        await stored_queue(store, ORGANIZATION, number)
        await stored_queue(store, STRANGER, number + 100)
    return _subject_of_queues(None)


async def _queues_confined(store: Store) -> Subject:
    for number in range(10, 10 + 2 * ITEMS):
        await stored_queue(store, ORGANIZATION, number)
    await stored_queue(store, STRANGER, 500)
    return _subject_of_queues({*(public_id(number) for number in _numbers(10)), public_id(500), public_id(501)})


def _subject_of_queues(only: Collection[str] | None) -> Subject:
    return Subject(
        lambda tx, selection: queues.page(tx, ORGANIZATION, selection, only),
        [public_id(number) for number in _numbers(10)],
        lambda tx, index: queues.mark_deleted(tx, ORGANIZATION, row_id(10 + index), NOON),
    )


async def _listeners_of_queue(store: Store) -> Subject:
    queue = await stored_queue(store, ORGANIZATION, 1)
    other = await stored_queue(store, ORGANIZATION, 2)
    for number in _numbers(10):
        await stored_listener(store, queue, number)
        await stored_listener(store, other, number + 100)
    return _subject_of_listeners(lambda tx, selection: listeners.page_of_queue(tx, queue, selection))


async def _listeners(store: Store) -> Subject:
    mine = [await stored_queue(store, ORGANIZATION, number) for number in (1, 2)]
    other = await stored_queue(store, STRANGER, 3)
    for number in _numbers(10):
        await stored_listener(store, mine[number % 2], number)
        await stored_listener(store, other, number + 100)
    return _subject_of_listeners(lambda tx, selection: listeners.page(tx, ORGANIZATION, selection))


async def _listeners_confined(store: Store) -> Subject:
    """Two queues whole, one listener of a third (and one that is named by its id and its queue)."""
    first, second, third = [await stored_queue(store, ORGANIZATION, number) for number in (1, 2, 3)]
    for number in _numbers(10):
        owner = third if number == 12 else (first, second)[number % 2]
        await stored_listener(store, owner, number)
        await stored_listener(store, third, number + 100)
    only = {first.public_id, second.public_id, public_id(12), public_id(11)}
    return _subject_of_listeners(lambda tx, selection: listeners.page(tx, ORGANIZATION, selection, only))


def _subject_of_listeners(pages: Pages) -> Subject:
    return Subject(
        pages,
        [public_id(number) for number in _numbers(10)],
        lambda tx, index: listeners.mark_deleted(tx, ORGANIZATION, row_id(10 + index), NOON),
    )


async def _messages_of_queue(store: Store) -> Subject:
    queue = await stored_queue(store, ORGANIZATION, 1)
    other = await stored_queue(store, ORGANIZATION, 2)
    for number in _numbers(10):
        await publish(store, queue, [public_id(number)], NOON + number)
        await publish(store, other, [public_id(number, "b")], NOON + number)
    return _subject_of_messages(lambda tx, selection: messages.page_of_queue(tx, queue, selection))


async def _messages(store: Store) -> Subject:
    mine = [await stored_queue(store, ORGANIZATION, number) for number in (1, 2)]
    other = await stored_queue(store, STRANGER, 3)
    for number in _numbers(10):
        await publish(store, mine[number % 2], [public_id(number)], NOON + number)
        await publish(store, other, [public_id(number, "b")], NOON + number)
    return _subject_of_messages(lambda tx, selection: messages.page(tx, ORGANIZATION, selection))


async def _messages_confined(store: Store) -> Subject:
    """Two queues whole, one message of a third (and one that is named by its id and its queue)."""
    first, second, third = [await stored_queue(store, ORGANIZATION, number) for number in (1, 2, 3)]
    for number in _numbers(10):
        owner = third if number == 12 else (first, second)[number % 2]
        await publish(store, owner, [public_id(number)], NOON + number)
        await publish(store, third, [public_id(number, "b")], NOON + number)
    only = {first.public_id, second.public_id, public_id(12), public_id(11)}
    return _subject_of_messages(lambda tx, selection: messages.page(tx, ORGANIZATION, selection, only))


def _subject_of_messages(pages: Pages) -> Subject:
    ids = [public_id(number) for number in _numbers(10)]

    async def remove(tx: Transaction, index: int) -> None:
        await tx.execute("DELETE FROM log WHERE organization = $1 AND id = $2", ORGANIZATION, ids[index])

    return Subject(pages, ids, remove)


SUBJECTS = (
    _organizations,
    _keys,
    _queues,
    _queues_confined,
    _listeners_of_queue,
    _listeners,
    _listeners_confined,
    _messages_of_queue,
    _messages,
    _messages_confined,
)
every_list = pytest.mark.parametrize("subject_of", SUBJECTS, ids=lambda build: build.__name__.strip("_"))
Build = Callable[[Store], Awaitable[Subject]]


async def _page(store: Store, subject: Subject, **selected: Any) -> Listing[Any]:
    return await store.read(lambda tx: subject.pages(tx, Selection(per_page=3, **selected)))


@every_list
async def test_walking_by_after_meets_every_item_once_newest_first(store: Store, subject_of: Build) -> None:
    subject = await subject_of(store)
    page = await _page(store, subject)
    seen, neighbours = ids_of(page), [(page.has_previous, page.has_next)]
    while page.has_next:
        page = await _page(store, subject, after=ids_of(page)[-1])
        seen += ids_of(page)
        neighbours.append((page.has_previous, page.has_next))
    assert seen == list(reversed(subject.ids))
    assert neighbours == [(False, True), (True, True), (True, False)]


@every_list
async def test_pages_before_an_id_list_the_items_of_pages_after_it(store: Store, subject_of: Build) -> None:
    subject = await subject_of(store)
    page = await _page(store, subject, before=subject.ids[0])
    seen, neighbours = ids_of(page), [(page.has_previous, page.has_next)]
    while page.has_previous:
        page = await _page(store, subject, before=ids_of(page)[0])
        seen = ids_of(page) + seen
        neighbours.append((page.has_previous, page.has_next))
    assert seen == list(reversed(subject.ids))[:-1]
    assert neighbours == [(True, True), (False, True)]


@every_list
async def test_numbered_pages_report_previous_and_next_pages(store: Store, subject_of: Build) -> None:
    subject = await subject_of(store)
    newest_first = list(reversed(subject.ids))
    second = await _page(store, subject, page=2)
    assert (ids_of(second), second.has_previous, second.has_next) == (newest_first[3:6], True, True)
    last = await _page(store, subject, page=3)
    assert (ids_of(last), last.has_previous, last.has_next) == (newest_first[6:], True, False)
    beyond = await _page(store, subject, page=4)
    assert (ids_of(beyond), beyond.has_previous, beyond.has_next) == ([], False, False)


@every_list
async def test_a_walk_goes_on_where_an_item_was_removed_meanwhile(store: Store, subject_of: Build) -> None:
    subject = await subject_of(store)
    await store.write(lambda tx: subject.remove(tx, 4))
    assert ids_of(await _page(store, subject, after=subject.ids[4])) == list(reversed(subject.ids[1:4]))
    assert ids_of(await _page(store, subject, before=subject.ids[4])) == list(reversed(subject.ids[5:]))


class Counting:
    """A transaction that counts the rows it reads."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.rows_read = 0

    async def row(self, sql: str, *values: Value) -> Row | None:
        self.rows_read += 1
        return await self._tx.row(sql, *values)

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        found = await self._tx.rows(sql, *values)
        self.rows_read += len(found)
        return found

    async def exclusive(self) -> None:
        await self._tx.exclusive()

    async def execute(self, sql: str, *values: Value) -> int:
        return await self._tx.execute(sql, *values)


@pytest.mark.parametrize("page", [20, 1_000_000])
async def test_a_page_far_down_the_messages_reads_none_of_those_before_it(store: Store, page: int) -> None:
    queue = await stored_queue(store, ORGANIZATION, 1)
    await publish(store, queue, [public_id(number) for number in range(10, 210)])

    async def work(tx: Transaction) -> tuple[Listing[Any], int]:
        counting = Counting(tx)
        return await messages.page(counting, ORGANIZATION, Selection(per_page=3, page=page)), counting.rows_read

    found, rows_read = await store.read(work)
    assert ids_of(found) == ([public_id(number) for number in (152, 151, 150)] if page == 20 else [])
    assert rows_read < 20


class Skipping(Counting):
    """A transaction that also counts the rows it asks the engine to step over."""

    def __init__(self, tx: Transaction) -> None:
        super().__init__(tx)
        self.rows_skipped = 0

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        if "OFFSET" in sql:
            self.rows_skipped += int(values[-1] or 0)
        return await super().rows(sql, *values)


@pytest.mark.parametrize(("page", "shown", "skipped"), [(2, [22, 21, 20], 3), (3, [], 0), (1_000_000, [], 0)])
async def test_a_page_beyond_the_end_of_a_log_skips_nothing(
    store: Store, page: int, shown: list[int], skipped: int
) -> None:
    queue = await stored_queue(store, ORGANIZATION, 1)
    await publish(store, queue, [public_id(number) for number in range(10, 26)])
    raise_tail = "UPDATE queue_head SET tail = 10 WHERE queue = $1"
    await store.write(lambda tx: tx.execute("DELETE FROM log WHERE queue = $1 AND seq <= 10", queue.id))
    await store.write(lambda tx: tx.execute(raise_tail, queue.id))

    async def work(tx: Transaction) -> tuple[Listing[Any], int]:
        skipping = Skipping(tx)
        listing = await messages.page_of_queue(skipping, queue, Selection(per_page=3, page=page))
        return listing, skipping.rows_skipped

    found, rows_skipped = await store.read(work)
    assert (ids_of(found), rows_skipped) == ([public_id(number) for number in shown], skipped)


async def test_pages_that_would_take_reading_everything_before_them_are_refused(store: Store) -> None:
    subject = await _messages_confined(store)
    assert ids_of(await _page(store, subject, page=1_000)) == []
    with pytest.raises(BadRequest) as refused:
        await _page(store, subject, page=100_000)
    assert refused.value.faults[0].pointer == "?page"


async def test_numbered_pages_leave_out_the_messages_of_a_deleted_queue(store: Store) -> None:
    subject = await _messages(store)
    await store.write(lambda tx: queues.mark_deleted(tx, ORGANIZATION, row_id(2), NOON))
    assert ids_of(await _page(store, subject, page=2)) == [public_id(10)]


async def test_the_messages_of_a_deleted_queue_are_not_listed_before_they_are_removed(store: Store) -> None:
    subject = await _messages(store)
    await store.write(lambda tx: queues.mark_deleted(tx, ORGANIZATION, row_id(2), NOON))
    page = await _page(store, subject)
    assert ids_of(page) == [public_id(16), public_id(14), public_id(12)]
    assert ids_of(await _page(store, subject, after=public_id(12))) == [public_id(10)]


async def test_messages_of_one_millisecond_keep_the_order_of_their_log(store: Store) -> None:
    queue = await stored_queue(store, ORGANIZATION, 1)
    ids = [public_id(5, letter) for letter in "kcxa"]
    await publish(store, queue, ids)
    page = await store.read(lambda tx: messages.page_of_queue(tx, queue, Selection(per_page=2)))
    assert ids_of(page) == ["".join(each) for each in reversed(ids[2:])]
    rest = await store.read(lambda tx: messages.page_of_queue(tx, queue, Selection(after=ids[2])))
    assert ids_of(rest) == list(reversed(ids[:2]))


async def test_anchor_of_another_organization_reveals_nothing(store: Store) -> None:
    subject = await _queues(store)
    foreign = a_queue(STRANGER, 900)
    await store.write(lambda tx: queues.insert(tx, foreign))
    known = await _page(store, subject, after=foreign.public_id)
    unknown = await _page(store, subject, after=public_id(900, "q"))
    assert ids_of(known) == ids_of(unknown) == list(reversed(subject.ids))[:3]


@pytest.mark.parametrize("text", ["", "?", "zzzzzzzzzzzzzzzzzzzzz", "\x00é", "~" * 300])
def test_a_text_that_is_no_id_stands_for_some_time(text: str) -> None:
    assert 0 < row_id_at(created_at(text) + 1) <= LARGEST


def test_the_time_of_an_id_is_when_it_was_made() -> None:
    assert created_at(public_id(17)) == NOON + 17
