"""Destinations for backups: what a folder and a bucket have in common, and the names of backups in them."""

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from discue.backup.archive import BackupUnusable, Header

SCHEME: Final = "s3://"
"""The beginning of the names of buckets, unlike those of folders."""

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


class Destination(Protocol):
    """Keeps backups under their names. Its `str` names it in messages.

    All methods block, and raise DiscueError or OSError if the destination cannot be reached.
    """

    @property
    def spool(self) -> Path | None:
        """A folder of the destination, in which new backups are written; None if it has none."""
        ...

    def require(self) -> None:
        """Raise DiscueError if the destination does not exist."""
        ...

    def contents(self, installation: str | None = None) -> StoredBackups:
        """List the backups of one installation, or of all."""
        ...

    def publish(self, file: Path, header: Header) -> str:
        """Store a complete file under the name of its backup, as a whole or not at all. Returns where it is."""
        ...

    def fetch(self, name: str, into: Path) -> AbstractContextManager[Path]:
        """Yield a local file with the content of a backup.

        If the destination is remote, the file is a copy in the folder `into`, which is removed at the end.
        """
        ...

    def verify(self, backup: StoredBackup) -> None:
        """Raise BackupUnusable if a backup is not whole."""
        ...

    def delete(self, name: str) -> None: ...

    def where(self, name: str) -> str:
        """Return the full name of a backup, for messages."""
        ...


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
