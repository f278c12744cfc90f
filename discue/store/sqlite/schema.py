"""The schema on SQLite, and database files: migrating, inspecting, copying and checking them."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from discue.domain.errors import StoreUnusable
from discue.store.encryption import Encryption, decode
from discue.store.migrations import DatabaseInspection, Migration, SchemaState, migrations, pending, written_by
from discue.store.sqlite.connection import APPLICATION_ID, make_private, opening_error, require_folder, require_ours

DIALECT = {
    "body_start": "",
    "bytes": "BLOB",
    "clock": "",
    "clustered": "WITHOUT ROWID",
    "hot": "WITHOUT ROWID",
    "intake": "SELECT 1;",
    "key": "INTEGER",
    "text": "TEXT",
}

_BUSY_TIMEOUT_MS = 2_000

# The statistics name the primary key of a table without row ids as the table.
_INDEXES = """
    SELECT t.name, CASE WHEN i.origin = 'pk' AND t.wr THEN t.name ELSE i.name END,
        (SELECT count(*) FROM pragma_index_info(i.name)), i."unique", i.partial
    FROM pragma_table_list AS t, pragma_index_list(t.name) AS i
    WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite%' ORDER BY t.name, i.name"""
_ROWS = 1_000_000
"""The declared number of rows of each table."""
_PARTIAL_ROWS = 100_000
"""The declared number of rows of an index that has only some of them."""
_OF_FIRST_COLUMN = 10
"""The declared share of rows with the same first column, which is mostly the organization: one in so many."""
_OF_OTHER_COLUMN = 100
_FEWEST = 2


def migrate(connection: apsw.Connection, known: tuple[Migration, ...]) -> int:
    """Migrate the schema; concurrent callers wait. A failed migration changes nothing.

    Returns the version that was migrated; 0 if the database was new or up to date.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        meta = meta_of(connection)
        if not meta:
            connection.execute("CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute("INSERT INTO meta VALUES ('epoch', lower(hex(randomblob(8))))")
        found = SchemaState.of(meta)
        outstanding = pending(known, found, f"The database {connection.filename}")
        for migration in outstanding:
            connection.execute(migration.sql)
            for item in written_by(migration, known).items():
                connection.execute("INSERT OR REPLACE INTO meta VALUES ($1, $2)", item)
        declare_sizes(connection)
        connection.execute("COMMIT")
        return found.version if outstanding else 0
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def declare_sizes(connection: apsw.Connection) -> None:
    """Declare to SQLite's planner that every table is large. Writes only if that has not been declared yet.

    Without statistics, the planner assumes that an organization has ten rows in a table, and reads all of them by the
    primary key rather than look up one by another index. Statistics of the actual rows (`ANALYZE`) would be those
    of an empty database for long, and could change any plan at any time.
    """
    declared = list(_sizes(connection))
    has_statistics = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'").fetchall()
    if has_statistics and connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1").fetchall() == declared:
        return
    # Creates the table of statistics, and analyzes nothing.
    connection.execute("ANALYZE sqlite_schema")
    connection.execute("DELETE FROM sqlite_stat1")
    connection.executemany("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ($1, $2, $3)", declared)
    # Loads the statistics. Connections that are opened later load them by themselves.
    connection.execute("ANALYZE sqlite_schema")


def _sizes(connection: apsw.Connection) -> Iterator[tuple[str, str, str]]:
    """Yield each index with its table and its statistics.

    They consist of the number of rows, and of the number of rows that share the first column, the first two, and so on.
    """
    indexes: list[tuple[str, str, int, bool, bool]] = [*connection.execute(_INDEXES)]
    for table, index, columns, is_unique, is_partial in indexes:
        sizes = [_PARTIAL_ROWS if is_partial else _ROWS]
        for place in range(columns):
            sizes.append(max(_FEWEST, sizes[-1] // (_OF_OTHER_COLUMN if place else _OF_FIRST_COLUMN)))
        if is_unique:
            sizes[-1] = 1
        # With few values in the first column, the planner would try each of them to use the columns behind it.
        yield table, index, f"{' '.join(map(str, sizes))} noskipscan"


def inspect_database(path: Path) -> DatabaseInspection:
    """Inspect a database, and change nothing. Raises StoreUnusable with the reason and what to do."""
    if path.exists():
        with _opened(path) as connection:
            # Fails if a write would fail: for another user's file, or a locked one. Closing ends the transaction.
            connection.execute("BEGIN IMMEDIATE")
            meta = meta_of(connection)
    else:
        meta = {}
        require_folder(path)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise StoreUnusable(
                f"The folder {path.parent} of the database is not writable for the user who runs discue. Change its "
                "owner."
            )
    found = SchemaState.of(meta)
    names = tuple(migration.name for migration in pending(migrations(DIALECT), found, f"The database {path}"))
    return DatabaseInspection(path.exists(), found.version, names, meta.get("encryption", ""))


def meta_of(connection: apsw.Connection) -> dict[str, str]:
    """Read the table `meta`; empty for a new file."""
    if connection.pragma("application_id") != APPLICATION_ID:
        return {}
    return {str(key): str(value) for key, value in connection.execute("SELECT key, value FROM meta")}


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
    is complete without a `-wal` file, and has nothing of deleted rows. It is not synced.

    Raises StoreUnusable, and leaves an incomplete target, if the source cannot be read, the target cannot be written,
    or the copy is damaged.
    """
    make_private(target)
    try:
        with closing(_connect(source)) as connection:
            require_ours(connection, source)
            _copy_all(connection, target)
        with closing(_connect(target)) as copy:
            if problems := _check(copy, "quick_check"):
                raise StoreUnusable(f"{source} is damaged: {problems[0]}. Restore it from a backup.")
            return _identity(copy)
    except apsw.CorruptError as error:
        # The check itself fails where not even the root of a table can be read.
        raise StoreUnusable(f"{source} is damaged: {error}. Restore it from a backup.") from error
    except apsw.Error as error:
        raise StoreUnusable(f"{source} cannot be copied to {target}: {error}.") from error


def _copy_all(source: apsw.Connection, target: Path) -> None:
    # A copy of the pages would contain remains of erased messages. An unfinished copy is discarded: nothing is synced.
    source.execute("PRAGMA synchronous=OFF")
    source.execute("VACUUM INTO ?", (str(target),))


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
