"""Making a backup: a copy of one moment is checked, packed into one file, and gets its name when that is whole."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from discue import __version__
from discue.backup import archive, folder
from discue.backup.archive import BackupUnusable, Header
from discue.backup.plan import BackupPlan
from discue.domain.clock import Clock
from discue.domain.errors import DiscueError
from discue.domain.ids import RandomBytes
from discue.store.sqlite.connection import give_to_owner
from discue.store.sqlite.snapshot import Identity, RequireRunning, copy_snapshot, identity_of, size_of

COPY_SUFFIX: Final = ".backup-copy"
_LOCK_SUFFIX: Final = ".backup-lock"
_LEFT_FREE_BYTES: Final = 64 << 20
"""Room on a disk that a backup leaves for others: above all for messages that come meanwhile."""


class Made(NamedTuple):
    """A backup that was made."""

    path: Path
    header: Header
    wal_bytes: int
    """Size of the write-ahead log after the copy, which kept the log from being restarted."""
    deleted: list[Path]
    """Older backups, which were verified first."""
    problems: list[str]
    """Reasons for which other older backups were not deleted."""

    @property
    def size(self) -> int:
        return archive.HEADER_BYTES + self.header.content_bytes


def create_backup(plan: BackupPlan, clock: Clock, random_bytes: RandomBytes, require_running: RequireRunning) -> Made:
    """Back up a database, which may be in use, into a folder. Then delete backups that are too old.

    Blocks for as long as it takes to copy and compress the database: call it on a thread of its own. However it ends,
    the folder has the backup as a whole or not at all.

    Raises DiscueError with the reason and the remedy.
    """
    try:
        with _alone(plan.database):
            return _create(plan, clock, random_bytes, require_running)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise DiscueError(
            f"The backup of {plan.database} to {plan.folder} failed: {error.strerror}{place}. Nothing was left there."
        ) from error


def copy_database(database: Path, target: Path, require_running: RequireRunning) -> None:
    """Copy a database, which may be in use, to a file on the same disk, durably. Replaces an earlier copy.

    Blocks like `create_backup`. Raises DiscueError: then there is no new copy.
    """
    temporary = target.with_name(target.name + COPY_SUFFIX)
    try:
        _remove_copy(temporary)
        _require_room({target.parent: size_of(database)}, "A copy of the database", "Make room.")
        copy_snapshot(database, temporary, require_running)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        give_to_owner(temporary, database)
        temporary.replace(target)
        folder.sync_folder(target.parent)
    except OSError as error:
        raise DiscueError(f"{database} cannot be copied to {target}: {error.strerror}.") from error
    finally:
        _remove_copy(temporary)


def _create(plan: BackupPlan, clock: Clock, random_bytes: RandomBytes, require_running: RequireRunning) -> Made:
    copy = plan.database.with_name(plan.database.name + COPY_SUFFIX)
    _remove_copy(copy)
    size = size_of(plan.database)
    if not plan.folder.is_dir():
        raise BackupUnusable(f"The folder {plan.folder} does not exist. Create it, or mount it.")
    needed = {plan.database.parent: size, plan.folder: size}
    _require_room(needed, "A backup", "Make room, or name a folder on another disk.")
    created_at = clock.now()
    try:
        identity = copy_snapshot(plan.database, copy, require_running)
        wal_bytes = _wal_bytes(plan.database)
        header = _header(identity, created_at, copy.stat().st_size)
        with folder.new_file(plan.folder, header.installation) as new:
            header = archive.write(
                copy, new.file, header, plan.key, random_bytes=random_bytes, require_running=require_running
            )
            archive.verify(new.path, require_running)
            path = new.publish(header)
    finally:
        _remove_copy(copy)
    deleted, problems = _delete_old(plan, header, require_running)
    return Made(path, header, wal_bytes, deleted, problems)


def _wal_bytes(database: Path) -> int:
    wal = database.with_name(database.name + "-wal")
    return wal.stat().st_size if wal.exists() else 0


def _header(identity: Identity, created_at: int, size: int) -> Header:
    return Header(
        installation=identity.installation,
        discue=__version__,
        schema_version=identity.schema_version,
        compatible_from=identity.compatible_from,
        created_at=created_at,
        database_bytes=size,
    )


def newest_of(database: Path, place: Path) -> int | None:
    """Return when the newest backup of a database in a folder was made; None if there is none."""
    backups = folder.listing(place, identity_of(database).installation).backups
    return backups[-1].header.created_at if backups else None


def _delete_old(plan: BackupPlan, made: Header, require_running: RequireRunning) -> tuple[list[Path], list[str]]:
    """Delete whole backups of the same installation that are older than they are kept."""
    if plan.keep_seconds is None:
        return [], []
    found = folder.listing(plan.folder, made.installation)
    deleted, problems = list[Path](), found.damaged
    for backup in found.backups:
        if backup.header.created_at >= made.created_at - plan.keep_seconds * 1_000:
            continue
        try:
            # A damaged one shows that something is wrong with the place: a person should see it.
            archive.verify(backup.path, require_running)
            backup.path.unlink()
        except BackupUnusable as error:
            problems.append(error.detail)
        except OSError as error:
            problems.append(f"{backup.path} cannot be deleted: {error.strerror}.")
        else:
            deleted.append(backup.path)
    return deleted, problems


def _require_room(needed: dict[Path, int], what: str, remedy: str) -> None:
    by_device: dict[int, list[tuple[Path, int]]] = {}
    for place, size in needed.items():
        by_device.setdefault(place.stat().st_dev, []).append((place, size))
    for folders in by_device.values():
        wanted = sum(size for _, size in folders) + _LEFT_FREE_BYTES
        free = shutil.disk_usage(folders[0][0]).free
        if free < wanted:
            raise DiscueError(
                f"{what} needs {wanted >> 20:,} MiB in {' and '.join(str(path) for path, _ in folders)} while it is "
                f"made, and {free >> 20:,} MiB are free. {remedy}"
            )


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Keep other processes from making a backup of the same database."""
    lock = database.with_name(database.name + _LOCK_SUFFIX)
    if not database.exists():
        raise BackupUnusable(f"There is no database at {database}.")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner(lock, database)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupUnusable(f"Another process makes a backup of {database}.") from error
        yield
    finally:
        os.close(descriptor)


def _remove_copy(copy: Path) -> None:
    for path in (copy, copy.with_name(copy.name + "-journal")):
        path.unlink(missing_ok=True)
