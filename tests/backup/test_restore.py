"""Restoring: nothing is replaced before everything is verified, and the old database is kept."""

import os
import signal
from pathlib import Path

import msgspec
import pytest

from discue.backup import archive
from discue.backup.archive import BackupUnusable
from discue.backup.create import BackupPlan
from discue.backup.restore import require_replaceable
from discue.domain.errors import DiscueError, StoreUnusable
from discue.server.process import alone_on
from tests.backup.databases import append, messages_in, opened
from tests.backup.plans import chosen, folder_of, made_file, new_plan, restored
from tests.support.clocks import NOON

_HOUR_MS = 3_600_000


@pytest.fixture
def plan(tmp_path: Path) -> BackupPlan:
    return new_plan(tmp_path)


def name_chosen(named: object, at: int | None) -> str:
    with chosen(named, at, Path()) as backup:
        return backup.name


def test_restored_database_equals_the_original(plan: BackupPlan, tmp_path: Path) -> None:
    found = restored(made_file(plan), tmp_path / "new.db")

    assert messages_in(tmp_path / "new.db") == found.contents.counts["messages"] == 40
    assert found.replaced is None
    assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o600


def test_replaced_database_is_kept_with_what_its_wal_had(plan: BackupPlan) -> None:
    """SQLite must not apply the old `-wal` file to the new database."""
    backup = made_file(plan)
    pid = os.fork()
    if pid == 0:
        # Killed, so that nothing copies the log into the database.
        with opened(plan.database) as writer:
            append(writer, 41)
            os._exit(0)
    os.waitpid(pid, 0)
    assert plan.database.with_name("discue.db-wal").stat().st_size > 0

    found = restored(backup, plan.database)

    assert messages_in(plan.database) == 40
    assert found.replaced == plan.database.with_name(f"discue.db.replaced-{NOON}")
    assert messages_in(found.replaced) == 41


@pytest.mark.parametrize("syscall", ["replace", "link"])
def test_kill_at_the_end_leaves_the_old_database(plan: BackupPlan, syscall: str) -> None:
    """A server that found no database would create an empty one."""
    backup = made_file(plan)
    with opened(plan.database) as writer:
        append(writer, 41)
    pid = os.fork()
    if pid == 0:
        setattr(os, syscall, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            restored(backup, plan.database)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)

    assert os.WIFSIGNALED(status)
    assert messages_in(plan.database) == 41
    restored(backup, plan.database, at=NOON + 1)
    assert messages_in(plan.database) == 40


def test_wal_of_a_database_that_is_gone_is_not_applied(plan: BackupPlan, tmp_path: Path) -> None:
    wal = tmp_path / "new.db-wal"
    wal.write_bytes(b"of a database that somebody has removed")
    restored(made_file(plan), tmp_path / "new.db")

    assert not wal.exists()
    assert messages_in(tmp_path / "new.db") == 40


def test_existing_database_is_replaced_only_by_force(plan: BackupPlan) -> None:
    with pytest.raises(DiscueError, match=r"discue\.db exists\. Name another file, or use --force, which keeps"):
        require_replaceable(plan.database, force=False)

    require_replaceable(plan.database, force=True)


def test_database_in_use_is_not_replaced(plan: BackupPlan) -> None:
    with opened(plan.database) as other:
        other.execute("SELECT * FROM meta").fetchall()
        with pytest.raises(StoreUnusable, match=r"Another program uses .*discue\.db\. Stop it first\."):
            require_replaceable(plan.database, force=True)


def test_damaged_database_may_be_replaced(plan: BackupPlan) -> None:
    backup = made_file(plan)
    plan.database.write_bytes(b"Dear diary, " * 1_000)
    require_replaceable(plan.database, force=True)

    found = restored(backup, plan.database)

    assert messages_in(plan.database) == 40
    assert found.replaced is not None
    assert found.replaced.read_bytes().startswith(b"Dear diary")


def test_folder_of_the_target_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DiscueError, match=r"The folder .*missing does not exist"):
        require_replaceable(tmp_path / "missing" / "discue.db", force=False)


@pytest.mark.parametrize("change", [lambda content: content[:-100], lambda content: content[:-100] + bytes(100)])
def test_backup_that_cannot_be_used_replaces_nothing(plan: BackupPlan, change: object) -> None:
    backup, before = made_file(plan), plan.database.read_bytes()
    assert callable(change)
    backup.write_bytes(change(backup.read_bytes()))

    with pytest.raises(BackupUnusable, match="is damaged"):
        restored(backup, plan.database)

    assert plan.database.read_bytes() == before
    assert {path.name for path in plan.database.parent.iterdir()} == {"discue.db", "discue.db.backup-lock", "backups"}


def altered(plan: BackupPlan, sql: str) -> Path:
    """Make a backup of a database as another program, or an accident, leaves it."""
    with opened(plan.database) as connection:
        connection.execute(sql)
    return made_file(plan)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (
            "UPDATE meta SET value = '9001' WHERE key IN ('schema_version', 'compatible_from')",
            "needs a program that knows version 9001; this one knows version .* Install a newer discue",
        ),
        ("UPDATE queue_head SET head = 38", "2 messages have a number beyond the head of their queue"),
    ],
    ids=["newer", "inconsistent"],
)
def test_database_that_cannot_be_served_is_not_restored(plan: BackupPlan, sql: str, reason: str) -> None:
    backup = altered(plan, sql)

    with pytest.raises(DiscueError, match=reason):
        restored(backup, plan.database.with_name("new.db"))

    assert not plan.database.with_name("new.db").exists()


def test_database_of_another_program_in_a_backup_is_not_restored(plan: BackupPlan, tmp_path: Path) -> None:
    header, foreign, backup = archive.read_header(made_file(plan)), tmp_path / "foreign", tmp_path / "foreign.backup"
    with opened(foreign) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("CREATE TABLE recipe (name TEXT)")
    header = msgspec.structs.replace(header, database_bytes=foreign.stat().st_size)
    with backup.open("wb") as file:
        archive.write(foreign, file, header, None, random_bytes=os.urandom)

    with pytest.raises(StoreUnusable, match="is another program's database"):
        restored(backup, tmp_path / "new.db")


def test_encrypted_backup_is_restored_with_its_key(plan: BackupPlan, tmp_path: Path) -> None:
    backup = made_file(plan._replace(key=b"k" * 32))

    restored(backup, tmp_path / "new.db", bytes(32), b"k" * 32)

    assert messages_in(tmp_path / "new.db") == 40


def test_folder_selects_its_newest_backup_or_the_newest_before_a_time(plan: BackupPlan) -> None:
    first, second, third = (made_file(plan, NOON + hour * _HOUR_MS) for hour in range(3))

    assert name_chosen(folder_of(plan), None) == str(third)
    assert name_chosen(folder_of(plan), NOON + 2 * _HOUR_MS - 1) == str(second)
    assert name_chosen(folder_of(plan), NOON) == str(first)
    with pytest.raises(BackupUnusable, match="has no backup of that time: its oldest one is of 2025-06-15 15:06:40Z"):
        name_chosen(folder_of(plan), NOON - 1)


def test_truncated_newest_backup_is_not_chosen(plan: BackupPlan) -> None:
    first, second = made_file(plan, NOON), made_file(plan, NOON + 1)
    second.write_bytes(second.read_bytes()[:-1])

    assert name_chosen(folder_of(plan), None) == str(first)
    first.unlink()
    with pytest.raises(BackupUnusable, match=r"has no whole backup\. 1 are damaged"):
        name_chosen(folder_of(plan), None)


def test_folder_of_several_installations_is_ambiguous(plan: BackupPlan) -> None:
    made_file(plan)
    with opened(plan.database) as connection:
        connection.execute("UPDATE meta SET value = 'fedcba9876543210' WHERE key = 'epoch'")
    made_file(plan, NOON + 1)

    with pytest.raises(BackupUnusable, match=r"has backups of several installations .*: name one of its files\."):
        name_chosen(folder_of(plan), None)


@pytest.mark.parametrize(("at", "reason"), [(None, "does not exist"), (NOON, "does not exist")])
def test_missing_path_is_refused(tmp_path: Path, at: int | None, reason: str) -> None:
    with pytest.raises(BackupUnusable, match=reason):
        name_chosen(tmp_path / "missing", at)


@pytest.mark.skipif(os.geteuid() != 0, reason="only the administrator can give files away")
def test_files_of_the_administrator_belong_to_the_owner_of_the_database(plan: BackupPlan, tmp_path: Path) -> None:
    """The server that runs as this user could open none of them otherwise."""
    os.chown(plan.database, 1, 1)
    os.chown(tmp_path, 2, 2)
    backup = made_file(plan)
    restored(backup, plan.database)
    restored(backup, tmp_path / "new.db")
    with alone_on(tmp_path / "new.db"):
        files = ["discue.db", "discue.db.backup-lock", f"discue.db.replaced-{NOON}", "new.db", "new.db.serving"]

    assert [(tmp_path / name).stat().st_uid for name in files] == [1, 1, 1, 2, 2]


def test_backup_that_cannot_be_read_is_passed_over(plan: BackupPlan) -> None:
    first, second = made_file(plan, NOON), made_file(plan, NOON + 1)
    second.unlink()
    second.mkdir()

    assert name_chosen(folder_of(plan), None) == str(first)
