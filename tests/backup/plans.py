"""Plans of backups into a folder, and how they are carried out."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import apsw
import pytest

from discue.backup import archive, restore
from discue.backup.create import BackupPlan, BackupResult, create_backup
from discue.backup.destination import destination_of
from discue.backup.restore import BackupFile, RestoreResult
from discue.store.sqlite import schema
from tests.backup.databases import filled
from tests.support.clocks import NOON, StandingClock

INSTRUCTIONS_A_STEP = 400
"""How many instructions of SQLite's virtual machine copy a part of the database."""


def new_plan(folder: Path) -> BackupPlan:
    """Return the plan of a new database, and a new folder for its backups."""
    (folder / "backups").mkdir()
    return BackupPlan(filled(folder / "discue.db"), str(folder / "backups"))


def folder_of(plan: BackupPlan) -> Path:
    return Path(plan.destination)


def made(plan: BackupPlan, at: int = NOON, environ: Mapping[str, str] | None = None) -> BackupResult:
    destination = destination_of(plan.destination, environ or {})
    return create_backup(plan, destination, StandingClock(at), os.urandom)


def made_file(plan: BackupPlan, at: int = NOON) -> Path:
    return Path(made(plan, at).path)


def chosen(
    named: object, at: int | None, into: Path, environ: Mapping[str, str] | None = None
) -> AbstractContextManager[BackupFile]:
    return restore.selected_backup(str(named), at, into, environ or {})


def restored(backup: Path, target: Path, *keys: bytes, at: int = NOON) -> RestoreResult:
    return restore.restore(backup, target, keys, StandingClock(at), force=True)


@contextmanager
def before_each_step(action: Callable[[], None]) -> Iterator[None]:
    """Do something before each part of the database is copied, and before each part of a file is read."""
    copy_all, chunks = schema._copy_all, archive._chunks

    def act() -> bool:
        action()
        return False

    def paced_copy(source: apsw.Connection, target: Path) -> None:
        source.set_progress_handler(act, INSTRUCTIONS_A_STEP)
        copy_all(source, target)

    def paced_chunks(path: Path, start: int = 0) -> Iterator[bytes]:
        for chunk in chunks(path, start):
            action()
            yield chunk

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(schema, "_copy_all", paced_copy)
        patched.setattr(archive, "_chunks", paced_chunks)
        yield
