"""Databases to back up, with messages that do not compress: a backup is as large as its database."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw

from tests.support.stores import migrated_file

_HEAD = (
    "INSERT INTO queue_head (organization, queue, head, tail, last_stored_at, config_version) VALUES (1, 1, ?, 0, 1, 1)"
)
_ROW = "INSERT INTO log (organization, queue, seq, id, stored_at, size, codec, body) VALUES (1, 1, ?, ?, 1, 4000, 0, ?)"


def filled(path: Path, messages: int = 40) -> Path:
    """Create a database with messages of 4,000 random bytes in one queue."""
    migrated_file(path)
    with opened(path) as connection, connection:
        connection.execute(_HEAD, (messages,))
        connection.executemany(_ROW, [(seq, str(seq), os.urandom(4_000)) for seq in range(1, messages + 1)])
    return path


@contextmanager
def opened(path: Path) -> Iterator[apsw.Connection]:
    """Connect as the product does: another SQLite library in the same process would break its file locks."""
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.wal_autocheckpoint(0)
        yield connection


def append(connection: apsw.Connection, seq: int) -> None:
    """Store one more message, in a transaction of its own."""
    with connection:
        connection.execute(_ROW, (seq, str(seq), os.urandom(4_000)))
        connection.execute("UPDATE queue_head SET head = ?", (seq,))


def messages_in(path: Path) -> int:
    """Return the number of messages in a database."""
    with closing(apsw.Connection(str(path))) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM log").get)
