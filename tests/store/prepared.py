"""Databases of which a server's planner knows something: each is made once, and copied for every test."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import pytest

from discue.model import Listener, Queue
from discue.store.commit import Store
from discue.store.engines.postgres import PostgresEngine
from tests.postgres.cluster import Cluster
from tests.postgres.fixtures import new_database, shared_cluster
from tests.stores import migrated_template, store_on

Prepare = Callable[[Cluster, str], None]
Lay = Callable[[Store], Coroutine[Any, Any, tuple[Queue, Listener]]]

on_prepared = pytest.mark.xdist_group("prepared databases")
"""Of processes that run tests in parallel, one makes them."""


class Prepared(NamedTuple):
    """A store, and what is in it."""

    store: Store
    queue: Queue
    listener: Listener


@contextmanager
def prepared_by(runner: asyncio.Runner, prepare: Prepare, lay: Lay) -> Iterator[Prepared]:
    name, queue, listener = _laid(prepare, lay)
    with (
        new_database(shared_cluster(), name) as dsn,
        store_on(runner, PostgresEngine(dsn, report=_unexpected)) as store,
    ):
        yield Prepared(store, queue, listener)


@cache
def _laid(prepare: Prepare, lay: Lay) -> tuple[str, Queue, Listener]:
    cluster, name = shared_cluster(), f"{lay.__module__}{prepare.__name__}"
    cluster.create_database(name, migrated_template())
    engine = PostgresEngine(cluster.dsn(name), report=_unexpected)
    with asyncio.Runner() as runner, store_on(runner, engine) as store:
        queue, listener = runner.run(lay(store))
    prepare(cluster, name)
    return name, queue, listener


def _unexpected(place: str, error: BaseException) -> None:
    raise AssertionError(f"the engine reported a failure: {place}") from error
