"""Taking turns at one file: writers of several processes go one after another, none twice while others wait.

SQLite's own way is to sleep and to look again: while one writes without a pause, another may see the file taken at
each of its looks, for seconds.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final

from discue.domain.errors import StoreUnusable

_FILES: Final = (".next", ".turn")
"""Who holds the first one waits for the second one. With one alone, whoever ends his turn would be the next again,
before the system has woken those who wait."""


class Turn:
    """One writer's way to its turns, with files beside the database. A process that ends gives back what it had.

    It only saves waiting: what keeps writers apart is the database's own lock, also from those who take no turns.
    """

    def __init__(self, following: int, turn: int) -> None:
        self._next = following
        self._turn = turn

    def __enter__(self) -> None:
        fcntl.flock(self._next, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        for descriptor in (self._next, self._turn):
            os.close(descriptor)


def turn_at(database: Path, *, must_be: bool) -> Turn | None:
    """The turns at a database. Without `must_be` only where several workers took turns before: for a command beside.

    Raises StoreUnusable when the files for it can neither be opened nor made.
    """
    paths = [database.with_name(database.name + ending) for ending in _FILES]
    try:
        if not must_be and not all(os.access(path, os.R_OK) for path in paths):
            return None
        # A lock needs no right to write.
        return Turn(*[os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600) for path in paths])
    except OSError as error:
        raise StoreUnusable(f"{error.filename} cannot be opened: {error.strerror}.") from error
