"""Restoring a backup: everything is verified in a temporary file before anything is replaced."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from discue.backup import archive
from discue.backup.archive import BackupUnusable, Header
from discue.backup.destination import SCHEME, destination_of, newest, parse_name, sync
from discue.domain.clock import Clock
from discue.domain.errors import DiscueError
from discue.server.process import alone_on
from discue.store.sqlite.connection import give_to_owner
from discue.store.sqlite.schema import Contents, check_contents, require_unused

_ENDINGS: Final = ("-wal", "-shm", "-journal")
"""Endings of files that belong to a database."""


class BackupFile(NamedTuple):
    """A backup to restore."""

    name: str
    path: Path


class RestoreResult(NamedTuple):
    """A database that was restored."""

    header: Header
    contents: Contents
    replaced: Path | None
    """New path of the database that was there before; None if there was none."""


@contextmanager
def selected_backup(named: str, at: int | None, into: Path, environ: Mapping[str, str]) -> Iterator[BackupFile]:
    """Yield the backup that a text names: a file or an object, or the newest one in a folder or a bucket.

    With a time, it is the newest of before that time. A backup in a bucket is copied into a folder, until the end.
    Raises DiscueError.
    """
    where, name = _split(named)
    if name and at is not None:
        raise BackupUnusable(f"{named} names one backup. A time selects one from a folder or a bucket.")
    destination = destination_of(where, environ)
    name = name or newest(destination, at).name
    with destination.fetch(name, into) as path:
        yield BackupFile(destination.where(name), path)


def _split(named: str) -> tuple[str, str]:
    """Return the destination that a text names, and the backup in it; "" if it names the destination only.

    Raises BackupUnusable for a file that does not exist.
    """
    if named.startswith(SCHEME):
        bucket, _, name = named.rpartition("/")
        return (named, "") if parse_name(name, 0) is None else (bucket, name)
    path = Path(named)
    if path.is_dir():
        return named, ""
    if not path.exists():
        raise BackupUnusable(f"{named} does not exist.")
    return str(path.parent), path.name


def require_replaceable(target: Path, *, force: bool) -> None:
    """Raise DiscueError if a file exists that must not be replaced."""
    if not target.parent.is_dir():
        raise DiscueError(f"The folder {target.parent} does not exist. Create it, or name another one.")
    if not target.exists():
        return
    if not force:
        raise DiscueError(f"{target} exists. Name another file, or use --force, which keeps the old file next to it.")
    require_unused(target)


def unpack_and_check(backup: Path, target: Path, keys: Sequence[bytes]) -> tuple[Header, Contents]:
    """Write the database of a backup to a new file, durably, and check all of it.

    Raises BackupUnusable if the backup is damaged, encrypted with another key, or of a newer program. Then, the target
    does not exist.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            header = archive.unpack(backup, file, keys)
            os.fsync(file.fileno())
        contents = check_contents(target)
        if contents.problems:
            raise BackupUnusable(f"The database in {backup} is damaged: {contents.problems[0]}. Use another backup.")
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return header, contents


def restore(backup: Path, target: Path, keys: Sequence[bytes], clock: Clock, *, force: bool) -> RestoreResult:
    """Restore a backup to a file that no program uses. With `force`, an existing file is renamed and kept.

    Raises DiscueError, and changes nothing, if the backup cannot be used.
    """
    temporary = target.with_name(f"{target.name}.{os.getpid()}.restoring")
    temporary.unlink(missing_ok=True)
    try:
        header, contents = unpack_and_check(backup, temporary, keys)
        # The lock creates a file. An unusable backup must not leave one behind, so the lock comes after the check.
        with alone_on(target):
            require_replaceable(target, force=force)
            give_to_owner(temporary, target)
            replaced = _set_aside(target, clock)
            temporary.replace(target)
            sync(target.parent)
    except OSError as error:
        raise DiscueError(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return RestoreResult(header, contents, replaced)


def _set_aside(target: Path, clock: Clock) -> Path | None:
    """Give a database another name, too, and rename the files that belong to it.

    SQLite would apply an old `-wal` file to the new database. The database itself stays until it is replaced: a server
    that found none would create an empty one.
    """
    if not target.exists():
        kept = None
    else:
        kept = target.with_name(f"{target.name}.replaced-{clock.now()}")
        kept.hardlink_to(target)
    for ending in _ENDINGS:
        path = target.with_name(target.name + ending)
        if not path.exists():
            continue
        if kept is None:
            path.unlink()
        else:
            path.rename(kept.with_name(kept.name + ending))
    return kept
