import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from discue.cli import migrate
from discue.store.migrations import migrations, newest
from discue.store.sqlite import schema
from discue.store.sqlite.connection import connect, make_private
from tests.cli.commands import run
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database
from tests.support.second_migration import add_second_migration


def test_dry_run_lists_migrations_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "discue.db").touch()
    result = run(tmp_path, "migrate", "--dry-run")

    assert result.returncode == 0
    assert "sqlite:///discue.db has schema version 0." in result.stdout
    assert "0001_schema would be applied." in result.stdout
    assert [(each.name, each.stat().st_size) for each in tmp_path.iterdir()] == [("discue.db", 0)]


def test_dry_run_changes_no_server_and_prints_no_password(tmp_path: Path, postgres_cluster: Cluster) -> None:
    with new_database(postgres_cluster) as address:
        database = address.replace("@", ":hunter2@")
        results = [run(tmp_path, "migrate", "--dry-run", "--database", database) for _ in range(2)]

    for result in results:
        assert result.returncode == 0
        assert f"{address} has schema version 0." in result.stdout
        assert "0001_schema would be applied." in result.stdout
        assert "hunter2" not in result.stdout + result.stderr


@pytest.mark.usefixtures("every_engine")
def test_applied_migrations_are_listed_once(tmp_path: Path) -> None:
    # An empty database, as PostgreSQL has it.
    (tmp_path / "discue.db").touch()
    first, again = run(tmp_path, "migrate"), run(tmp_path, "migrate")

    assert "0001_schema was applied." in first.stdout
    assert first.returncode == again.returncode == 0
    assert again.stdout.endswith("No migrations are pending.\n")
    assert first.stdout.splitlines()[-1] == again.stdout.splitlines()[0]


class Usage(NamedTuple):
    free: int


@pytest.fixture
def older(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of an older version, and a program with one additional migration."""
    path = tmp_path / "discue.db"
    make_private(path)
    with closing(connect(path)) as connection:
        schema.migrate(connection, migrations(schema.DIALECT))
    add_second_migration(monkeypatch, tmp_path_factory.mktemp("migration"))
    return path


def version_of(path: Path) -> int:
    return schema.identity_of(path).schema_version


def test_sqlite_database_is_copied_before_it_is_migrated(tmp_path: Path, older: Path) -> None:
    before = newest() - 1
    result = run(tmp_path, "migrate")

    copy = tmp_path / f"discue.db.before-{before}"
    assert result.returncode == 0
    assert f"discue.db.before-{before} is a copy of the database from before the migration." in result.stdout
    assert (version_of(older), version_of(copy)) == (newest(), before)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("*.backup-copy*")) == []


@pytest.mark.usefixtures("older")
def test_way_back_needs_the_copy_only_if_the_old_version_cannot_use_the_database(tmp_path: Path) -> None:
    result = run(tmp_path, "migrate")

    assert "To go back, stop the servers and start the old version: it can use the migrated database." in result.stdout


@pytest.mark.usefixtures("older")
def test_way_back_to_a_version_that_cannot_use_the_database_needs_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "COMPATIBLE_FROM", 2)
    result = run(tmp_path, "migrate")

    assert "stop the servers, remove discue.db-wal and discue.db-shm, move the copy to discue.db,\n" in result.stdout
    assert "start the old version: everything since then is lost." in result.stdout


def test_copy_is_the_database_from_before_the_migration(tmp_path: Path, older: Path) -> None:
    run(tmp_path, "migrate")
    for ending in ("-wal", "-shm"):
        older.with_name(older.name + ending).unlink(missing_ok=True)
    (tmp_path / f"discue.db.before-{newest() - 1}").rename(older)

    assert version_of(older) == newest() - 1


def test_database_without_room_for_a_copy_is_not_migrated(
    tmp_path: Path, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 20))
    refused = run(tmp_path, "migrate")

    assert refused.returncode == 1
    assert re.search(r"A copy of the database needs 6\d MiB .*, and 1 MiB are free\. Make room", refused.stderr)
    assert version_of(older) == newest() - 1
    assert run(tmp_path, "migrate", "--no-copy").returncode == 0
    assert version_of(older) == newest()
    assert list(tmp_path.glob("*.before-*")) == []


@pytest.mark.usefixtures("older")
def test_database_that_needs_no_migration_is_not_copied(tmp_path: Path) -> None:
    run(tmp_path, "migrate", "--dry-run")
    assert list(tmp_path.glob("*.before-*")) == []
    run(tmp_path, "migrate", "--no-copy")
    run(tmp_path, "migrate")

    assert list(tmp_path.glob("*.before-*")) == []
