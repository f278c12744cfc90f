"""The schema on SQLite: migrating it, and inspecting a database file."""

import os
from collections.abc import Iterator
from pathlib import Path

import apsw

from discue.domain.errors import StoreUnusable
from discue.store.migrations import DatabaseInspection, Migration, SchemaState, migrations, pending, written_by
from discue.store.sqlite.connection import APPLICATION_ID, opening_error, require_folder, require_ours

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
        meta = _inspected_meta(path)
    else:
        meta = {}
        require_folder(path)
        _require_writable(path.parent)
    found = SchemaState.of(meta)
    names = tuple(migration.name for migration in pending(migrations(DIALECT), found, f"The database {path}"))
    return DatabaseInspection(path.exists(), found.version, names, meta.get("encryption", ""))


def _inspected_meta(path: Path) -> dict[str, str]:
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
            require_ours(connection, path)
            # Fails if a write would fail: for another user's file, or a locked one.
            connection.execute("BEGIN IMMEDIATE")
            try:
                return meta_of(connection)
            finally:
                connection.execute("ROLLBACK")
        finally:
            connection.close()
    except apsw.Error as error:
        raise opening_error(error, path) from error


def _require_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreUnusable(
            f"The folder {folder} of the database is not writable for the user who runs discue. Change its owner."
        )


def meta_of(connection: apsw.Connection) -> dict[str, str]:
    """Read the table `meta`; empty for a new file."""
    if connection.pragma("application_id") != APPLICATION_ID:
        return {}
    return {str(key): str(value) for key, value in connection.execute("SELECT key, value FROM meta")}
