"""Lists of messages by state, key and header, and the states that they show, match what each message says itself."""

from collections.abc import Mapping
from functools import partial
from itertools import product
from random import Random
from typing import Any, NamedTuple, get_args

import pytest

from discue.domain.errors import BadRequest
from discue.domain.headers import Headers
from discue.domain.messages import MessageOptions, MessageState, StoredMessage, encode_options, hash_key
from discue.domain.model import Delivery, Listener, Queue
from discue.store import across_queues, listeners, message_filters, messages, recipients
from discue.store.engine import Append, DeliveryRow, NewEntry, Transaction
from discue.store.pagination import Listing, ScanLimits, Selection
from discue.store.recipients import find_recipient, states_of
from discue.store.store import Store
from tests.store.rows import (
    a_listener,
    a_settle,
    append_all,
    public_id,
    row_id,
    stored_listener,
    stored_organization,
    stored_queue,
)
from tests.store.test_listener_messages import EXCEPTIONS, World, _settle
from tests.store.walks import check, forwards
from tests.support.clocks import NOON
from tests.support.everywhere import seeds
from tests.support.messages import read_deliveries, read_message

OURS = row_id(1)
FIRST, COUNT = 100, 24
KEYS = (None, "a", "b")
HEADERS: tuple[Headers, ...] = ((), (("X-Shop", "north"),), (("x-shop", "south"), ("x-other", "1")))
STATES: tuple[MessageState, ...] = get_args(MessageState)


class Item(NamedTuple):
    """A message as it says itself what it is."""

    message: StoredMessage
    state: MessageState
    state_for_first: str
    """The state for the first listener, "" if it was not stored for it."""


class Subject(NamedTuple):
    queues: list[Queue]
    listener: Listener
    items: dict[int, list[Item]]
    """By queue, newest first."""


def _entry(chance: Random, number: int, *, is_delayed: bool) -> NewEntry:
    options = MessageOptions(chance.choice(HEADERS), chance.choice(KEYS), deliver_at=NOON * 2 if is_delayed else None)
    key_hash = None if options.key is None else hash_key(options.key)
    alias = chance.choice((None, "orders"))
    return NewEntry(
        public_id(FIRST + number),
        True,
        b"1" * (number + 1),
        alias,
        key_hash=key_hash,
        extra=encode_options(options),
        due_at=options.deliver_at,
    )


async def _publish(store: Store, queues: list[Queue], chance: Random, numbers: range, queue: int | None = None) -> None:
    appends = []
    for number in numbers:
        to = queues[number % 3 == 0] if queue is None else queues[queue]
        entry = _entry(chance, number, is_delayed=chance.random() < 0.15)
        appends.append(Append(OURS, to.id, to.config_version, NOON + FIRST + number, (entry,)))
    await append_all(store, appends)


def _world(chance: Random, before: int, total: int) -> World:
    fates = [
        (chance.random() < 0.7, chance.choice(EXCEPTIONS) if chance.random() < 0.4 else None)
        for _ in range(total - before)
    ]
    ranges = [(chance.randrange(4), chance.randrange(1, 5)) for _ in range(chance.randrange(4))]
    return World(before, fates, chance.randrange(total), ranges, set(), [])


async def _made(store: Store, seed: int) -> Subject:
    """Store messages of two queues, and what three listeners of the first did with them."""
    chance = Random(seed)  # noqa: S311 - repeatable
    await stored_organization(store, 1)
    owners = [await stored_queue(store, OURS, number) for number in (10, 11)]
    start = chance.randrange(5)
    await _publish(store, owners, chance, range(start), 0)
    made = [await stored_listener(store, owners[0], number) for number in (20, 21, 22)]
    await _publish(store, owners, chance, range(start, COUNT))
    head = await store.read(lambda tx: tx.row("SELECT head FROM queue_head WHERE queue = $1", owners[0].id))
    assert head is not None
    for listener in made[: chance.randrange(1, 4)]:
        await store.settle(_settle(listener, _world(chance, start, head[0])))
    return Subject(owners, made[0], {queue.id: await _items(store, queue, made[0]) for queue in owners})


async def _items(store: Store, queue: Queue, first: Listener) -> list[Item]:
    async def work(tx: Transaction) -> list[Item]:
        found = []
        for number in reversed(range(COUNT)):
            message = await read_message(tx, queue, public_id(FIRST + number))
            if message is not None:
                of = await read_deliveries(tx, message)
                own = next((each.state for each in of if each.listener_public_id == first.public_id), "")
                found.append(Item(message, _summed_up(of), own))
        return found

    return await store.read(work)


def _summed_up(of: list[Delivery]) -> MessageState:
    states = {each.state for each in of}
    if not states:
        return "no_listeners"
    order: tuple[MessageState, ...] = ("missed", "retrying", "pending")
    return next((state for state in order if state in states), "acknowledged")


def _selections() -> list[dict[str, Any]]:
    states: tuple[MessageState | None, ...] = (None, *STATES)
    found = [
        {"state": state, "key": key, "header": header}
        for state, key, header in product(states, (None, "a", "c"), (None, "X-SHOP", "x-shop:north", "x-other:2"))
        if (state, key, header) != (None, None, None)
    ]
    return [*found[::2], {"key": "b", "alias": "orders", "created_after": NOON + FIRST + 5}]


def _passes(item: Item, selection: Selection, state: str) -> bool:
    options, name, value = item.message.options, *(selection.header or "").partition(":")[::2]
    headers = {(sent.lower(), given) for sent, given in options.headers}
    has_header = not name or any(sent == name.lower() and value in ("", given) for sent, given in headers)
    return (
        has_header
        and selection.state in (None, state)
        and selection.key in (None, options.key)
        and selection.alias in (None, item.message.alias)
        and selection.admits(item.message.stored_at)
    )


@pytest.mark.parametrize("seed", seeds(4))
async def test_lists_show_the_state_that_the_deliveries_of_a_message_have(
    store: Store, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipients, "_LISTENERS_AT_ONCE", 1 + seed % 2)
    subject = await _made(store, seed)
    # With many ranges, those of each listener are read: here, from none on.
    ways = (0, recipients._RANGES_LOOKED_AT)
    for queue, most in product(subject.queues, ways):
        monkeypatch.setattr(recipients, "_RANGES_LOOKED_AT", most)
        page = await store.read(partial(messages.page_of_queue, queue=queue, selection=Selection(per_page=100)))
        items = {item.message.id: item for item in subject.items[queue.id]}
        assert {each.id: (each.size, each.options, each.is_delayed, each.origin_seq) for each in page.items} == {
            name: (
                len(item.message.body or b""),
                item.message.options,
                item.message.is_delayed,
                item.message.origin_seq,
            )
            for name, item in items.items()
        }
        shown = await _shown_states(store, queue, page)
        assert {each.id: shown[each.seq] for each in page.items} == {name: item.state for name, item in items.items()}


@pytest.mark.parametrize("seed", seeds(3))
async def test_messages_are_found_by_state_and_key_and_header(store: Store, seed: int) -> None:
    subject = await _made(store, seed)
    queue, both = subject.queues[0], [*subject.items[subject.queues[0].id], *subject.items[subject.queues[1].id]]
    both.sort(key=lambda item: item.message.id, reverse=True)
    own = subject.items[queue.id]
    one = {subject.queues[1].public_id, *(item.message.id for item in own[::2])}
    confined = [item for item in both if item.message.queue != queue.id or item.message.id in one]
    lists: list[tuple[Any, list[Item]]] = [
        (lambda tx, selection: messages.page_of_queue(tx, queue, selection), own),
        (lambda tx, selection: messages.page_of_queue(tx, queue, selection, one), own[::2]),
        (lambda tx, selection: messages.page(tx, OURS, selection), both),
        (lambda tx, selection: messages.page(tx, OURS, selection, one), confined),
    ]
    for (pages, items), given in product(lists, _selections()):
        selection = Selection(per_page=3, **given)
        expected = [item.message.id for item in items if _passes(item, selection, item.state)]
        await check(store, pages, selection, expected)
    for given in _selections():
        if given.get("state") != "no_listeners":
            selection = Selection(per_page=3, listener=subject.listener.public_id, **given)
            expected = [
                item.message.id
                for item in own
                if item.state_for_first and _passes(item, selection, item.state_for_first)
            ]
            await check(store, lambda tx, each: messages.page(tx, OURS, each), selection, expected)


async def test_list_that_is_cut_short_continues(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_filters, "_LIMITS", ScanLimits(None, 2, 3))
    monkeypatch.setattr(across_queues, "_LIMITS", ScanLimits(None, 2, 3))
    for name in ("_LIMITS_OF_STATE", "_LIMITS_OF_STATE_AMONG"):
        monkeypatch.setattr(message_filters, name, ScanLimits(2, 2, 3))
    monkeypatch.setattr(message_filters, "_STATES_FIRST", 1)
    subject = await _made(store, 1)
    both = [*subject.items[subject.queues[0].id], *subject.items[subject.queues[1].id]]
    both.sort(key=lambda item: item.message.id, reverse=True)
    for given in ({"header": "x-other"}, {"state": "pending"}, {"state": "no_listeners", "key": "c"}):
        selection = Selection(per_page=3, **given)  # type: ignore[arg-type]
        expected = [item.message.id for item in both if _passes(item, selection, item.state)]
        assert await forwards(store, lambda tx, each: messages.page(tx, OURS, each), selection) == expected
        queue = subject.queues[0]
        expected = [item.message.id for item in subject.items[queue.id] if _passes(item, selection, item.state)]
        assert await forwards(store, partial(_of_queue, queue), selection) == expected
    with pytest.raises(BadRequest):
        await store.read(partial(_of_queue, subject.queues[0], selection=Selection(page=9, header="x-other")))


async def test_filters_look_at_no_more_messages_for_a_key_that_may_read_some_queues(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across_queues, "_LIMITS", ScanLimits(2, 2, 2))
    subject = await _made(store, 1)
    only = {queue.public_id for queue in subject.queues}
    for given in ({"key": "c"}, {"header": "x-nothing"}, {"state": "missed", "key": "c"}):
        selection = Selection(**given)  # type: ignore[arg-type]
        page = await store.read(partial(messages.page, organization=OURS, selection=selection, only=only))
        assert (page.items, page.has_next) == ((), True)


async def _of_queue(queue: Queue, tx: Transaction, selection: Selection) -> Listing[StoredMessage]:
    return await messages.page_of_queue(tx, queue, selection)


async def test_every_listener_of_a_queue_counts_for_the_states_of_its_messages(store: Store) -> None:
    subject = await _made(store, 1)
    queue = subject.queues[0]

    async def add_listeners(tx: Transaction) -> None:
        for number in range(200, 320):
            await listeners.insert(tx, a_listener(queue, number), COUNT)

    before = await _states(store, queue)
    await store.write(add_listeners)
    assert len(before) > 1
    assert await _states(store, queue) == before, "all of them are younger than the messages"
    # The last one has received none of them.
    await store.write(lambda tx: listeners.insert(tx, a_listener(queue, 330), 0))
    waiting = {seq: state if state in {"missed", "retrying"} else "pending" for seq, state in before.items()}
    assert await _states(store, queue) == waiting != before


async def test_queue_with_too_many_listeners_has_no_states(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "LISTENERS_AT_MOST", 6)
    monkeypatch.setattr(messages, "LISTENERS_OF_ANY_QUEUE", 2)
    subject = await _made(store, 1)
    queue = subject.queues[0]
    assert await _states(store, queue) == await _states_among(store, queue, 2) != {}
    assert await _states_among(store, queue, 3) == {}


async def test_page_with_too_many_delivery_rows_has_no_states(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = await _made(store, 1)
    monkeypatch.setattr(recipients, "_ROWS_AT_MOST", 0)
    assert await _states(store, subject.queues[0]) == {}


async def _states(store: Store, queue: Queue) -> Mapping[int, MessageState]:
    page = await store.read(partial(messages.page_of_queue, queue=queue, selection=Selection(per_page=100)))
    return await _shown_states(store, queue, page)


async def _shown_states(store: Store, queue: Queue, page: Listing[StoredMessage]) -> Mapping[int, MessageState]:
    found = {queue.id: page.items}
    states = await store.read(partial(messages.states_of_all, organization=OURS, found=found))
    return {seq: state for (_, seq), state in states.items()}


async def _states_among(store: Store, queue: Queue, queues: int) -> Mapping[int, MessageState]:
    """Read the states of one queue's messages on a page that has those of others, too."""
    page = await store.read(partial(messages.page_of_queue, queue=queue, selection=Selection(per_page=100)))
    found = {queue.id: page.items} | {row_id(900 + number): () for number in range(1, queues)}
    states = await store.read(partial(messages.states_of_all, organization=OURS, found=found))
    return {seq: state for (of, seq), state in states.items() if of == queue.id}


async def test_state_of_a_queue_with_many_listeners_needs_one_of_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_filters, "LISTENERS_OF_ANY_QUEUE", 2)
    subject = await _made(store, 1)
    queue = subject.queues[0]
    for pages in (partial(_of_queue, queue), partial(messages.page, organization=OURS)):
        with pytest.raises(BadRequest) as refused:
            await store.read(partial(pages, selection=Selection(state="missed")))
        assert refused.value.faults[0].pointer == "?state"
    with_listener = Selection(state="missed", listener=subject.listener.public_id)
    await store.read(partial(messages.page, organization=OURS, selection=with_listener))


async def test_message_that_waits_for_its_key_is_pending(store: Store) -> None:
    await stored_organization(store, 1)
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 20)
    entries = tuple(
        NewEntry(public_id(FIRST + number), True, b"1", key_hash=hash_key(key)) for number, key in enumerate("aabc")
    )
    await store.append(Append(OURS, queue.id, queue.config_version, NOON, entries))
    holds_its_key = DeliveryRow(1, "retry", 2, NOON, "", key_hash=hash_key("a"), blocked=1)
    await store.settle(a_settle(listener, 4, acknowledged=2, retrying=2, delivery_rows=(holds_its_key,)))
    expected = {4: "acknowledged", 3: "acknowledged", 2: "pending", 1: "retrying"}
    assert await _states(store, queue) == expected
    of = await store.read(partial(find_recipient, organization=OURS, public_id=listener.public_id))
    assert of is not None
    assert await store.read(partial(states_of, of=of, seqs=[4, 3, 2, 1])) == expected
