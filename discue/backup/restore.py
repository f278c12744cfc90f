"""Restoring a backup: everything is verified in a temporary file before anything is replaced."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from discue.backup import archive, folder
from discue.backup.archive import BackupUnusable, Header
from discue.domain.clock import Clock
from discue.domain.errors import DiscueError
from discue.store.sqlite.connection import give_to_owner
from discue.store.sqlite.snapshot import Contents, RequireRunning, check_contents, require_unused

_ENDINGS: Final = ("", "-wal", "-shm", "-journal")
"""Endings of the files that belong to a database."""


class Restored(NamedTuple):
    """A database that was restored."""

    backup: Path
    header: Header
    contents: Contents
    replaced: Path | None
    """New path of the database that was there before; None if there was none."""


def chosen(place: Path, at: int | None) -> Path:
    """Return the backup that a path names: a file, or the newest one in a folder, of before a time if one is given.

    Raises BackupUnusable.
    """
    if place.is_dir():
        return folder.newest(place, at).path
    if at is not None:
        raise BackupUnusable(f"{place} is not a folder: a time chooses one of the backups in a folder.")
    if not place.exists():
        raise BackupUnusable(f"{place} does not exist.")
    return place


def require_replaceable(target: Path, *, force: bool) -> None:
    """Raise DiscueError if a file exists that must not be replaced."""
    if not target.parent.is_dir():
        raise DiscueError(f"The folder {target.parent} does not exist. Create it, or name another one.")
    if not target.exists():
        return
    if not force:
        raise DiscueError(f"{target} exists. Name another file, or use --force, which keeps the old file next to it.")
    require_unused(target)


def unpack_and_check(
    backup: Path, target: Path, keys: Sequence[bytes], require_running: RequireRunning
) -> tuple[Header, Contents]:
    """Write the database of a backup to a new file, durably, and check all of it.

    Raises BackupUnusable if the backup is damaged, encrypted with another key, or of a newer program. Then, the target
    does not exist.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            header = archive.unpack(backup, file, keys, require_running)
            os.fsync(file.fileno())
        contents = check_contents(target)
        if contents.problems:
            raise BackupUnusable(f"The database in {backup} is damaged: {contents.problems[0]}. Use another backup.")
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return header, contents


def restore(
    backup: Path, target: Path, keys: Sequence[bytes], *, clock: Clock, require_running: RequireRunning
) -> Restored:
    """Restore a backup to a file that no program uses. An existing one is kept under another name.

    Raises DiscueError, and changes nothing, if the backup cannot be used.
    """
    temporary = target.with_name(f"{target.name}.{os.getpid()}.restoring")
    temporary.unlink(missing_ok=True)
    try:
        header, contents = unpack_and_check(backup, temporary, keys, require_running)
        give_to_owner(temporary, target)
        replaced = _set_aside(target, clock)
        temporary.rename(target)
        folder.sync_folder(target.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DiscueError(f"{target} cannot be written: {error.strerror}.") from error
    return Restored(backup, header, contents, replaced)


def _set_aside(target: Path, clock: Clock) -> Path | None:
    """Rename a database with the files that belong to it. SQLite would apply an old `-wal` file to the new database."""
    kept = target.with_name(f"{target.name}.replaced-{clock.now()}")
    for ending in _ENDINGS:
        path = target.with_name(target.name + ending)
        if path.exists():
            path.rename(kept.with_name(kept.name + ending))
    return kept if kept.exists() else None
