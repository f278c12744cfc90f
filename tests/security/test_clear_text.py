"""Secrets do not get into databases in clear text, or into repositories, by accident."""

import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import REPOSITORY, run, running
from tests.support.postgres.fixtures import new_database, shared_cluster

_KEY = b64encode(b"k" * 32).decode()


@pytest.fixture
def postgres() -> Iterator[str]:
    with new_database(shared_cluster()) as address:
        yield address


def test_server_on_postgres_without_an_encryption_key_does_not_start(postgres: str, tmp_path: Path) -> None:
    required = {"DISCUE_ENCRYPTION": "required"}
    for command in (("serve", "--port", "0"), ("init",)):
        ended = run(tmp_path, *command, "--database", postgres, **required)
        assert ended.returncode != 0
        assert "encryption_key" in ended.stderr
        assert "dsk_" not in ended.stdout


@pytest.mark.parametrize("variables", [{"DISCUE_ENCRYPTION": "none"}, {"DISCUE_ENCRYPTION_KEY": _KEY}])
def test_server_on_postgres_starts_if_the_operator_decides(
    postgres: str, tmp_path: Path, variables: dict[str, str]
) -> None:
    with running(tmp_path, "serve", "--port", "0", "--database", postgres, **variables) as server:
        assert server.url
        assert ("secrets_not_encrypted" in server.log.text) == ("DISCUE_ENCRYPTION" in variables)
        assert server.stop() == 0


def test_git_ignores_databases_and_their_keys(tmp_path: Path) -> None:
    """With the rules of this repository, whose users start the service in it."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text((REPOSITORY / ".gitignore").read_text())
    names = ["discue.db", "discue.db.key", "data/own.db.key"]
    ended = subprocess.run(
        ["git", "check-ignore", *names], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=20
    )
    assert ended.stdout.split() == names
