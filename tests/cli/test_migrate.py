from pathlib import Path

import pytest

from tests.cli.commands import run
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database


def test_dry_run_lists_migrations_and_creates_no_file(tmp_path: Path) -> None:
    result = run(tmp_path, "migrate", "--dry-run")

    assert result.returncode == 0
    assert "sqlite:///discue.db has schema version 0." in result.stdout
    assert "0001_foundation would be applied." in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_dry_run_changes_no_server_and_prints_no_password(tmp_path: Path, postgres_cluster: Cluster) -> None:
    with new_database(postgres_cluster) as address:
        database = address.replace("@", ":hunter2@")
        results = [run(tmp_path, "migrate", "--dry-run", "--database", database) for _ in range(2)]

    for result in results:
        assert result.returncode == 0
        assert f"{address} has schema version 0." in result.stdout
        assert "0001_foundation would be applied." in result.stdout
        assert "hunter2" not in result.stdout + result.stderr


@pytest.mark.usefixtures("every_engine")
def test_applied_migrations_are_listed_once(tmp_path: Path) -> None:
    first, again = run(tmp_path, "migrate"), run(tmp_path, "migrate")

    assert "0001_foundation was applied." in first.stdout
    assert first.returncode == again.returncode == 0
    assert again.stdout.endswith("No migrations are pending.\n")
    assert first.stdout.splitlines()[-1] == again.stdout.splitlines()[0]
