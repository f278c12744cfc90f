"""Migrations: numbered files, applied once, and databases of builds before the first release are refused."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.config.settings import Settings
from discue.domain.errors import StoreUnusable
from discue.observability.logs import Log
from discue.server.installation import engine_of, inspect_database
from discue.store.engine import Batch, Engine, Row, Transaction
from discue.store.migrations import Migration, SchemaState, migrations, newest, pending
from discue.store.sqlite.schema import DIALECT
from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.second_migration import add_second_migration

FIRST = Migration(1, "0001_schema", "CREATE TABLE a (b)", "f1")
SECOND = Migration(2, "0002_second", "CREATE TABLE c (d)", "f2")
_META = "SELECT key, value FROM meta WHERE key LIKE 'schema%' OR key LIKE 'compat%' ORDER BY key"


@pytest.fixture(params=ENGINE_NAMES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request, request.param, tmp_path) as address:
        yield address


def engine_at(database: str) -> Engine:
    return engine_of(Settings(database=database), Log())


async def run_sql(database: str, sql: str) -> list[Row]:
    engine = engine_at(database)
    await engine.open()
    try:

        async def work(tx: Transaction) -> list[Row]:
            return await tx.rows(sql)

        [result] = (await engine.commit(Batch(works=(work,)))).works
        assert not isinstance(result, Exception), result
        return [tuple(row) for row in result]
    finally:
        await engine.close()


def test_migrations_are_numbered_without_a_gap_or_a_number_twice() -> None:
    """A database stores only its version, so a second migration with that number would never be applied."""
    known = migrations(DIALECT)
    assert [migration.number for migration in known] == list(range(1, len(known) + 1))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (SchemaState(), (FIRST, SECOND)),
        (SchemaState(1, 1, "f1"), (SECOND,)),
        (SchemaState(2, 1, "f1"), ()),
        (SchemaState(3, 2, "f1"), ()),
    ],
    ids=["empty", "older", "current", "newer, and usable"],
)
def test_pending_migrations_follow_the_version_of_the_database(
    found: SchemaState, expected: tuple[Migration, ...]
) -> None:
    assert pending((FIRST, SECOND), found) == expected


def test_database_that_excludes_this_program_is_refused() -> None:
    with pytest.raises(StoreUnusable, match=r"needs .* version 3; this one knows version 2\. Install a newer"):
        pending((FIRST, SECOND), SchemaState(4, 3, "f1"))


@pytest.mark.parametrize("found", [SchemaState(30, 23), SchemaState(1, 1, "other")], ids=["old", "edited"])
def test_database_of_an_earlier_build_is_refused(found: SchemaState) -> None:
    with pytest.raises(StoreUnusable, match=r"made by another build of discue before its first release"):
        pending((FIRST, SECOND), found)


def test_comments_do_not_change_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = "CREATE TABLE a (b);", "-- A table.\nCREATE  TABLE a\n (b);", "CREATE TABLE a (c);"
    prints = []
    for text in texts:
        with monkeypatch.context() as patch:
            add_second_migration(patch, tmp_path, sql=text)
            prints.append(migrations(DIALECT)[1].fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_second_migration_is_applied_to_a_database_of_the_first(
    runner: asyncio.Runner, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = runner.run(run_sql(database, _META))
    add_second_migration(monkeypatch, tmp_path)
    assert runner.run(inspect_database(Settings(database=database))).pending == ("0002_second",)
    after = runner.run(run_sql(database, _META))
    assert dict(after) == {**dict(before), "schema_version": "2"}
    assert runner.run(run_sql(database, "SELECT count(added) FROM cursor")) == [(0,)]
    assert runner.run(inspect_database(Settings(database=database))).pending == ()


def test_failed_migration_leaves_the_previous_schema(
    runner: asyncio.Runner, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, half = runner.run(run_sql(database, _META)), "ALTER TABLE cursor ADD COLUMN added BIGINT;"
    with monkeypatch.context() as patch:
        add_second_migration(patch, tmp_path, sql=f"{half} SELECT 1 FROM nowhere;")
        with pytest.raises(StoreUnusable, match="nowhere"):
            runner.run(engine_at(database).open())
    assert runner.run(run_sql(database, _META)) == before
    add_second_migration(monkeypatch, tmp_path, sql=half)
    assert runner.run(run_sql(database, "SELECT count(added) FROM cursor")) == [(0,)]


def test_older_program_uses_a_newer_schema_that_does_not_exclude_it(
    runner: asyncio.Runner, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        add_second_migration(patch, tmp_path)
        runner.run(run_sql(database, _META))
    assert newest() == 1
    assert ("schema_version", "2") in runner.run(run_sql(database, _META))


def test_older_program_refuses_a_newer_schema_that_excludes_it(
    runner: asyncio.Runner, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        add_second_migration(patch, tmp_path, compatible_from=2)
        runner.run(run_sql(database, _META))
    with pytest.raises(StoreUnusable, match="Install a newer discue"):
        runner.run(engine_at(database).open())


def test_build_with_another_schema_changes_nothing(
    runner: asyncio.Runner, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.run(run_sql(database, "UPDATE meta SET value = 'another' WHERE key = 'schema_fingerprint' RETURNING key"))
    settings = Settings(database=database)
    for opening in (inspect_database(settings), engine_at(database).open()):
        with pytest.raises(StoreUnusable, match="another build of discue before its first release"):
            runner.run(opening)
