"""Destinations for backups: folders and buckets, and the names of backups in them."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from discue.backup import archive
from discue.backup.archive import BackupUnusable, Header, read_header
from discue.domain.errors import SettingsInvalid

if TYPE_CHECKING:
    from discue.backup.bucket import Bucket

SCHEME: Final = "s3://"
"""The beginning of the names of buckets, unlike those of folders."""

_LIBRARY: Final = "botocore"
_NAME: Final = re.compile(r"discue-([0-9a-f]+)-(\d{8}T\d{6}\.\d{3})Z\.backup")
_TIME: Final = "%Y%m%dT%H%M%S.%f"
_SHOWN: Final = "%Y-%m-%d %H:%M:%SZ"


class StoredBackup(NamedTuple):
    """A backup in a destination, as its name describes it. Its content may be damaged."""

    name: str
    installation: str
    created_at: int
    """Milliseconds since the epoch."""
    size: int


class StoredBackups(NamedTuple):
    """The backups in a destination, oldest first, and the problems of files that have the name of one."""

    backups: list[StoredBackup]
    problems: list[str]


class Folder:
    """A folder with backups. `str` returns its name for messages.

    All methods block, and raise DiscueError or OSError if the folder cannot be reached.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def require(self) -> None:
        """Raise DiscueError if the destination does not exist."""
        if not self.path.is_dir():
            raise BackupUnusable(f"The folder {self.path} does not exist. Create it, or mount it.")

    def contents(self, installation: str | None = None) -> StoredBackups:
        """List the backups of one installation, or of all."""
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
        """Store a complete file under the name of its backup, as a whole or not at all. Returns where it is."""
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
        """Yield a local file with the content of a backup.

        If the destination is remote, the file is a copy in the folder `into`, which is removed at the end.
        """
        del into
        yield self.path / name

    def verify(self, backup: StoredBackup) -> None:
        """Raise BackupUnusable if a backup is not whole."""
        archive.verify(self.path / backup.name)

    def delete(self, name: str) -> None:
        (self.path / name).unlink()

    def where(self, name: str) -> str:
        """Return the full name of a backup, for messages."""
        return str(self.path / name)


Destination: TypeAlias = "Folder | Bucket"
"""A place for backups. Both types have the same methods."""


def name_of(header: Header) -> str:
    """Return the name of a backup."""
    at = datetime.fromtimestamp(header.created_at / 1_000, UTC)
    return f"discue-{header.installation}-{at.strftime(_TIME)[:-3]}Z.backup"


def parse_name(name: str, size: int) -> StoredBackup | None:
    """Return what a name says about a backup; None if it is the name of something else."""
    named = _NAME.fullmatch(name)
    if named is None:
        return None
    at = datetime.strptime(named[2], _TIME).replace(tzinfo=UTC)
    return StoredBackup(name, named[1], round(at.timestamp() * 1_000), size)


def in_order(found: Iterable[StoredBackup], installation: str | None) -> list[StoredBackup]:
    """Return the backups of one installation, or of all, oldest first."""
    wanted = [backup for backup in found if installation in (None, backup.installation)]
    return sorted(wanted, key=lambda backup: backup.created_at)


def newest(destination: Destination, at: int | None = None) -> StoredBackup:
    """Return the newest backup, or the newest of before a time. Raises BackupUnusable if there is none."""
    found = destination.contents()
    installations = sorted({backup.installation for backup in found.backups})
    if len(installations) > 1:
        named = ", ".join(installations)
        raise BackupUnusable(f"{destination} has backups of several installations ({named}): name one of its files.")
    matching = [backup for backup in found.backups if at is None or backup.created_at <= at]
    if matching:
        return matching[-1]
    if found.backups:
        oldest = datetime.fromtimestamp(found.backups[0].created_at / 1_000, UTC)
        raise BackupUnusable(f"{destination} has no backup of that time: its oldest one is of {oldest:{_SHOWN}}.")
    damaged = f" {len(found.problems)} are damaged." if found.problems else ""
    raise BackupUnusable(f"{destination} has no whole backup.{damaged}")


def destination_of(text: str, environ: Mapping[str, str]) -> Destination:
    """Return the folder or the bucket that a text names. Raises SettingsInvalid like `require_usable`."""
    require_usable(text, environ)
    if not text.startswith(SCHEME):
        return Folder(Path(text))
    from discue.backup.bucket import Bucket  # noqa: PLC0415 - an extra, and half a second of imports

    return Bucket(text, environ)


def require_usable(destination: str, environ: Mapping[str, str]) -> None:
    """Raise SettingsInvalid unless a bucket has a name and an access key, and the extra `s3` is installed."""
    if not destination.startswith(SCHEME):
        return
    if destination.startswith(f"{SCHEME}/") or destination == SCHEME:
        raise SettingsInvalid(f"{destination} names no bucket.")
    missing = [each for each in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not environ.get(each)]
    if missing:
        raise SettingsInvalid(f"{destination} needs {' and '.join(missing)} in the environment.")
    if find_spec(_LIBRARY) is None:
        raise SettingsInvalid(
            f"{destination} needs the packages of the extra s3, which are not installed: run "
            "`pip install --require-hashes -r requirements/s3.txt` in a clone of the repository."
        )


def sync(path: Path) -> None:
    """Wait until a file, or the names of the files in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
