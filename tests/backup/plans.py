"""Plans of backups into a folder, and how they are carried out."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from discue.backup import restore
from discue.backup.create import BackupResult, create_backup
from discue.backup.folder import Folder
from discue.backup.plan import BackupPlan, destination_of
from discue.backup.restore import BackupFile, RestoreResult
from tests.backup.databases import filled
from tests.support.clocks import NOON, StandingClock


def running() -> None:
    """Go on."""


def new_plan(folder: Path) -> BackupPlan:
    """Return the plan of a new database, and a new folder for its backups."""
    (folder / "backups").mkdir()
    return BackupPlan(filled(folder / "discue.db"), Folder(folder / "backups"))


def folder_of(plan: BackupPlan) -> Path:
    assert isinstance(plan.destination, Folder)
    return plan.destination.path


def made(plan: BackupPlan, at: int = NOON, require_running: Callable[[], None] = running) -> BackupResult:
    return create_backup(plan, StandingClock(at), os.urandom, require_running)


def made_file(plan: BackupPlan, at: int = NOON) -> Path:
    return Path(made(plan, at).path)


def chosen(
    named: object, at: int | None, into: Path, environ: Mapping[str, str] | None = None
) -> AbstractContextManager[BackupFile]:
    destination = partial(destination_of, environ=environ or {}, clock=StandingClock())
    return restore.selected_backup(str(named), at, destination_of=destination, into=into, require_running=running)


def restored(backup: Path, target: Path, *keys: bytes, at: int = NOON) -> RestoreResult:
    return restore.restore(backup, target, keys, clock=StandingClock(at), require_running=running)
