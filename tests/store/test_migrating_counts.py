"""A database that was there before its messages were counted."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from discue.clock import SystemClock
from discue.installation import StoreFailures, engine_of
from discue.logs import Log
from discue.settings import Settings
from discue.store import tallies
from discue.store.engine import Batch, Engine, Transaction
from discue.store.engines import postgres, sqlite
from discue.store.migrations import migrations
from tests.databases import ENGINE_NAMES, new_database
from tests.store.rows import public_id, row_id
from tests.tallied import tallied

OURS, THEIRS = row_id(1), row_id(2)
_BEFORE = 2
"""The newest migration of the time before."""

_LOG = """
    INSERT INTO log (organization, queue, seq, id, stored_at, size, codec, body)
    VALUES ($1, $2, $3, $4, 0, $5, 0, $6)"""


@pytest.fixture(params=ENGINE_NAMES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request, request.param, tmp_path) as address:
        yield address


@contextmanager
def _opened(runner: asyncio.Runner, database: str) -> Iterator[Engine]:
    engine = engine_of(Settings(database=database), StoreFailures(Log(), SystemClock()))
    runner.run(engine.open())
    try:
        yield engine
    finally:
        runner.run(engine.close())


def test_what_was_stored_before_it_was_counted_is_counted_from_then_on(
    runner: asyncio.Runner, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        for module in (sqlite, postgres):
            patch.setattr(module, "migrations", lambda dialect: migrations(dialect)[:_BEFORE])
        with _opened(runner, database) as old:
            runner.run(_store(old))
    with _opened(runner, database) as engine:
        assert runner.run(engine.read(tallied)) == {(OURS, tallies.BYTES_STORED): 12, (THEIRS, tallies.BYTES_STORED): 7}
        assert runner.run(engine.read(lambda tx: tallies.bytes_stored(tx, OURS))) == 12


async def _store(engine: Engine) -> None:
    async def work(tx: Transaction) -> None:
        for number, (organization, size) in enumerate(((OURS, 5), (OURS, 0), (OURS, 7), (THEIRS, 7)), 1):
            values = (organization, row_id(10), number, public_id(number), size, b"x" * size)
            await tx.execute(_LOG, *values)

    await engine.commit(Batch(works=(work,)))
