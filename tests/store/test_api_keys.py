from functools import partial

import msgspec

from discue.store import api_keys
from discue.store.store import Store
from tests.store.rows import a_key, row_id
from tests.support.clocks import NOON

OURS, THEIRS = row_id(1), row_id(2)


async def test_the_time_of_use_only_moves_forward(store: Store) -> None:
    key = a_key(OURS, 10)
    await store.write(lambda tx: api_keys.insert(tx, key))
    for at in (NOON + 5, NOON + 2):
        await store.write(partial(api_keys.mark_used, organization=OURS, key=key.id, at=at))
    read = await store.read(lambda tx: api_keys.get(tx, OURS, key.public_id))
    assert read is not None
    assert read.last_used_at == NOON + 5


async def test_enabled_keys_are_read_in_bounded_steps(store: Store) -> None:
    disabled = msgspec.structs.replace(a_key(OURS, 11), status="disabled")
    for key in (a_key(OURS, 10), disabled, a_key(OURS, 12), a_key(THEIRS, 13)):
        await store.write(partial(api_keys.insert, made=key))
    first = await store.read(lambda tx: api_keys.enabled_after(tx, OURS, 0, 1))
    rest = await store.read(lambda tx: api_keys.enabled_after(tx, OURS, first[-1].id, 10))
    assert [key.id for key in (*first, *rest)] == [row_id(10), row_id(12)]
