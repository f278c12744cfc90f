from functools import partial

import msgspec

from discue.domain.model import Queue
from discue.store import messages
from discue.store.engine import Append, NewEntry
from discue.store.store import Store
from tests.store.rows import public_id, publish, row_id, stored_message, stored_queue
from tests.support.clocks import NOON

OURS, THEIRS = row_id(1), row_id(2)


async def test_a_message_is_read_back_byte_for_byte(store: Store, queue: Queue) -> None:
    entries = (
        NewEntry(public_id(20), False, b"\x00 not json \xff", "greeting"),
        NewEntry(public_id(21), True, b'{"a": 1}'),
    )
    await store.append(Append(OURS, queue.id, 1, NOON + 7, entries))
    text = await store.read(lambda tx: messages.get(tx, queue, public_id(20)))
    json = await store.read(lambda tx: messages.get(tx, queue, public_id(21)))
    assert text is not None
    assert json is not None
    assert (text.body, text.is_json, text.alias, text.seq) == (b"\x00 not json \xff", False, "greeting", 1)
    assert (json.body, json.is_json, json.alias, json.seq) == (b'{"a": 1}', True, public_id(21), 2)
    assert (text.stored_at, text.updated_at) == (NOON + 7, NOON + 7)


async def test_only_its_queue_and_organization_find_it(store: Store, queue: Queue) -> None:
    other = await stored_queue(store, OURS, 11)
    await publish(store, queue, [public_id(20)])
    foreign = msgspec.structs.replace(queue, organization=THEIRS)
    assert await store.read(lambda tx: messages.get(tx, other, public_id(20))) is None
    assert await store.read(lambda tx: messages.get(tx, foreign, public_id(20))) is None


async def test_an_alias_is_changed_and_need_not_be_unique(store: Store, queue: Queue) -> None:
    await publish(store, queue, [public_id(20), public_id(21)])
    for number in (20, 21):
        message = await stored_message(store, queue, public_id(number))
        assert await store.write(partial(messages.set_alias, message=message, alias="same", now=NOON + 9))
        changed = await stored_message(store, queue, public_id(number))
        assert (changed.alias, changed.updated_at, changed.stored_at) == ("same", NOON + 9, NOON)


async def test_deleting_a_message_leaves_its_neighbours_and_gives_its_number_to_nobody(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    await publish(store, queue, [public_id(20), public_id(21)])
    message = await stored_message(store, queue, public_id(21))
    assert await store.write(lambda tx: messages.delete(tx, message))
    assert not await store.write(lambda tx: messages.delete(tx, message))
    assert not await store.write(lambda tx: messages.set_alias(tx, message, "gone", NOON))
    appended = await publish(store, queue, [public_id(22)])
    assert appended.entries[0].seq == 3
    assert await store.read(lambda tx: messages.get(tx, queue, public_id(20))) is not None
