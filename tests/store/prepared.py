"""Databases of which a server's planner knows something: each is made once, and left as it was by every test."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, TypeVar

import pytest

from discue.domain.model import Listener, Queue
from discue.store.engine import Transaction
from discue.store.postgres.connection import PostgresTransaction
from discue.store.postgres.engine import PostgresEngine
from discue.store.store import Store
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import shared_cluster
from tests.support.stores import BUSY_SECONDS, migrated_template, store_on

Prepare = Callable[[Cluster, str], None]
Lay = Callable[[Store], Coroutine[Any, Any, tuple[Queue, Listener]]]
T = TypeVar("T")

on_prepared = pytest.mark.xdist_group("prepared databases")
"""Only one of the processes that run tests in parallel prepares the databases."""


class Prepared(NamedTuple):
    """A store, and what is in it."""

    store: Store
    queue: Queue
    listener: Listener

    async def try_out(self, work: Callable[[Transaction], Coroutine[Any, Any, T]]) -> T:
        """Run a work, return its result, and undo its writes."""
        engine = self.store.engine
        assert isinstance(engine, PostgresEngine)
        async with engine._working.connection() as connection:
            await connection.client.execute("BEGIN")
            try:
                return await work(PostgresTransaction(connection.client))
            finally:
                await connection.client.execute("ROLLBACK")


@contextmanager
def prepared_by(runner: asyncio.Runner, prepare: Prepare, lay: Lay) -> Iterator[Prepared]:
    name, queue, listener = _laid(prepare, lay)
    dsn = shared_cluster().dsn(name)
    engine = PostgresEngine(dsn, report=_unexpected, commit_seconds=60, connect_seconds=BUSY_SECONDS)
    with store_on(runner, engine) as store:
        yield Prepared(store, queue, listener)


@cache
def _laid(prepare: Prepare, lay: Lay) -> tuple[str, Queue, Listener]:
    cluster, name = shared_cluster(), f"{lay.__module__}{prepare.__name__}"
    cluster.create_database(name, migrated_template())
    engine = PostgresEngine(cluster.dsn(name), report=_unexpected, connect_seconds=BUSY_SECONDS)
    with asyncio.Runner() as runner, store_on(runner, engine) as store:
        queue, listener = runner.run(lay(store))
    prepare(cluster, name)
    return name, queue, listener


def _unexpected(place: str, error: BaseException) -> None:
    raise AssertionError(f"the engine reported a failure: {place}") from error
