"""Copies of a SQLite database at one moment, while others write to it, and checks of such copies."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from discue.domain.errors import StoreUnusable
from discue.store.encryption import Encryption, decode
from discue.store.migrations import SchemaState, migrations, pending
from discue.store.sqlite.connection import make_private, opening_error, require_ours
from discue.store.sqlite.schema import DIALECT, meta_of

_STEP_PAGES: Final = 2_048
_BUSY_TIMEOUT_MS: Final = 2_000
_PROBLEMS_SHOWN: Final = 5
_COUNTED: Final = {
    "organizations": "SELECT COUNT(*) FROM organization WHERE deleted_at IS NULL",
    "queues": "SELECT COUNT(*) FROM queue WHERE deleted_at IS NULL",
    "listeners": "SELECT COUNT(*) FROM listener WHERE deleted_at IS NULL",
    "messages": "SELECT COUNT(*) FROM log WHERE kind = 0",
}
_CONSISTENCY: Final = {
    "messages have a number beyond the head of their queue": """
        SELECT COUNT(*) FROM log l LEFT JOIN queue_head h ON h.organization = l.organization AND h.queue = l.queue
        WHERE h.head IS NULL OR l.seq > h.head""",
    "cursors are beyond the head of their queue": """
        SELECT COUNT(*) FROM cursor c JOIN queue_head h ON h.organization = c.organization AND h.queue = c.queue
        WHERE c.position > h.head""",
}


class Identity(NamedTuple):
    """The identity of a database, and the programs that can use it."""

    installation: str
    """A random text that each database gets when it is created. Copies and backups keep it."""
    schema_version: int
    compatible_from: int
    encryption: Encryption


class Contents(NamedTuple):
    """The result of a check of a whole database."""

    identity: Identity
    counts: dict[str, int]
    newest_message_at: int
    """Milliseconds since the epoch; 0 if there is no message."""
    problems: list[str]


def size_of(path: Path) -> int:
    """Return the size of a copy of a database, in bytes. Raises StoreUnusable if it is none of this program."""
    with _opened(path) as connection:
        return int(connection.pragma("page_count")) * int(connection.pragma("page_size"))


def copy_snapshot(source: Path, target: Path) -> Identity:
    """Copy a database, as it is at one moment, to a new file that only its owner may read, and check the copy.

    Neither waits for writers nor makes them wait. Blocks for as long as it takes to read and write the file. The copy
    is complete without a `-wal` file. It is not synced.

    Raises StoreUnusable, and leaves an incomplete target, if the source cannot be read, the target cannot be written,
    or the copy is damaged.
    """
    make_private(target)
    try:
        with closing(_connect(target)) as copy:
            # An unfinished copy is of no use.
            copy.execute("PRAGMA journal_mode=OFF")
            copy.execute("PRAGMA synchronous=OFF")
            with closing(_connect(source)) as connection:
                require_ours(connection, source)
                _copy_all(connection, copy)
            # The source's journal mode came with its first page. In this one, the file needs no others next to it.
            copy.execute("PRAGMA journal_mode=DELETE")
            if problems := _check(copy, "quick_check"):
                raise StoreUnusable(f"{source} is damaged: {problems[0]}. Restore it from a backup.")
            return _identity(copy)
    except apsw.CorruptError as error:
        # The check itself fails where not even the root of a table can be read.
        raise StoreUnusable(f"{source} is damaged: {error}. Restore it from a backup.") from error
    except apsw.Error as error:
        raise StoreUnusable(f"{source} cannot be copied to {target}: {error}.") from error


def _copy_all(source: apsw.Connection, target: apsw.Connection) -> None:
    # A backup begins again whenever another connection has written between two of its steps, and may never end on a
    # busy database. Inside a transaction, all steps read the snapshot of its first statement.
    source.execute("BEGIN")
    source.execute("SELECT value FROM meta LIMIT 1").fetchall()
    try:
        with target.backup("main", source, "main") as backup:
            while not backup.done:
                _copy_pages(backup)
    finally:
        source.execute("ROLLBACK")


def _copy_pages(backup: apsw.Backup) -> None:
    backup.step(_STEP_PAGES)


def check_contents(path: Path) -> Contents:
    """Check a whole database that no process uses, row by row. Raises StoreUnusable if this program cannot use it."""
    with _opened(path) as connection:
        identity = _identity(connection)
        # Raises for a database of another build, or one that needs a newer program.
        pending(migrations(DIALECT), SchemaState.of(meta_of(connection)), f"The database {path}")
        problems = _check(connection, "integrity_check")
        for problem, sql in _CONSISTENCY.items():
            if count := connection.execute(sql).get:
                problems.append(f"{count:,} {problem}")
        counts = {name: connection.execute(sql).get for name, sql in _COUNTED.items()}
        stored_at = connection.execute("SELECT MAX(stored_at) FROM log").get
        return Contents(identity, counts, stored_at or 0, problems)


def identity_of(path: Path) -> Identity:
    """Return which database a file is. Raises StoreUnusable if it is none of this program."""
    with _opened(path) as connection:
        return _identity(connection)


def require_unused(path: Path) -> None:
    """Raise StoreUnusable if a program has the database open. A file that is no database is not used."""
    try:
        with closing(_connect(path)) as connection:
            # In this mode, a transaction needs the whole file. Every other open connection has a lock on it.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.set_busy_timeout(0)
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
    except apsw.BusyError as error:
        raise StoreUnusable(f"Another program uses {path}. Stop it first.") from error
    except (apsw.NotADBError, apsw.CorruptError):
        # A damaged database is what restores are for.
        return
    except apsw.Error as error:
        raise opening_error(error, path) from error


def _check(connection: apsw.Connection, pragma: str) -> list[str]:
    lines = [line for row in connection.execute(f"PRAGMA {pragma}({_PROBLEMS_SHOWN})") for line in row[0].split("\n")]
    return [] if lines == ["ok"] else [line for line in lines if not line.startswith("***")]


def _identity(connection: apsw.Connection) -> Identity:
    meta = meta_of(connection)
    schema = SchemaState.of(meta)
    encryption = decode(meta.get("encryption", ""))
    return Identity(meta.get("epoch", ""), schema.version, schema.compatible_from, encryption)


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
    return connection


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    """Open a database of this program. SQLite's errors become StoreUnusable."""
    try:
        with closing(_connect(path)) as connection:
            require_ours(connection, path)
            yield connection
    except apsw.Error as error:
        raise opening_error(error, path) from error
