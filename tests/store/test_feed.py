import asyncio
from functools import partial

import pytest

from discue.store import feed
from discue.store.engine import Transaction
from discue.store.feed import Change
from discue.store.store import Store


async def test_changes_are_numbered_without_gaps_in_the_order_of_their_commits(store: Store) -> None:
    assert await store.read(feed.head) == 0
    await asyncio.gather(
        *(store.write(partial(feed.record, kind="queue", organization=1, ref=ref)) for ref in range(50))
    )
    changes = await store.read(lambda tx: feed.since(tx, 0, 100))
    assert [change.version for change in changes] == list(range(1, 51))
    assert {change.ref for change in changes} == set(range(50))
    assert await store.read(feed.head) == 50


async def test_a_change_that_was_rolled_back_took_no_number(store: Store) -> None:
    async def fails(tx: Transaction) -> None:
        await feed.record(tx, "queue", 1, 1)
        raise KeyError

    with pytest.raises(KeyError):
        await store.write(fails)
    assert await store.write(lambda tx: feed.record(tx, "api_key", 1, 2)) == 1
    assert await store.read(lambda tx: feed.since(tx, 0, 10)) == [Change(1, "api_key", 1, 2)]
