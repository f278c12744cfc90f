"""SQLite connections with the settings of this service, their errors, threads, and locks on files."""

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Protocol

import apsw

from discue.domain.clock import Clock, SystemClock
from discue.domain.errors import DiscueError, StoreDamaged, StoreUnavailable, StoreUnusable

INLINE_BYTES: Final = 700
"""A longer body is stored in the table `body`, so that its row in the log fits into a page.

The log is clustered by its key: to compare keys, SQLite reads whole rows, including their overflow pages. At this
length, a row with the usual columns takes less than a quarter of a page, which SQLite keeps in place.
"""

APPLICATION_ID = 0x64_69_73_63
"""Written into the file's header, to tell the databases of other programs apart."""

BUSY_TIMEOUT_MS = 800
_READ_BUSY_TIMEOUT_MS = 50
_MARK = "SELECT application_id, EXISTS (SELECT 1 FROM sqlite_schema) FROM pragma_application_id"
_CACHED_STATEMENTS = 256


_CHANGED_NOTHING = (apsw.FullError, apsw.BusyError, apsw.LockedError, apsw.ReadOnlyError, apsw.CantOpenError)


def make_private(path: Path) -> None:
    """Create a new file that only its owner may read: it contains secrets and messages. SQLite's other files follow.

    Errors show when the file is opened.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


def give_to_owner(path: Path, database: Path) -> None:
    """Give a new file next to a database to the database's owner, or the folder's if there is no database.

    Only the administrator can, and must: a command that the administrator runs must not leave files that the server
    cannot open.
    """
    if os.geteuid() == 0:
        owner = (database if database.exists() else database.parent).stat()
        # A file system that forbids it decides about owners by itself.
        with suppress(PermissionError):
            os.chown(path, owner.st_uid, owner.st_gid)


def connect(path: Path, *, read_only: bool = False, clock: Clock | None = None) -> apsw.Connection:
    """Open the file, which is created if it is missing. Leaves another program's database untouched.

    `synchronous=FULL` makes a commit durable in WAL mode: with the default, it would return before the log is on the
    disk, and every test would still pass. `SqliteEngine` runs checkpoints itself, because automatic ones run inside a
    commit. In SQL, `clock_ms()` reads `clock`, which is the machine's by default; `body_start(id, most)` reads the
    first bytes of a body; `substr` would read all of it.
    """
    now = (clock or SystemClock()).now
    connection = apsw.Connection(str(path), statementcachesize=_CACHED_STATEMENTS)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.create_scalar_function("clock_ms", lambda *_: now(), 0)
    connection.create_scalar_function("body_start", partial(_body_start, connection), 2)
    require_ours(connection, path)
    if connection.readonly("main"):
        # SQLite opens a file that it may only read without an error, and fails at the first write.
        raise apsw.ReadOnlyError("attempt to write a readonly database")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA cache_size=-65536")
    # Else SQLite compiles a statement again at each call if another value of a parameter could use a partial index.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.wal_autocheckpoint(0)
    if read_only:
        connection.execute("PRAGMA query_only=1")
        # Reads run on the event loop, which another program's lock must not block.
        connection.set_busy_timeout(_READ_BUSY_TIMEOUT_MS)
    return connection


def _body_start(connection: apsw.Connection, body_id: int | None, most: int) -> bytes | None:
    if body_id is None:
        return None
    body = connection.blob_open("main", "body", "bytes", body_id, False)
    try:
        return body.read(most)
    finally:
        body.close()


def require_ours(connection: apsw.Connection, path: Path) -> None:
    """Raise StoreUnusable if another program made the database."""
    # One statement reads one moment: another process of this program may be creating the file.
    [(mark, is_used)] = connection.execute(_MARK).fetchall()
    if mark != APPLICATION_ID and (mark or is_used):
        raise StoreUnusable(f"{path} is another program's database. Name another file.")


def translated(error: apsw.Error, path: Path, *, before_commit: bool = False) -> DiscueError:
    """Return the error for callers. SQLite's message stays in the chain, for the log.

    `before_commit`: nothing of the transaction can have been committed.
    """
    if isinstance(error, apsw.NotADBError):
        return StoreUnusable(f"{path} is not a database of discue. Name another file.")
    if isinstance(error, apsw.CorruptError):
        return StoreDamaged()
    # Anything else may have failed after the commit was in the log.
    return StoreUnavailable(code="not_stored" if before_commit or isinstance(error, _CHANGED_NOTHING) else "")


def require_folder(database: Path) -> None:
    """Raise StoreUnusable if the folder of a database does not exist."""
    if not database.parent.is_dir():
        raise StoreUnusable(
            f"The folder {database.parent} of the database does not exist. Create it, or name another one."
        )


def opening_error(error: apsw.Error, path: Path) -> StoreUnusable:
    """Return why a database could not be opened, for the person who starts the program."""
    if isinstance(error, apsw.NotADBError):
        reason = "it is not a database of discue: name another file"
    elif isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError | apsw.CantOpenError):
        reason = "it cannot be written: check that its folder exists and is writable for the user who runs discue"
    elif isinstance(error, apsw.BusyError | apsw.LockedError):
        reason = "another program holds it locked: stop that program, or wait for it"
    elif isinstance(error, apsw.FullError):
        reason = "the disk is full"
    else:
        reason = str(error)
    return StoreUnusable(f"The database {path} cannot be opened: {reason}.")


class Serial(Protocol):
    """Runs functions one after another, in the order of `submit`, and never within it."""

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work` after everything that was submitted before. It must not raise."""

    async def close(self) -> None:
        """Return when everything that was submitted has run. Nothing may be submitted any more."""


StartThread = Callable[[str], Serial]
"""Starts a thread with a name."""


class SerialThread:
    """A daemon thread: it does not keep a process from ending."""

    def __init__(self, name: str) -> None:
        self._works: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        self._works.put(work)

    async def close(self) -> None:
        self._works.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (work := self._works.get()) is not None:
            work()


_LOCK_FILES: Final = (".next", ".turn")
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
    paths = [database.with_name(database.name + ending) for ending in _LOCK_FILES]
    try:
        if not must_be and not all(os.access(path, os.R_OK) for path in paths):
            return None
        # A lock needs no right to write.
        return Turn(*[os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600) for path in paths])
    except OSError as error:
        raise StoreUnusable(f"{error.filename} cannot be opened: {error.strerror}.") from error
