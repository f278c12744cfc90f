"""Inspecting a database file before it is opened."""

import os
from pathlib import Path

import apsw
import msgspec

from discue.domain.errors import StoreUnusable
from discue.store.migrations import DatabaseInspection, Migration, pending
from discue.store.sqlite.connection import is_marked, opening_error, require_ours, schema_versions

_BUSY_TIMEOUT_MS = 2_000


def inspect_database(path: Path, known: tuple[Migration, ...]) -> DatabaseInspection:
    """Inspect a database, and change nothing. Raises StoreUnusable with the reason and what to do."""
    if not path.exists():
        _require_writable(path.parent)
        return _found(known, (0, 0), exists=False)
    try:
        return _inspect(path, known)
    except apsw.Error as error:
        raise opening_error(error, path) from error


def _inspect(path: Path, known: tuple[Migration, ...]) -> DatabaseInspection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
        require_ours(connection, path)
        # Fails if a write would fail: for another user's file, or a locked one.
        connection.execute("BEGIN IMMEDIATE")
        try:
            marked = is_marked(connection)
            versions = schema_versions(connection) if marked else (0, 0)
            encryption = _encryption(connection) if marked else ""
        finally:
            connection.execute("ROLLBACK")
        found = _found(known, versions, exists=True)
        return msgspec.structs.replace(found, encryption=encryption)
    finally:
        connection.close()


def _encryption(connection: apsw.Connection) -> str:
    found = connection.execute("SELECT value FROM meta WHERE key = 'encryption'").fetchall()
    return str(found[0][0]) if found else ""


def _found(known: tuple[Migration, ...], versions: tuple[int, int], *, exists: bool) -> DatabaseInspection:
    names = tuple(migration.name for migration in pending(known, *versions))
    return DatabaseInspection(exists, versions[0], names)


def _require_writable(folder: Path) -> None:
    if not folder.is_dir():
        raise StoreUnusable(f"The folder {folder} of the database does not exist. Create it, or name another one.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreUnusable(
            f"The folder {folder} of the database is not writable for the user who runs discue. Change its owner."
        )
