"""Locks on files next to a database: for a purpose that one process at a time may have, and a queue of writers.

Writers of several processes write in turn, and none twice while others wait. SQLite itself sleeps and tries again:
while one process writes without a pause, another may find the file locked at each try, for seconds.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from discue.domain.errors import DiscueError, StoreUnusable
from discue.store.sqlite.connection import give_to_owner, require_folder

_FILES: Final = (".next", ".turn")
"""The holder of the first lock waits for the second. With one lock alone, a process that releases it would take it
again before the system wakes those that wait.
"""


@contextmanager
def alone_with(database: Path, suffix: str, refusal: DiscueError) -> Iterator[None]:
    """Hold the lock of one purpose, on a file next to a database. Raises `refusal` if another process holds it.

    Raises StoreUnusable if the file can neither be opened nor created. The system releases the lock when the process
    ends.
    """
    lock = database.with_name(database.name + suffix)
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        require_folder(database)
        raise StoreUnusable(f"{lock} cannot be written: {error.strerror}.") from error
    try:
        give_to_owner(lock, database)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise refusal from error
        yield
    finally:
        os.close(descriptor)


class Turn:
    """The locks of one process, on files next to the database. The system releases them when the process ends.

    They only save waiting: the database's own lock keeps writers apart, including those that do not use these.
    """

    def __init__(self, following: int, turn: int) -> None:
        self._next = following
        self._turn = turn

    def __enter__(self) -> None:
        # The first lock is held only while waiting for the second: its next holder is the next writer.
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
    """Open the locks of a database. Without `must_be`, only if several workers have used them: for commands next to
    workers.

    Raises StoreUnusable if the files can neither be opened nor created.
    """
    paths = [database.with_name(database.name + ending) for ending in _FILES]
    try:
        if not must_be and not all(os.access(path, os.R_OK) for path in paths):
            return None
        # A lock needs no right to write.
        return Turn(*[os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600) for path in paths])
    except OSError as error:
        raise StoreUnusable(f"{error.filename} cannot be opened: {error.strerror}.") from error
