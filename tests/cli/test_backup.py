"""The commands `backup`, `restore` and `check --restore`, and backups by `serve`."""

import os
import re
from base64 import b64encode
from pathlib import Path

import pytest

from discue.backup.create import BackupPlan, create_backup
from discue.backup.destination import Folder
from discue.domain.clock import SystemClock
from tests.cli.commands import request, run, serving
from tests.support.clocks import StandingClock


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A folder with a database and its key, and an empty folder for backups."""
    assert run(tmp_path, "init").returncode == 0
    (tmp_path / "backups").mkdir()
    return tmp_path


def backups_in(folder: Path) -> list[Path]:
    return sorted((folder / "backups").iterdir())


def test_backup_of_a_running_server_is_restored_and_served(tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    with serving(tmp_path) as server:
        request("PUT", f"{server.url}/queues/orders", server.key, {})
        assert run(tmp_path, "backup", "backups").returncode == 0
        request("PUT", f"{server.url}/queues/later", server.key, {})
        key = server.key
        refused = run(tmp_path, "restore", "backups", "--to", "discue.db", "--force")
        assert server.stop() == 0

    assert refused.returncode == 1
    assert refused.stderr == "discue: Another program uses discue.db. Stop it first.\n"
    result = run(tmp_path, "restore", "backups", "--to", "discue.db", "--force")
    assert result.returncode == 0
    assert re.search(r"The database that was there before is discue\.db\.replaced-\d+\.", result.stdout)
    assert "Messages delivered since are delivered again, with the same webhook-id." in result.stdout
    assert "encryption key" not in result.stdout, "its key is where the next start looks for it"
    with serving(tmp_path) as server:
        assert request("GET", f"{server.url}/queues/orders", key).status_code == 200
        assert request("GET", f"{server.url}/queues/later", key).status_code == 404


def test_backup_prints_its_file_and_sizes(installation: Path) -> None:
    result = run(installation, "backup", "backups")

    (backup,) = backups_in(installation)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"discue.db was backed up to backups/{backup.name}.\n")
    assert f"bytes became {backup.stat().st_size:,}.\n" in result.stdout


def test_restore_elsewhere_names_the_key_that_is_missing(installation: Path) -> None:
    run(installation, "backup", "backups")
    result = run(installation, "restore", "backups", "--to", "other.db")

    assert result.returncode == 0
    assert re.search(
        r"The signing secrets need the encryption key [0-9a-f]{16}, which other\.db\.key does not contain: copy it",
        result.stdout,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("backup", "missing"), 1, "discue: The folder missing does not exist. Create it, or mount it.\n"),
        (("backup", "s3://bucket"), 1, "s3://bucket needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the env"),
        (("backup", "s3:///prefix"), 1, "s3:///prefix names no bucket."),
        (("backup", "backups", "--keep", "soon"), 2, "'soon' is not a duration such as 90s, 10m, 24h or 7d"),
        (("backup", "backups", "--encrypt", "none"), 1, "none has no key: create one with `openssl rand -base64 32 > "),
        (("backup", "backups", "--database", "postgresql://localhost/x"), 1, "discue backup is for SQLite. Back up"),
        (("restore", "backups", "--to", "new.db"), 1, "discue: backups has no whole backup.\n"),
        (("restore", "discue.db", "--to", "new.db"), 1, "discue: discue.db is not a backup of discue.\n"),
        (("serve", "--backup-to", "backups", "--backup-keep", "1h"), 2, "backup_keep must not be shorter than"),
        (("serve", "--backup-to", "x", "--database", "postgresql://localhost/x"), 2, "backup_to is for SQLite; use"),
    ],
)
def test_errors_say_what_to_do(installation: Path, arguments: tuple[str, ...], code: int, reason: str) -> None:
    result = run(installation, *arguments)

    assert result.returncode == code
    assert reason in result.stderr
    assert backups_in(installation) == []
    assert list(installation.glob("new.db*")) == []


def test_encrypted_backup_needs_its_key(installation: Path) -> None:
    key = installation / "backup.key"
    key.write_bytes(b64encode(os.urandom(32)))
    assert run(installation, "backup", "backups", "--encrypt", "backup.key").returncode == 0
    assert b"SQLite" not in backups_in(installation)[0].read_bytes()

    refused = run(installation, "restore", "backups", "--to", "new.db")
    restored = run(installation, "restore", "backups", "--to", "new.db", "--decrypt", "backup.key")

    assert refused.returncode == 1
    assert "name the file that contains it with --decrypt" in refused.stderr
    assert restored.returncode == 0


def test_drill_restores_the_newest_backup_and_prints_its_findings(installation: Path) -> None:
    run(installation, "backup", "backups")
    result = run(installation, "check", "--restore", "backups", TMPDIR=str(installation))

    assert result.returncode == 0, result.stdout
    lines = [line.split(":")[0] for line in result.stdout.splitlines()]
    assert lines == [
        *(f"ok      {each}" for each in ("backup", "restore", "content", "start", "encryption")),
        "No problems.",
    ]
    assert "organizations: 1, queues: 1, listeners: 0, messages: 0" in result.stdout
    assert list(installation.glob("discue-drill-*")) == []


def test_drill_fails_for_a_damaged_backup(installation: Path) -> None:
    run(installation, "backup", "backups")
    (backup,) = backups_in(installation)
    content = bytearray(backup.read_bytes())
    content[-100] ^= 1
    backup.write_bytes(content)

    result = run(installation, "check", "--restore", "backups")

    assert result.returncode == 1
    assert f"PROBLEM restore: The backup backups/{backup.name} is damaged: its content does not match" in result.stdout
    assert result.stdout.endswith("1 problem.\n")


def test_drill_finds_that_the_encryption_key_is_missing(installation: Path) -> None:
    run(installation, "backup", "backups")
    (installation / "discue.db.key").unlink()

    result = run(installation, "check", "--restore", "backups")

    assert result.returncode == 1
    assert "PROBLEM encryption: " in result.stdout


def test_serve_makes_backups_that_check_knows(installation: Path) -> None:
    arguments = ("--backup-to", "backups", "--backup-every", "1h", "--backup-keep", "7d")
    with serving(installation, *arguments) as server:
        server.log.wait_for(r"backup_made .*\bfile=backups/discue-")
        assert server.stop() == 0

    assert len(backups_in(installation)) == 1
    assert "ok      backup: the newest one in backups is of 20" in run(installation, "check", *arguments).stdout


def test_serve_says_why_a_backup_failed_and_goes_on(installation: Path) -> None:
    with serving(installation, "--backup-to", "missing") as server:
        server.log.wait_for(r'backup_failed .*reason="missing cannot be read: No such file or directory\."')
        assert request("GET", f"{server.url}/health/ready").status_code == 200


def test_serve_does_not_start_without_the_key_of_its_backups(installation: Path) -> None:
    result = run(installation, "serve", "--port", "0", "--backup-to", "backups", "--backup-key-file", "none")

    assert result.returncode == 1
    assert "none has no key" in result.stderr


def make_backup_of_two_hours_ago(installation: Path) -> None:
    clock = StandingClock(SystemClock().now() - 2 * 3_600_000)
    plan = BackupPlan(installation / "discue.db", str(installation / "backups"))
    create_backup(plan, Folder(installation / "backups"), clock, os.urandom)


def test_late_or_missing_backup_is_found(installation: Path) -> None:
    none = run(installation, "check", "--backup-to", "backups")
    missing = run(installation, "check", "--backup-to", "missing")
    make_backup_of_two_hours_ago(installation)
    found = run(installation, "check", "--backup-to", "backups", "--backup-every", "30m")

    assert "ok      backup: backups has no backup of this database yet" in none.stdout
    assert "PROBLEM backup: missing cannot be read: No such file or directory." in missing.stdout
    assert "PROBLEM backup: the newest one in backups is of " in found.stdout
