"""A folder with backups."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple

from discue.backup import archive
from discue.backup.archive import BackupUnusable, Header, read_header
from discue.backup.destination import StoredBackup, StoredBackups, in_order, name_of, parse_name

_PARTIAL: Final = ".partial"


class Folder:
    """`destination.Destination` on a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def spool(self) -> Path:
        return self.path

    def require(self) -> None:
        if not self.path.is_dir():
            raise BackupUnusable(f"The folder {self.path} does not exist. Create it, or mount it.")

    def contents(self, installation: str | None = None) -> StoredBackups:
        backups, problems = list[StoredBackup](), list[str]()
        try:
            paths = list(self.path.iterdir())
        except OSError as error:
            raise BackupUnusable(f"{self.path} cannot be read: {error.strerror}.") from error
        for path in paths:
            backup = parse_name(path.name, 0)
            if backup is None or installation not in (None, backup.installation):
                continue
            try:
                backups.append(backup._replace(size=archive.HEADER_BYTES + read_header(path).content_bytes))
            except BackupUnusable as error:
                problems.append(error.detail)
            except OSError as error:
                problems.append(f"{path} cannot be read: {error.strerror}.")
        return StoredBackups(in_order(backups, installation), problems)

    def publish(self, file: Path, header: Header) -> str:
        """Rename a file of this folder, durably."""
        path = self.path / name_of(header)
        sync(file)
        # Two backups of one millisecond: the clock was set back. Neither may replace the other.
        if path.exists():
            raise BackupUnusable(f"{path} exists already.")
        file.rename(path)
        sync(self.path)
        return str(path)

    @contextmanager
    def fetch(self, name: str, into: Path) -> Iterator[Path]:
        del into
        yield self.path / name

    def verify(self, backup: StoredBackup) -> None:
        archive.verify(self.path / backup.name)

    def delete(self, name: str) -> None:
        (self.path / name).unlink()

    def where(self, name: str) -> str:
        return str(self.path / name)


class NewFile(NamedTuple):
    """A backup that is being written, under a name that no backup has."""

    path: Path
    file: IO[bytes]


@contextmanager
def new_file(folder: Path, installation: str) -> Iterator[NewFile]:
    """Open a new file in a folder, which is removed at the end unless it was renamed.

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


def sync(path: Path) -> None:
    """Wait until a file, or the names of the files in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
