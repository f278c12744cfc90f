"""A folder with backups: their names, and which of them are whole."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, NamedTuple

from discue.backup.archive import BackupUnusable, Header, read_header

_NAME: Final = re.compile(r"discue-([0-9a-f]+)-(\d{8}T\d{6}\.\d{3})Z\.backup")
_TIME: Final = "%Y%m%dT%H%M%S.%f"
_PARTIAL: Final = ".partial"


class Backup(NamedTuple):
    """A file in a folder whose name and length are those of a backup. Its content may be damaged."""

    path: Path
    header: Header


class FolderContents(NamedTuple):
    """The backups in a folder, oldest first, and what is wrong with files that have the names of some."""

    backups: list[Backup]
    damaged: list[str]


def name_of(header: Header) -> str:
    """Return the name of a backup's file."""
    at = datetime.fromtimestamp(header.created_at / 1_000, UTC)
    return f"discue-{header.installation}-{at.strftime(_TIME)[:-3]}Z.backup"


def listing(folder: Path, installation: str | None = None) -> FolderContents:
    """List the backups in a folder: of one installation, or all. Raises BackupUnusable if there is no such folder."""
    backups, damaged = [], []
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise BackupUnusable(f"{folder} cannot be read: {error.strerror}.") from error
    for path in paths:
        named = _NAME.fullmatch(path.name)
        if named is None or installation not in (None, named[1]):
            continue
        try:
            backups.append(Backup(path, read_header(path)))
        except BackupUnusable as error:
            damaged.append(error.detail)
        except OSError as error:
            damaged.append(f"{path} cannot be read: {error.strerror}.")
    backups.sort(key=lambda backup: backup.header.created_at)
    return FolderContents(backups, damaged)


def newest(folder: Path, at: int | None = None) -> Backup:
    """Return the newest backup in a folder, or the newest of before a time. Raises BackupUnusable if there is none."""
    found = listing(folder)
    installations = sorted({backup.header.installation for backup in found.backups})
    if len(installations) > 1:
        named = ", ".join(installations)
        raise BackupUnusable(f"{folder} has backups of several installations ({named}): name one of its files.")
    matching = [backup for backup in found.backups if at is None or backup.header.created_at <= at]
    if matching:
        return matching[-1]
    damaged = f" {len(found.damaged)} are damaged." if found.damaged else ""
    if found.backups:
        oldest = datetime.fromtimestamp(found.backups[0].header.created_at / 1_000, UTC)
        raise BackupUnusable(f"{folder} has no backup of that time: its oldest one is of {oldest:%Y-%m-%d %H:%M:%S}Z.")
    raise BackupUnusable(f"{folder} has no whole backup.{damaged}")


class NewFile(NamedTuple):
    """A backup that is being written, under a name that no backup has."""

    path: Path
    file: IO[bytes]

    def publish(self, header: Header) -> Path:
        """Give the complete file the name of its backup, durably. Returns its path."""
        os.fsync(self.file.fileno())
        path = self.path.with_name(name_of(header))
        # Two backups of one millisecond: the clock was set back. Neither may replace the other.
        if path.exists():
            raise BackupUnusable(f"{path} exists already.")
        self.path.rename(path)
        sync_folder(path.parent)
        return path


@contextmanager
def new_file(folder: Path, installation: str) -> Iterator[NewFile]:
    """Open a new file in a folder, which is removed at the end unless it was published.

    Files that killed processes have left are removed first: only one process at a time makes backups of an
    installation.
    """
    for left in folder.glob(f".discue-{installation}-*{_PARTIAL}"):
        left.unlink(missing_ok=True)
    path = folder / f".discue-{installation}-{os.getpid()}{_PARTIAL}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield NewFile(path, file)
    finally:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
