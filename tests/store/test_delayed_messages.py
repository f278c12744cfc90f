"""Messages that are not due yet: where they stand, that each is appended once when due, and what is left of them."""

import asyncio
from functools import partial

import msgspec
import pytest

from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import MessageOptions, StoredMessage, encode_options
from discue.domain.model import DeliveryState, Listener, Queue
from discue.store import direct_appends, messages, queues, schedules
from discue.store.engine import Append, Appended, IdempotencyRecord, NewEntry, QueueKey
from discue.store.pagination import Selection
from discue.store.store import Store
from tests.store.rows import (
    head_of,
    public_id,
    publish,
    row_id,
    stored_listener,
    stored_message,
    stored_organization,
    stored_queue,
)
from tests.support.clocks import NOON
from tests.support.messages import read_deliveries

OURS = row_id(1)
DUE = NOON + 5_000


def delayed(number: int, due_at: int = DUE, body: bytes = b'"later"') -> NewEntry:
    extra = encode_options(MessageOptions(deliver_at=due_at))
    return NewEntry(public_id(number), JSON_VALUE, body, extra=extra, due_at=due_at)


async def store_delayed(
    store: Store, queue: Queue, *entries: NewEntry, idempotency_record: IdempotencyRecord | None = None
) -> Appended:
    return await store.append(Append(OURS, queue.id, queue.config_version, NOON, entries, idempotency_record))


async def deliver(store: Store, now: int) -> dict[QueueKey, int]:
    """Append what is due. Returns the heads that the store announces."""
    due, heads = await store.read(partial(direct_appends.due_messages, now=now)), dict[QueueKey, int]()
    store.on_heads = [heads.update]
    await store.write_exclusively(partial(direct_appends.append_due, messages=due, now=now))
    return heads


async def found(store: Store, queue: Queue, number: int) -> StoredMessage:
    return await stored_message(store, queue, public_id(number))


async def test_a_message_waits_at_the_seq_it_was_given_and_gets_another_when_due(store: Store, queue: Queue) -> None:
    appended = await store_delayed(store, queue, NewEntry(public_id(20), JSON_VALUE, b"1"), delayed(21))
    assert [(entry.seq, entry.is_delayed) for entry in appended.entries] == [(1, False), (2, True)]
    page = await store.page(OURS, queue.id, 0, 10, max_bytes=1 << 20)
    assert [(each.seq, each.is_delayed, each.body) for each in page.entries] == [(1, False, b"1"), (2, True, b"")]
    waiting = await found(store, queue, 21)
    assert (waiting.seq, waiting.is_delayed, waiting.stored_at, waiting.body) == (2, True, NOON, b'"later"')
    assert await deliver(store, DUE - 1) == {}
    assert await store.read(schedules.next_publish_at) == DUE
    assert await deliver(store, DUE) == {(OURS, queue.id): 3}
    page = await store.page(OURS, queue.id, 1, 10, max_bytes=1 << 20)
    assert [(each.seq, each.id, each.is_delayed, each.origin_seq, each.stored_at) for each in page.entries] == [
        (3, public_id(21), False, 2, DUE)
    ]
    moved = await found(store, queue, 21)
    assert (moved.seq, moved.origin_seq, moved.is_delayed, moved.stored_at, moved.body) == (
        3,
        2,
        False,
        NOON,
        b'"later"',
    )
    assert moved.options.deliver_at == DUE
    assert await store.read(schedules.next_publish_at) is None


async def test_messages_become_due_in_their_order_and_their_queues(store: Store) -> None:
    one, other = await stored_queue(store, OURS, 10), await stored_queue(store, OURS, 11)
    await store_delayed(store, one, *[delayed(20 + number, DUE - number) for number in range(100)])
    await store_delayed(store, other, delayed(200), delayed(201, DUE + 1))
    assert await deliver(store, DUE) == {(OURS, one.id): 200, (OURS, other.id): 3}
    page = await store.page(OURS, one.id, 0, 500, max_bytes=1 << 20)
    assert [entry.origin_seq for entry in page.entries] == list(range(100, 0, -1))
    assert [entry.seq for entry in page.entries] == list(range(101, 201))
    assert await store.read(schedules.next_publish_at) == DUE + 1


async def test_one_of_many_workers_delivers_a_delayed_message(store: Store, queue: Queue) -> None:
    await store_delayed(store, queue, *[delayed(20 + number) for number in range(70)])
    due = await store.read(partial(direct_appends.due_messages, now=DUE))
    works, heads = [partial(direct_appends.append_due, messages=due, now=DUE) for _ in range(4)], list[object]()
    store.on_heads = [heads.extend]
    await asyncio.gather(*[store.write(work) for work in works])
    assert heads == [((OURS, queue.id), 140)]
    page = await store.page(OURS, queue.id, 0, 500, max_bytes=1 << 20)
    assert len({entry.id for entry in page.entries}) == len(page.entries) == 70


async def test_one_step_takes_no_more_than_a_commit_should(store: Store, queue: Queue) -> None:
    large = b'"%s"' % (b"x" * 400_000)
    for number in range(4):
        await store_delayed(store, queue, delayed(20 + number, body=large))
    assert len(await store.read(partial(direct_appends.due_messages, now=DUE))) == 2
    await store_delayed(store, queue, *[delayed(100 + number, NOON + 1) for number in range(600)])
    assert len(await store.read(partial(direct_appends.due_messages, now=NOON + 1))) == direct_appends.MESSAGES_A_STEP


async def test_a_deleted_message_is_never_due(store: Store, queue: Queue) -> None:
    await store_delayed(store, queue, delayed(20), delayed(21))
    message = await found(store, queue, 20)
    assert await store.write(lambda tx: messages.delete(tx, message))
    assert await deliver(store, DUE) == {(OURS, queue.id): 3}
    assert (await found(store, queue, 21)).seq == 3


async def test_deleted_queue_has_no_due_messages(store: Store, queue: Queue) -> None:
    await store_delayed(store, queue, delayed(20))
    await store.write(lambda tx: queues.mark_deleted(tx, OURS, queue.id, NOON))
    assert await deliver(store, DUE) == {}
    assert await store.read(schedules.next_publish_at) is None


async def test_delayed_message_counts_once_as_published(store: Store, queue: Queue) -> None:
    await publish(store, queue, [public_id(30)])
    await store_delayed(store, queue, delayed(20), delayed(21))
    for now in (NOON, DUE):
        await deliver(store, now)
        head = await head_of(store, queue)
        assert head.published_count == 3


@pytest.mark.parametrize("idempotency_record", [None, IdempotencyRecord((1, 2), b"f", b"c", row_id(9))])
async def test_a_delayed_message_goes_with_others_and_with_a_key(
    store: Store, idempotency_record: IdempotencyRecord | None
) -> None:
    queue = await stored_queue(store, OURS, 10)
    plain = NewEntry(public_id(19), JSON_VALUE, b"1")
    appends = [
        store.append(Append(OURS, queue.id, queue.config_version, NOON, (plain,))),
        store_delayed(store, queue, delayed(20), idempotency_record=idempotency_record),
    ]
    await asyncio.gather(*appends)
    rows = await store.read(lambda tx: tx.rows("SELECT origin_seq, due_at, size FROM scheduled"))
    [(origin_seq, due_at, size)] = rows
    assert (origin_seq, due_at) == (2, DUE)
    assert size > len(delayed(20).body), "its options are counted, too"
    kinds = await store.read(lambda tx: tx.rows("SELECT kind FROM log ORDER BY seq"))
    assert [row[0] for row in kinds] == [0, 1]


async def test_delayed_message_is_for_listeners_that_existed_at_publish(store: Store, queue: Queue) -> None:
    await stored_organization(store, 1)
    old = await stored_listener(store, queue, 11)
    await store_delayed(store, queue, delayed(20))
    young = await stored_listener(store, queue, 12)
    for now in (NOON, DUE):
        await deliver(store, now)
        message = await found(store, queue, 20)
        states = await store.read(partial(read_deliveries, message=message))
        assert [(each.listener_public_id, each.state) for each in states] == [(old.public_id, "pending")]
        expected: tuple[tuple[Listener, DeliveryState | None, list[str]], ...] = (
            (old, "pending", [public_id(20)]),
            (old, "acknowledged", []),
            (old, None, [public_id(20)]),
            (young, "pending", []),
            (young, "acknowledged", []),
            (young, None, []),
        )
        for listener, state, ids in expected:
            selection = Selection(listener=listener.public_id, state=state)
            listed = await store.read(partial(messages.page_of_queue, queue=queue, selection=selection))
            assert [item.id for item in listed.items] == ids


async def test_key_of_a_delayed_message_blocks_nothing_before_it_is_due(store: Store, queue: Queue) -> None:
    await store_delayed(store, queue, msgspec.structs.replace(delayed(20), key_hash=-7), delayed(21))
    for now, keys in ((NOON, [None, None]), (DUE, [-7, None])):
        await deliver(store, now)
        rows = await store.read(lambda tx: tx.rows("SELECT key_hash FROM log ORDER BY seq"))
        assert [row[0] for row in rows] == keys
