"""All workers together run three replays of an organization at a time."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.faults.client import Client
from tests.faults.product import Product
from tests.faults.receiver import Delivered, Receiver
from tests.support.databases import ENOUGH

_WORKERS = 3
_MESSAGES = 12
_REPLAYS_OF_EACH = 3
_AT_ONCE = 3


Query = Callable[[str], Awaitable[Sequence[Any]]]
"""Reads rows of the database."""


class _Cluster:
    """Three workers, each with at least three listeners on a queue of messages that no listener has received."""

    def __init__(self, products: list[Product], sessions: list[int], queue: str, owned: dict[int, list[str]]) -> None:
        self.products = products
        """A product for each worker, or a single one for all of them."""
        self.sessions = sessions
        """The sessions of the workers, in the order in which they joined."""
        self.queue = queue
        self.owned = owned
        """The listeners of each session."""

    def client(self) -> Client:
        return self.products[-1].client()

    async def replay(self, client: Client, session_id: int, **fields: int) -> list[str]:
        """Start replays on listeners of a worker. Returns their paths."""
        places = [f"/queues/{self.queue}/listeners/{each}/replays" for each in self.owned[session_id]]
        asked = [(place, await client.create(place, {"from_at": 0, **fields})) for place in places[:_REPLAYS_OF_EACH]]
        return [f"{place}/{replay['id']}" for place, replay in asked]


@asynccontextmanager
async def _cluster(
    folder: Path, database: str, receiver: Receiver, *, messages: int = _MESSAGES
) -> AsyncIterator[_Cluster]:
    async with AsyncExitStack() as stack:
        served = partial(Product, folder, database=database, lease_seconds=2)
        if database.startswith("sqlite"):
            # On one machine, the workers are processes of one server.
            products = [await stack.enter_async_context(served(workers=_WORKERS))]
            query = _query_of_file(database.removeprefix("sqlite:///"))
        else:
            products = [await stack.enter_async_context(served()) for _ in range(_WORKERS)]
            connection = await asyncpg.connect(database)
            stack.push_async_callback(connection.close)
            query = connection.fetch
        sessions = [row[0] for row in await query("SELECT session_id FROM worker WHERE dead = 0 ORDER BY session_id")]
        assert len(sessions) == _WORKERS
        client = products[0].client()
        queue = await client.queue()
        await client.create(f"/queues/{queue}/messages/batch", {"messages": [{"data": "x"}] * messages})
        owned = await _listeners(client, queue, query, receiver)
        yield _Cluster(products, sessions, queue, owned)


def _query_of_file(path: str) -> Query:
    async def query(sql: str) -> Sequence[Any]:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    return query


async def _listeners(client: Client, queue: str, query: Query, receiver: Receiver) -> dict[int, list[str]]:
    """Create listeners until each worker owns enough of them."""
    while True:
        url = receiver.url("listener")
        fields = {"notify_url": url, "liveness_url": url, "max_in_flight": 1}
        await client.create(f"/queues/{queue}/listeners", fields)
        owned: dict[int, list[str]] = {}
        for owner, listener in await query(
            "SELECT owner, l.public_id FROM cursor c JOIN listener l ON l.organization = c.organization "
            "AND l.id = c.listener WHERE owner IS NOT NULL"
        ):
            owned.setdefault(owner, []).append(listener)
        if sum(len(listeners) >= _REPLAYS_OF_EACH for listeners in owned.values()) == _WORKERS:
            return owned


def _most_at_once(delivered: list[Delivered]) -> int:
    """Return how many replays ran at the same time.

    A replay runs from its first message until its last one has begun: the one before the last has ended by then.
    """
    received, most = Counter[str](), 0
    for each in delivered:
        received[each.headers["discue-replay"]] += 1
        most = max(most, sum(count < _MESSAGES - 1 for count in received.values()))
    return most


@pytest.mark.parametrize("engine_name", ENOUGH)
async def test_three_workers_run_three_replays_of_an_organization_together(tmp_path: Path, database: str) -> None:
    async with Receiver() as receiver, _cluster(tmp_path, database, receiver) as cluster:
        client = cluster.client()
        replays = [path for each in cluster.sessions for path in await cluster.replay(client, each, pace=40)]
        async with asyncio.timeout(60):
            shown = [await client.until_shown(path, lambda shown: shown["state"] == "done") for path in replays]
        assert [each["counts"]["delivered"] for each in shown] == [_MESSAGES] * 9
        assert _most_at_once(receiver.delivered) == _AT_ONCE


@pytest.mark.parametrize("engine_name", ["postgres"])
async def test_slow_replays_of_one_worker_leave_their_slots_to_others_after_a_turn(
    tmp_path: Path, database: str
) -> None:
    async with Receiver() as receiver, _cluster(tmp_path, database, receiver, messages=200) as cluster:
        client, (first, other, _) = cluster.client(), cluster.sessions
        slow = await cluster.replay(client, first, pace=1)
        await receiver.until(lambda: len({each.headers["discue-replay"] for each in receiver.delivered}) == _AT_ONCE)
        waiting = await cluster.replay(client, other, pace=100)
        async with asyncio.timeout(60):
            for path in waiting:
                await client.until_shown(path, lambda shown: shown["state"] == "done")
        assert [(await client.get(path))["replay"]["state"] for path in slow] == ["running"] * _AT_ONCE


@pytest.mark.parametrize("engine_name", ["postgres"])
async def test_death_of_a_worker_frees_its_replay_slots(tmp_path: Path, database: str) -> None:
    async with Receiver() as receiver, _cluster(tmp_path, database, receiver) as cluster:
        client, (first, *others) = cluster.client(), cluster.sessions
        slow = await cluster.replay(client, first, pace=2)
        await receiver.until(lambda: len({each.headers["discue-replay"] for each in receiver.delivered}) == _AT_ONCE)
        waiting = [path for each in others for path in await cluster.replay(client, each)]
        assert [(await client.get(path))["replay"]["state"] for path in waiting] == ["waiting"] * 6
        before = {each.headers["discue-replay"] for each in receiver.delivered}
        await cluster.products[0].kill()
        assert before == {path.rsplit("/", 1)[1] for path in slow}
        async with asyncio.timeout(60):
            for path in [*waiting, *slow]:
                shown = await client.until_shown(path, lambda shown: shown["state"] == "done")
                assert shown["counts"]["delivered"] == _MESSAGES
