from functools import partial

import msgspec
import pytest

from discue.store import queues
from discue.store.engine import QueueClosed, UniqueViolation
from discue.store.queues import Head
from discue.store.store import Store
from tests.store.rows import a_queue, public_id, publish, row_id, stored_queue
from tests.support.clocks import NOON

OURS, THEIRS = row_id(1), row_id(2)


async def test_a_new_queue_has_an_empty_log(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    assert await store.read(lambda tx: queues.get(tx, OURS, queue.public_id)) == queue
    assert await store.read(lambda tx: queues.head(tx, OURS, queue.id)) == Head(0, 0, 0)


async def test_settings_that_were_chosen_are_kept_and_others_stay_open(store: Store) -> None:
    chosen = msgspec.structs.replace(a_queue(OURS, 10), retention_seconds=0)
    await store.write(lambda tx: queues.insert(tx, chosen))
    read = await store.read(lambda tx: queues.get(tx, OURS, chosen.public_id))
    assert read is not None
    assert (read.retention_seconds, read.max_message_bytes) == (0, None)


async def test_an_alias_is_free_at_once_when_its_queue_is_deleted(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    namesake = a_queue(OURS, 11, queue.alias)
    with pytest.raises(UniqueViolation):
        await store.write(lambda tx: queues.insert(tx, namesake))
    assert await store.write(lambda tx: queues.mark_deleted(tx, OURS, queue.id, NOON))
    await store.write(lambda tx: queues.insert(tx, namesake))


async def test_logs_are_closed_in_steps_and_only_those_of_one_organization(store: Store) -> None:
    mine = [await stored_queue(store, OURS, number) for number in (10, 11, 12)]
    theirs = await stored_queue(store, THEIRS, 13)
    last: int | None = 0
    steps = 0
    while last is not None:
        last = await store.write(partial(queues.close_some, organization=OURS, after=last, limit=2, now=NOON))
        steps += 1
    assert steps == 3
    for queue in mine:
        with pytest.raises(QueueClosed):
            await publish(store, queue, [public_id(20)])
    await publish(store, theirs, [public_id(20)])
