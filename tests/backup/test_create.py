"""Making backups: of a database that is written to, with kills, full disks and folders that go away."""

import fcntl
import os
import resource
import shutil
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from discue.backup.archive import BackupUnusable
from discue.backup.create import BackupPlan
from discue.backup.restore import unpack_and_check
from discue.domain.errors import DiscueError, StoreUnusable
from tests.backup import plans
from tests.backup.databases import append, filled, messages_in, opened
from tests.backup.plans import before_each_step, folder_of, made, made_file, new_plan
from tests.support.clocks import NOON

_DAY_MS = 86_400_000


@pytest.fixture
def plan(tmp_path: Path) -> BackupPlan:
    return new_plan(tmp_path)


def whole_backups(plan: BackupPlan) -> list[Path]:
    """The files in the folder that look like backups. Each must be whole."""
    found = sorted(folder_of(plan).glob("*.backup"))
    for backup in found:
        restored = folder_of(plan) / "restored.db"
        unpack_and_check(backup, restored, ())
        restored.unlink()
    return found


def nothing_is_left(plan: BackupPlan) -> bool:
    """Whether the folder and the database's own folder have no parts of a backup."""
    beside = {path.name for path in plan.database.parent.iterdir()} - {"discue.db-wal", "discue.db-shm"}
    return beside == {"discue.db", "discue.db.backup-lock", "backups"} and not any(folder_of(plan).glob(".*"))


def test_backup_of_a_database_that_is_written_to_is_one_moment(
    plan: BackupPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each row, another connection commits: the shell's `.backup` would begin again each time."""
    monkeypatch.setattr(plans, "INSTRUCTIONS_A_STEP", 20)
    with opened(plan.database) as writer:
        numbers = iter(range(41, 10_000))
        with before_each_step(lambda: append(writer, next(numbers))):
            backup = made(plan)
        written = next(numbers) - 1

    restored = folder_of(plan) / "restored.db"
    _, contents = unpack_and_check(Path(backup.path), restored, ())

    assert contents.problems == []
    assert messages_in(restored) == contents.counts["messages"] == 40
    assert messages_in(plan.database) == written > 100
    assert Path(backup.path).stat().st_mode & 0o777 == 0o600
    assert not any(folder_of(plan).glob(".*"))


def test_message_that_is_only_in_the_wal_is_backed_up(plan: BackupPlan) -> None:
    with opened(plan.database) as writer:
        append(writer, 41)
        backup = made(plan)

    restored = folder_of(plan) / "restored.db"
    unpack_and_check(Path(backup.path), restored, ())
    assert messages_in(restored) == 41


def test_backup_contains_no_data_of_deleted_messages(plan: BackupPlan) -> None:
    body = b"a secret of a customer " * 200
    with opened(plan.database) as writer:
        with writer:
            for seq in range(41, 60):
                writer.execute(
                    "INSERT INTO log (organization, queue, seq, id, stored_at, size, codec, body, extra) "
                    "VALUES (1, 1, ?, ?, 1, 4000, 0, ?, ?)",
                    (seq, f"erased {seq}", body[: seq * 50], b"a header of a customer"),
                )
                writer.execute("INSERT INTO body VALUES (?, 1, 1, 1, ?)", (seq, body))
            writer.execute("UPDATE queue_head SET head = 60")
        writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with writer:
            writer.execute("DELETE FROM log WHERE seq > 40")
            writer.execute("DELETE FROM body")
        writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    assert b"a secret of a customer" in plan.database.read_bytes()
    restored = folder_of(plan) / "restored.db"
    unpack_and_check(made_file(plan), restored, ())
    content = restored.read_bytes()
    assert [text for text in (b"a secret", b"of a customer", b"a header", b"erased 4") if text in content] == []
    assert messages_in(restored) == 40


def killed(plan: BackupPlan, at_step: int) -> bool:
    """Make a backup in a process of its own, which is killed at a step. Returns False if it has fewer steps."""
    pid = os.fork()
    if pid == 0:
        steps = iter(range(1, at_step + 1))

        def die() -> None:
            if next(steps) == at_step:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            with before_each_step(die):
                made(plan)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def test_kill_leaves_nothing_that_looks_like_a_backup(plan: BackupPlan) -> None:
    step = 1
    while killed(plan, step):
        assert whole_backups(plan) == []
        step += 1

    assert step > 5
    assert len(whole_backups(plan)) == 1
    assert nothing_is_left(plan), "the next backup removes what killed ones have left"


@pytest.mark.parametrize("syscall", ["fsync", "rename"])
def test_kill_at_the_end_leaves_a_whole_backup_or_none(plan: BackupPlan, syscall: str) -> None:
    """The file is complete, but its content or its name may not be on the disk."""
    pid = os.fork()
    if pid == 0:
        setattr(os, syscall, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            made(plan)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)

    assert os.WIFSIGNALED(status)
    assert whole_backups(plan) == []
    assert made_file(plan) in whole_backups(plan)
    assert nothing_is_left(plan)


@contextmanager
def files_limited(size: int) -> Iterator[None]:
    """Make writes fail that would let a file grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("of", ["the copy", "the backup"])
def test_disk_that_fills_up_meanwhile_leaves_nothing(plan: BackupPlan, of: str) -> None:
    """Writes fail that would let a file grow, from when the first part of it is written."""
    with files_limited(resource.RLIM_INFINITY):

        def fill_up() -> None:
            if of == "the copy" or any(folder_of(plan).glob(".*")):
                resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))

        with before_each_step(fill_up), pytest.raises(DiscueError) as failure:
            made(plan)

    assert ("cannot be copied" if of == "the copy" else "File too large") in failure.value.detail
    assert nothing_is_left(plan)
    assert whole_backups(plan) == []
    assert made_file(plan) in whole_backups(plan)


class Usage(NamedTuple):
    free: int


def test_backup_needs_room_for_a_copy_and_for_itself(plan: BackupPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10 << 20))

    with pytest.raises(
        DiscueError, match=r"A backup needs 6\d MiB in .* and .*backups while it is made, and 10 MiB are"
    ):
        made(plan)

    assert nothing_is_left(plan)


def test_folder_that_is_not_mounted_is_refused(plan: BackupPlan) -> None:
    folder_of(plan).rmdir()

    with pytest.raises(BackupUnusable, match=r"The folder .*backups does not exist\. Create it, or mount it\."):
        made(plan)


def test_folder_that_goes_away_meanwhile_gets_no_backup(plan: BackupPlan) -> None:
    elsewhere = folder_of(plan).with_name("elsewhere")

    def unmount() -> None:
        if any(folder_of(plan).glob(".*")):
            folder_of(plan).rename(elsewhere)

    with (
        before_each_step(unmount),
        pytest.raises(DiscueError, match=r"The backup of .* failed: No such file or directory"),
    ):
        made(plan)

    assert list(elsewhere.glob("*.backup")) == []
    elsewhere.rename(folder_of(plan))
    assert made_file(plan).exists()
    assert nothing_is_left(plan)


def test_only_one_process_makes_a_backup_at_a_time(plan: BackupPlan) -> None:
    with plan.database.with_name("discue.db.backup-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BackupUnusable, match="Another process is already backing up"):
            made(plan)


def test_damaged_database_gets_no_backup(plan: BackupPlan) -> None:
    content = bytearray(plan.database.read_bytes())
    # A page of data: without one of the schema, the database could not be opened at all.
    with closing(sqlite3.connect(plan.database)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'attempt'").fetchone()
    content[(page - 1) * 4_096 : page * 4_096] = os.urandom(4_096)
    plan.database.write_bytes(content)

    with pytest.raises(StoreUnusable, match=r"discue\.db is damaged: .* Restore it from a backup\."):
        made(plan)

    assert nothing_is_left(plan)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "There is no database at"), (b"Dear diary, " * 1_000, "it is not a database of discue")],
    ids=["missing", "foreign"],
)
def test_missing_or_foreign_database_gets_no_backup(plan: BackupPlan, content: bytes | None, reason: str) -> None:
    plan.database.unlink()
    if content is not None:
        plan.database.write_bytes(content)

    with pytest.raises(DiscueError, match=reason):
        made(plan)

    assert whole_backups(plan) == []


def test_old_backups_of_this_installation_are_deleted(plan: BackupPlan, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = BackupPlan(filled(tmp_path / "other" / "discue.db"), plan.destination)
    with opened(other.database) as connection:
        connection.execute("UPDATE meta SET value = 'fedcba9876543210' WHERE key = 'epoch'")
    foreign = made_file(other, NOON - 9 * _DAY_MS)
    old, kept = made_file(plan, NOON - 8 * _DAY_MS), made_file(plan, NOON - 6 * _DAY_MS)
    note = folder_of(plan) / f"{old.name}.txt"
    note.write_text("not a backup")

    result = made(plan._replace(keep_seconds=7 * 86_400.0))

    assert result.deleted == [str(old)]
    assert result.problems == []
    assert sorted(folder_of(plan).iterdir()) == sorted([foreign, kept, note, Path(result.path)])


@pytest.mark.parametrize("end", [b"", b"\1"], ids=["truncated", "changed"])
def test_old_backup_that_is_damaged_is_not_deleted(plan: BackupPlan, end: bytes) -> None:
    old = made_file(plan, NOON - 8 * _DAY_MS)
    old.write_bytes(old.read_bytes()[:-1] + end)

    result = made(plan._replace(keep_seconds=7 * 86_400.0))

    assert result.deleted == []
    assert len(result.problems) == 1
    assert f"The backup {old} is damaged" in result.problems[0]
    assert old.exists()


def test_backup_is_not_deleted_by_the_next_one_that_fails(plan: BackupPlan) -> None:
    old = made_file(plan, NOON - 8 * _DAY_MS)
    with files_limited(1_000), pytest.raises(DiscueError):
        made(plan._replace(keep_seconds=7 * 86_400.0))

    assert whole_backups(plan) == [old]


def test_writers_do_not_wait_for_a_backup(plan: BackupPlan) -> None:
    """A writer commits while the backup stands still in the middle of its copy."""
    in_the_middle, go_on = threading.Event(), threading.Event()

    def stand_still() -> None:
        in_the_middle.set()
        assert go_on.wait(30)

    with opened(plan.database) as writer, before_each_step(stand_still):
        thread = threading.Thread(target=made, args=(plan,))
        thread.start()
        assert in_the_middle.wait(30)
        append(writer, 41)
        writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
        append(writer, 42)
        go_on.set()
        thread.join()

    assert len(whole_backups(plan)) == 1
