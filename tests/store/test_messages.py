from discue.store import messages
from discue.store.store import Store
from tests.store.rows import public_id, publish, row_id, stored_message, stored_queue
from tests.support.clocks import NOON
from tests.support.messages import read_message

OURS, THEIRS = row_id(1), row_id(2)


async def test_deleting_a_message_leaves_its_neighbours_and_gives_its_number_to_nobody(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    await publish(store, queue, [public_id(20), public_id(21)])
    message = await stored_message(store, queue, public_id(21))
    assert await store.write(lambda tx: messages.delete(tx, message))
    assert not await store.write(lambda tx: messages.delete(tx, message))
    assert not await store.write(lambda tx: messages.set_alias(tx, message, "gone", NOON))
    appended = await publish(store, queue, [public_id(22)])
    assert appended.entries[0].seq == 3
    assert await store.read(lambda tx: read_message(tx, queue, public_id(20))) is not None
