"""Databases as an earlier version made them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from discue.config.settings import Settings
from discue.domain.clock import SystemClock
from discue.observability.logs import Log
from discue.server.installation import engine_of
from discue.store.engine import Engine
from discue.store.migrations import migrations
from discue.store.postgres import engine as postgres
from discue.store.sqlite import engine as sqlite


@contextmanager
def opened(runner: asyncio.Runner, database: str) -> Iterator[Engine]:
    engine = engine_of(Settings(database=database), SystemClock(), Log())
    runner.run(engine.open())
    try:
        yield engine
    finally:
        runner.run(engine.close())


@contextmanager
def opened_before(runner: asyncio.Runner, database: str, number: int) -> Iterator[Engine]:
    """With the schema of the time whose newest migration had this number."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (sqlite, postgres):
            patch.setattr(module, "migrations", lambda dialect: migrations(dialect)[:number])
        with opened(runner, database) as engine:
            yield engine
