"""Any mix of filters and pages gives exactly what a simple model gives, in order."""

from collections.abc import Awaitable, Callable, Iterable
from itertools import product
from typing import Any, NamedTuple

import msgspec
import pytest

from discue.domain.message_data import JSON_VALUE
from discue.domain.model import Queue
from discue.store import api_keys, domains, listeners, messages, organizations, queues, users
from discue.store.engine import Append, NewEntry, Transaction
from discue.store.pagination import Selection
from discue.store.store import Store
from tests.store.rows import (
    a_domain,
    a_key,
    a_listener,
    a_queue,
    an_organization,
    append_all,
    public_id,
    publish,
    row_id,
    stored_queue,
)
from tests.store.test_users import a_user
from tests.store.walks import Pages, check
from tests.support.clocks import NOON
from tests.support.messages import read_message

OURS, THEIRS = row_id(1), row_id(2)
NUMBERS = range(100, 112)
CHOSEN = (101, 103, 104, 110)


class Item(NamedTuple):
    """A listed item in the model."""

    id: str
    alias: str
    created_at: int


class Subject(NamedTuple):
    """A list, and what the model says is in it, oldest first."""

    pages: Pages
    items: list[Item]


Build = Callable[[Store], Awaitable[Subject]]
Insert = Callable[[Transaction, Any], Awaitable[None]]


def created(number: int) -> int:
    """Not quite in the order of the ids: a clock is set at times."""
    return NOON + 10 * (number // 3) - number % 3


async def inserted(store: Store, insert: Insert, rows: Iterable[Any]) -> None:
    async def work(tx: Transaction) -> None:
        for row in rows:
            await insert(tx, row)

    await store.write(work)


def items_of(rows: Iterable[Any]) -> list[Item]:
    return [Item(row.public_id, getattr(row, "alias", None) or row.email, row.created_at) for row in rows]


async def _organizations(store: Store) -> Subject:
    rows = [msgspec.structs.replace(an_organization(number), created_at=created(number)) for number in NUMBERS]
    await inserted(store, organizations.insert, rows)
    return Subject(organizations.page, items_of(rows))


async def _keys(store: Store) -> Subject:
    rows = [msgspec.structs.replace(a_key(OURS, number), created_at=created(number)) for number in NUMBERS]
    await inserted(store, api_keys.insert, rows)
    await inserted(store, api_keys.insert, [a_key(THEIRS, number + 200, f"key-{number}") for number in NUMBERS])
    return Subject(lambda tx, selection: api_keys.page(tx, OURS, selection), items_of(rows))


async def _users(store: Store) -> Subject:
    rows = [a_user(number, OURS, created_at=created(number)) for number in NUMBERS]
    await inserted(store, users.insert, rows)
    await inserted(store, users.insert, [a_user(number + 200, THEIRS) for number in NUMBERS])
    return Subject(lambda tx, selection: users.page(tx, OURS, selection), items_of(rows))


async def _domains(store: Store) -> Subject:
    rows = [a_domain(number, organization=OURS, created_at=created(number)) for number in NUMBERS]
    await inserted(store, domains.insert, rows)
    return Subject(lambda tx, selection: domains.page(tx, OURS, selection), items_of(rows))


async def _stored_queues(store: Store) -> list[Queue]:
    rows = [msgspec.structs.replace(a_queue(OURS, number), created_at=created(number)) for number in NUMBERS]
    await inserted(store, queues.insert, rows)
    await inserted(store, queues.insert, [a_queue(THEIRS, number + 200, f"queue-{number}") for number in NUMBERS])
    return rows


async def _queues(store: Store) -> Subject:
    rows = await _stored_queues(store)
    return Subject(lambda tx, selection: queues.page(tx, OURS, selection), items_of(rows))


async def _queues_confined(store: Store) -> Subject:
    rows = await _stored_queues(store)
    only = {public_id(number) for number in (*CHOSEN, 303)}
    confined = [row for row in rows if row.public_id in only]
    return Subject(lambda tx, selection: queues.page(tx, OURS, selection, only), items_of(confined))


async def _stored_listeners(store: Store) -> tuple[list[Queue], list[Any]]:
    """Store listeners of three queues, in which most aliases are the same."""
    owners = [await stored_queue(store, OURS, number) for number in (10, 11, 12)]
    rows = [
        msgspec.structs.replace(
            a_listener(owners[number % 3], number, f"called-{number // 3 % 3}"), created_at=created(number)
        )
        for number in range(100, 109)
    ]
    await inserted(store, lambda tx, row: listeners.insert(tx, row, 0), rows)
    return owners, rows


async def _listeners(store: Store) -> Subject:
    _, rows = await _stored_listeners(store)
    return Subject(lambda tx, selection: listeners.page(tx, OURS, selection), items_of(rows))


async def _listeners_of_queue(store: Store) -> Subject:
    owners, rows = await _stored_listeners(store)
    mine = [row for row in rows if row.queue == owners[1].id]
    return Subject(lambda tx, selection: listeners.page_of_queue(tx, owners[1], selection), items_of(mine))


async def _listeners_confined(store: Store) -> Subject:
    """Limit the list to all of a queue, and two listeners of others."""
    owners, rows = await _stored_listeners(store)
    only = {owners[0].public_id, public_id(100), public_id(101), public_id(103)}
    mine = [row for row in rows if row.queue == owners[0].id or row.public_id in only]
    return Subject(lambda tx, selection: listeners.page(tx, OURS, selection, only), items_of(mine))


class Published(NamedTuple):
    queue: Queue
    item: Item


async def _published(store: Store) -> tuple[list[Queue], list[Published]]:
    """To two queues in turns; some without an alias, some with one that many have, one with the id of another."""
    owners = [await stored_queue(store, OURS, number) for number in (10, 11)]
    published, appends = [], []
    for number in NUMBERS:
        queue, alias = owners[number % 2], (None, "orders", "bills", "orders")[number % 4]
        if number == 111:
            alias = public_id(100)
        entry = NewEntry(public_id(number), JSON_VALUE, b"1", alias)
        at = NOON + number + number % 3
        appends.append(Append(OURS, queue.id, queue.config_version, at, (entry,)))
        published.append((queue, public_id(number), alias))
    await append_all(store, appends)
    return owners, [await _as_stored(store, *each) for each in published]


async def _as_stored(store: Store, queue: Queue, message: str, alias: str | None) -> Published:
    found = await store.read(lambda tx: read_message(tx, queue, message))
    assert found is not None
    return Published(queue, Item(message, alias or message, found.stored_at))


async def _messages(store: Store) -> Subject:
    _, published = await _published(store)
    return Subject(lambda tx, selection: messages.page(tx, OURS, selection), [each.item for each in published])


async def _messages_of_queue(store: Store) -> Subject:
    owners, published = await _published(store)
    mine = [each.item for each in published if each.queue is owners[1]]
    return Subject(lambda tx, selection: messages.page_of_queue(tx, owners[1], selection), mine)


async def _messages_confined(store: Store) -> Subject:
    """Limit the list to all messages of one queue and two messages of the other."""
    owners, published = await _published(store)
    only = {owners[0].public_id, public_id(101), public_id(102), public_id(107)}
    mine = [each.item for each in published if each.queue is owners[0] or each.item.id in only]
    return Subject(lambda tx, selection: messages.page(tx, OURS, selection, only), mine)


async def _messages_by_id(store: Store) -> Subject:
    """Limit the list to some messages and no queues."""
    _, published = await _published(store)
    only = {public_id(101), public_id(102), public_id(107), public_id(111)}
    mine = [each.item for each in published if each.item.id in only]
    return Subject(lambda tx, selection: messages.page(tx, OURS, selection, only), mine)


async def _messages_of_one_queue(store: Store) -> Subject:
    """Limit the list of all queues to one of them."""
    owners, published = await _published(store)
    mine = [each.item for each in published if each.queue is owners[1]]
    return Subject(lambda tx, selection: messages.page(tx, OURS, selection, {owners[1].public_id}), mine)


async def _messages_of_two_queues(store: Store) -> Subject:
    """Limit the list to two of three queues."""
    owners, published = await _published(store)
    other = await stored_queue(store, OURS, 12)
    await publish(store, other, [public_id(number) for number in range(200, 205)], NOON + 115)
    only = {owner.public_id for owner in owners}
    return Subject(lambda tx, selection: messages.page(tx, OURS, selection, only), [each.item for each in published])


SUBJECTS: tuple[Build, ...] = (
    _organizations,
    _keys,
    _users,
    _domains,
    _queues,
    _queues_confined,
    _listeners,
    _listeners_of_queue,
    _listeners_confined,
    _messages,
    _messages_of_queue,
    _messages_confined,
    _messages_by_id,
    _messages_of_one_queue,
    _messages_of_two_queues,
)


def _selections(items: list[Item]) -> Iterable[Selection]:
    """Every bound that makes a difference with some that make none, and every alias."""
    times = [None, 0, *sorted({item.created_at for item in items})[1::3], 10**15 - 1]
    aliases = [None, "nobody's", *sorted({item.alias for item in items})[:2], public_id(100)]
    for alias, after, before in product(aliases, times, times[::2]):
        yield Selection(per_page=3, alias=alias, created_after=after, created_before=before)


async def _check_neighbours(store: Store, pages: Pages, oldest: str, newest: str) -> None:
    async def neighbours(**selected: Any) -> tuple[bool, bool]:
        page = await store.read(lambda tx: pages(tx, Selection(**selected)))
        return page.has_previous, page.has_next

    assert await neighbours(per_page=1) == (False, True)
    assert await neighbours(per_page=1, after=newest) == await neighbours(per_page=1, before=oldest) == (True, True)
    assert await neighbours(per_page=100, after=newest) == (True, False)
    assert await neighbours(per_page=100, before=oldest) == (False, True)


def _passes(item: Item, selection: Selection) -> bool:
    after, before = selection.created_after, selection.created_before
    if selection.alias not in (None, item.alias):
        return False
    return (after is None or item.created_at > after) and (before is None or item.created_at < before)


@pytest.mark.parametrize("subject_of", SUBJECTS, ids=lambda build: build.__name__.strip("_"))
async def test_filters_match_a_model_and_pages_know_their_neighbours(store: Store, subject_of: Build) -> None:
    pages, items = await subject_of(store)
    await _check_neighbours(store, pages, items[0].id, items[-1].id)
    for selection in _selections(items):
        expected = [item.id for item in reversed(items) if _passes(item, selection)]
        await check(store, pages, selection, expected)
