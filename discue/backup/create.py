"""Making a backup: a copy of one moment is checked, packed into one file, and gets its name when that is whole."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple

from discue import __version__
from discue.backup import archive
from discue.backup.archive import BackupUnusable, Header
from discue.backup.destination import Destination, require_usable, sync
from discue.config.settings import Settings
from discue.crypto.keyring import read_keys
from discue.domain.clock import Clock
from discue.domain.errors import DiscueError, SettingsInvalid
from discue.domain.ids import RandomBytes
from discue.store.sqlite.connection import alone_with, give_to_owner
from discue.store.sqlite.schema import copy_snapshot, identity_of, size_of

COPY_SUFFIX: Final = ".backup-copy"
_LOCK_SUFFIX: Final = ".backup-lock"
_LEFT_FREE_BYTES: Final = 64 << 20
"""Room on a disk that a backup leaves for others: above all for messages that come meanwhile."""


class BackupPlan(NamedTuple):
    """A database, the destination for its backups, and how they are made."""

    database: Path
    destination: str
    """A folder, or a bucket in the form s3://bucket/prefix."""
    key: bytes | None = None
    """Encrypts the backup; None if it is not encrypted."""
    keep_seconds: float | None = None
    """Age from which older backups of the installation are deleted; None: never."""


def plan_of(settings: Settings, environ: Mapping[str, str]) -> BackupPlan | None:
    """Return the plan of the settings; None if there is none.

    Raises SettingsInvalid if its key cannot be read or its destination cannot be used.
    """
    if settings.backup_to is None or settings.database_path is None:
        return None
    key = None if settings.backup_key_file is None else backup_keys(settings.backup_key_file)[0]
    require_usable(settings.backup_to, environ)
    return BackupPlan(settings.database_path, settings.backup_to, key, settings.backup_keep)


def backup_keys(path: Path) -> tuple[bytes, ...]:
    """Return the keys in a file: the first one encrypts, each decrypts. Raises SettingsInvalid if there is none."""
    keys = read_keys(path)
    if not keys:
        raise SettingsInvalid(
            f"{path} has no key: create one with `openssl rand -base64 32 > {path}`, and keep a copy of it where the "
            "backups are not."
        )
    return keys


class BackupResult(NamedTuple):
    """A backup that was made."""

    path: str
    header: Header
    wal_bytes: int
    """Size of the write-ahead log after the copy, which kept the log from being restarted."""
    deleted: list[str]
    """Older backups, which were verified first."""
    problems: list[str]
    """Reasons for which other older backups were not deleted."""

    @property
    def size(self) -> int:
        return archive.HEADER_BYTES + self.header.content_bytes


def create_backup(plan: BackupPlan, destination: Destination, clock: Clock, random_bytes: RandomBytes) -> BackupResult:
    """Back up a database, which may be in use, into the destination of its plan. Then delete backups that are too old.

    Blocks for as long as it takes to copy and compress the database. However it ends, the destination has the backup as
    a whole or not at all.

    Raises DiscueError with the reason and the remedy.
    """
    try:
        if not plan.database.exists():
            raise BackupUnusable(f"There is no database at {plan.database}.")
        busy = BackupUnusable(f"Another process is already backing up {plan.database}.")
        with alone_with(plan.database, _LOCK_SUFFIX, busy):
            return _create(plan, destination, clock, random_bytes)
    except OSError as error:
        file = f" ({error.filename})" if error.filename else ""
        raise DiscueError(
            f"The backup of {plan.database} to {plan.destination} failed: {error.strerror}{file}. "
            "Nothing was left there."
        ) from error


def copy_database(database: Path, target: Path) -> None:
    """Copy a database, which may be in use, to a file on the same disk, durably. Replaces an earlier copy.

    Blocks like `create_backup`. Raises DiscueError: then there is no new copy.
    """
    temporary = target.with_name(target.name + COPY_SUFFIX)
    try:
        _remove_copy(temporary)
        _require_room([target.parent], size_of(database), "A copy of the database", "Make room.")
        copy_snapshot(database, temporary)
        sync(temporary)
        give_to_owner(temporary, database)
        temporary.replace(target)
        sync(target.parent)
    except OSError as error:
        raise DiscueError(f"{database} cannot be copied to {target}: {error.strerror}.") from error
    finally:
        _remove_copy(temporary)


def _create(plan: BackupPlan, destination: Destination, clock: Clock, random_bytes: RandomBytes) -> BackupResult:
    copy = plan.database.with_name(plan.database.name + COPY_SUFFIX)
    _remove_copy(copy)
    size = size_of(plan.database)
    destination.require()
    spool = destination.path or plan.database.parent
    _require_room([plan.database.parent, spool], size, "A backup", "Make room, or name a folder on another disk.")
    created_at = clock.now()
    try:
        identity = copy_snapshot(plan.database, copy)
        wal = plan.database.with_name(plan.database.name + "-wal")
        wal_bytes = wal.stat().st_size if wal.exists() else 0
        header = Header(
            installation=identity.installation,
            discue=__version__,
            schema_version=identity.schema_version,
            compatible_from=identity.compatible_from,
            created_at=created_at,
            database_bytes=copy.stat().st_size,
        )
        with _new_file(spool, header.installation) as (new, file):
            header = archive.write(copy, file, header, plan.key, random_bytes=random_bytes)
            archive.verify(new)
            path = destination.publish(new, header)
    finally:
        _remove_copy(copy)
    deleted, problems = _delete_old(destination, header, plan.keep_seconds)
    return BackupResult(path, header, wal_bytes, deleted, problems)


def newest_of(database: Path, destination: Destination) -> int | None:
    """Return when the newest backup of a database was made; None if there is none. Raises DiscueError."""
    backups = destination.contents(identity_of(database).installation).backups
    return backups[-1].created_at if backups else None


def _delete_old(destination: Destination, made: Header, keep_seconds: float | None) -> tuple[list[str], list[str]]:
    """Delete whole backups of the same installation that are older than they are kept.

    Returns those that were deleted, and problems: they do not undo the new backup.
    """
    if keep_seconds is None:
        return [], []
    try:
        found = destination.contents(made.installation)
    except DiscueError as error:
        return [], [error.detail]
    deleted, problems = list[str](), found.problems
    for backup in found.backups:
        where = destination.where(backup.name)
        if backup.created_at >= made.created_at - keep_seconds * 1_000:
            continue
        try:
            # A damaged one shows that something is wrong with the destination: a person should see it.
            destination.verify(backup)
            destination.delete(backup.name)
        except DiscueError as error:
            problems.append(error.detail)
        except OSError as error:
            problems.append(f"{where} cannot be deleted: {error.strerror}.")
        else:
            deleted.append(where)
    return deleted, problems


def _require_room(folders: Iterable[Path], size: int, what: str, remedy: str) -> None:
    """Raise DiscueError unless each folder has room for a file of a size, and each disk for all of them."""
    by_device: dict[int, list[Path]] = {}
    for path in folders:
        by_device.setdefault(path.stat().st_dev, []).append(path)
    for paths in by_device.values():
        wanted = len(paths) * size + _LEFT_FREE_BYTES
        free = shutil.disk_usage(paths[0]).free
        if free < wanted:
            raise DiscueError(
                f"{what} needs {wanted >> 20:,} MiB in {' and '.join(map(str, dict.fromkeys(paths)))} while it is "
                f"made, and {free >> 20:,} MiB are free. {remedy}"
            )


def _remove_copy(copy: Path) -> None:
    for path in (copy, copy.with_name(copy.name + "-journal")):
        path.unlink(missing_ok=True)


@contextmanager
def _new_file(folder: Path, installation: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """Open a new file in a folder, which is removed at the end unless it was renamed.

    Files that killed processes have left are removed first: only one process at a time makes backups of an
    installation.
    """
    for left in folder.glob(f".discue-{installation}-*.partial"):
        left.unlink(missing_ok=True)
    path = folder / f".discue-{installation}-{os.getpid()}.partial"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)
