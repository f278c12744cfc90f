from functools import partial

import pytest

from discue.store import queues
from discue.store.engine import QueueClosed
from discue.store.store import Store
from tests.store.rows import public_id, publish, row_id, stored_queue
from tests.support.clocks import NOON

OURS, THEIRS = row_id(1), row_id(2)


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
