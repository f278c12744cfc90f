"""Migrations keep what older versions stored."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from discue.store import idempotency, tallies
from discue.store.engine import Batch, Engine, Transaction, Value
from discue.store.idempotency import StoredResponse
from discue.store.migrations import migrations
from discue.store.sqlite.schema import DIALECT
from discue.store.tables import placeholders
from tests.store.migrating import opened, opened_before
from tests.store.rows import public_id, row_id
from tests.support.clocks import NOON
from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.tallied import tallied, there

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


def test_migrations_are_numbered_without_a_gap_or_a_number_twice() -> None:
    """A database knows its version only: a second migration of that number would never reach it."""
    known = migrations(DIALECT)
    assert [migration.number for migration in known] == list(range(1, len(known) + 1))


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


_BEFORE_SCHEDULE_BYTES = 17
"""The newest migration of the time before."""


def test_migration_counts_the_schedules_of_existing_queues(runner: asyncio.Runner, database: str) -> None:
    with opened_before(runner, database, _BEFORE_SCHEDULE_BYTES) as old:
        runner.run(_store_schedules(old))
    with opened(runner, database) as engine:
        counted = {(OURS, tallies.SCHEDULE_BYTES): 12, (THEIRS, tallies.SCHEDULE_BYTES): 7}
        assert runner.run(engine.read(tallied)) == runner.run(engine.read(there)) == counted
        assert runner.run(engine.read(lambda tx: tallies.bytes_stored(tx, OURS))) == 12


async def _store_schedules(engine: Engine) -> None:
    live, deleted = row_id(10), row_id(11)

    async def work(tx: Transaction) -> None:
        for organization in (OURS, THEIRS):
            owned = {**_OWNED, "organization": organization}
            for queue, deleted_at in ((live, None), (deleted, NOON)):
                text = f"{organization}{queue}"
                await _insert(tx, "queue", owned, id=queue, public_id=text, alias=text, deleted_at=deleted_at)
        schedules = ((OURS, live, 5), (OURS, live, 7), (OURS, deleted, 100), (THEIRS, live, 7))
        for number, (organization, queue, size) in enumerate(schedules, 1):
            text = public_id(number)
            owned = {**_OWNED, "organization": organization, "codec": 0, "size": size, "status": "disabled"}
            body = b"x" * size
            await _insert(tx, "schedule", owned, id=row_id(number), public_id=text, queue=queue, alias=text, body=body)

    await engine.commit(Batch(works=(work,)))


_OWNED: dict[str, Value] = {"settings": "{}", "config_version": 1, "created_at": NOON, "updated_at": NOON}


async def _insert(tx: Transaction, table: str, owned: Mapping[str, Value], **rest: Value) -> None:
    row = {**owned, **rest}
    await tx.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({placeholders(1, len(row))})", *row.values())


_BEFORE_ANSWERS = 11
"""The newest migration of the time before."""

_KEEP = "INSERT INTO idempotency VALUES ($1, $2, $3, $4, $5, $6)"
_LARGEST = (1 << 63) - 1
_ROWS = (
    (OURS, -_LARGEST - 1, _LARGEST, b"\x00" * 16, b"", NOON),
    (OURS, -1, 0, b"f" * 16, b"\xff\x00" * 40_000, NOON),
    (THEIRS, 7, -8, b"", b"\x91\xc0", NOON + 5),
)


def test_migrated_idempotency_keys_are_known_until_they_expire(runner: asyncio.Runner, database: str) -> None:
    with opened_before(runner, database, _BEFORE_ANSWERS) as old:
        runner.run(_store_keys(old))
    with opened(runner, database) as engine:
        assert runner.run(_kept(engine)) == [StoredResponse(row[3], row[4], row[5]) for row in _ROWS]
        runner.run(_forget(engine, NOON + 5))
        assert runner.run(_kept(engine)) == [None, None, StoredResponse(b"", b"\x91\xc0", NOON + 5)]


async def _store_keys(engine: Engine) -> None:
    async def work(tx: Transaction) -> None:
        for row in _ROWS:
            await tx.execute(_KEEP, *row)

    await engine.commit(Batch(works=(work,)))


async def _kept(engine: Engine) -> list[StoredResponse | None]:
    async def work(tx: Transaction) -> list[StoredResponse | None]:
        return [await idempotency.read_response(tx, row[0], (row[1], row[2])) for row in _ROWS]

    return await engine.read(work)


async def _forget(engine: Engine, kept_before: int) -> None:
    async def work(tx: Transaction) -> None:
        await idempotency.delete_old_keys(tx, (-_LARGEST - 1, _LARGEST), kept_before)

    await engine.commit(Batch(works=(work,)))
