import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from discue.store.store import Store
from tests.dispatch.stage import Reports, Stage
from tests.support.clocks import StandingClock
from tests.support.coroutines import pytest_pyfunc_call
from tests.support.databases import name_of_enough as engine_name
from tests.support.stores import opened_store

__all__ = ["engine_name", "pytest_pyfunc_call", "reports", "runner", "stage", "store"]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as running:
        yield running


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def store(engine_name: str, runner: asyncio.Runner, reports: Reports, tmp_path: Path) -> Iterator[Store]:
    with opened_store(runner, engine_name, tmp_path, reports) as running:
        yield running


@pytest.fixture
def stage(runner: asyncio.Runner, store: Store) -> Iterator[Stage]:
    made = Stage(store, StandingClock())
    yield made
    runner.run(made.close())
