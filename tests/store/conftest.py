"""The storage suite runs against every engine: what it says is what an engine has to do."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.domain.model import Queue
from discue.store.store import Store
from tests.store.intake_application import Application, drop_role, opened_application
from tests.store.rows import row_id, stored_queue
from tests.support.coroutines import pytest_pyfunc_call, runner
from tests.support.postgres.cluster import Cluster
from tests.support.stores import ENGINES, WAITING_BYTES, another, opened_store

__all__ = ["pytest_pyfunc_call", "runner"]


@pytest.fixture(params=sorted(ENGINES))
def store(request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path: Path) -> Iterator[Store]:
    with opened_store(runner, request.param, tmp_path) as opened:
        yield opened


@pytest.fixture(params=sorted(ENGINES))
def troubled(
    request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path: Path
) -> Iterator[tuple[Store, list[str]]]:
    """A store, and the places where its engine reported a failure."""
    places: list[str] = []
    with opened_store(runner, request.param, tmp_path, lambda place, _: places.append(place)) as opened:
        yield opened, places


@pytest.fixture
def second(runner: asyncio.Runner, store: Store) -> Iterator[Store]:
    """Another process's store on the same database."""
    engine = another(store.engine)
    runner.run(engine.open())
    yield Store(engine, max_waiting_bytes=WAITING_BYTES)
    runner.run(engine.close())


@pytest.fixture
def application(runner: asyncio.Runner, postgres_cluster: Cluster, tmp_path: Path) -> Iterator[Application]:
    """An application that shares a database with the service."""
    with opened_store(runner, "postgres", tmp_path) as store:
        made = runner.run(opened_application(store))
        yield made
        runner.run(drop_role(made))


@pytest.fixture
def queue(runner: asyncio.Runner, store: Store) -> Queue:
    """A queue of the first organization, with an empty log."""
    return runner.run(stored_queue(store, row_id(1), 10))
