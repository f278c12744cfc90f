"""A database that was there before its messages were counted."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.store import tallies
from discue.store.engine import Batch, Engine, Transaction
from tests.store.migrating import opened, opened_before
from tests.store.rows import public_id, row_id
from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.tallied import tallied

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


def test_migration_counts_the_bytes_already_stored(runner: asyncio.Runner, database: str) -> None:
    with opened_before(runner, database, _BEFORE) as old:
        runner.run(_store(old))
    with opened(runner, database) as engine:
        assert runner.run(engine.read(tallied)) == {(OURS, tallies.BYTES_STORED): 12, (THEIRS, tallies.BYTES_STORED): 7}
        assert runner.run(engine.read(lambda tx: tallies.bytes_stored(tx, OURS))) == 12


async def _store(engine: Engine) -> None:
    async def work(tx: Transaction) -> None:
        for number, (organization, size) in enumerate(((OURS, 5), (OURS, 0), (OURS, 7), (THEIRS, 7)), 1):
            values = (organization, row_id(10), number, public_id(number), size, b"x" * size)
            await tx.execute(_LOG, *values)

    await engine.commit(Batch(works=(work,)))
