"""Publishing in the transaction of an application: one INSERT on its own connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from discue_client.connections import ASYNC, SYNC, kind_of, wrong_kind
from discue_client.outbox.rows import INSERT_COLUMNS, new_row
from discue_client.outbox.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Unpack

    from discue_client.messages import MessageFields


def publish(connection: Any, queue: str, data: object, **fields: Unpack[MessageFields]) -> None:
    """Store a message in the transaction of the connection; it is published once that has committed.

    `connection` is a Session or Connection of SQLAlchemy, or a connection or cursor of psycopg or sqlite3. The other
    arguments are those of `client.publish`. Raises TypeError for a connection of another kind, and TypeError or
    ValueError for a message that cannot be sent.
    """
    row = new_row(queue, data, **fields)
    kind = kind_of(connection)
    if kind == "sqlalchemy":
        from discue_client.outbox import sqlalchemy  # noqa: PLC0415 - imports only what the application has

        connection.execute(sqlalchemy.insert_statement(), row._asdict())
        sqlalchemy.wake_after_commit(connection)
    elif kind == "psycopg":
        connection.execute(insert_sql("%s" for _ in row), row)
    elif kind == "sqlite3":
        connection.execute(insert_sql("?" for _ in row), row)
    else:
        raise wrong_kind("outbox", connection, SYNC, "publish_async" if kind else "")


async def publish_async(connection: Any, queue: str, data: object, **fields: Unpack[MessageFields]) -> None:
    """Like `publish`, on an AsyncSession or AsyncConnection of SQLAlchemy, or a connection of asyncpg or psycopg."""
    row = new_row(queue, data, **fields)
    kind = kind_of(connection)
    if kind == "sqlalchemy.async":
        from discue_client.outbox import sqlalchemy  # noqa: PLC0415 - imports only what the application has

        await connection.execute(sqlalchemy.insert_statement(), row._asdict())
        sqlalchemy.wake_after_commit(getattr(connection, "sync_session", None))
    elif kind == "asyncpg":
        await connection.execute(insert_sql(f"${number}" for number, _ in enumerate(row, 1)), *row)
    elif kind == "psycopg.async":
        await connection.execute(insert_sql("%s" for _ in row), row)
    else:
        raise wrong_kind("outbox", connection, ASYNC, "publish" if kind else "")


def insert_sql(placeholders: Iterable[str]) -> str:
    """Return the INSERT of a row with these placeholders."""
    return f"INSERT INTO {TABLE} ({', '.join(INSERT_COLUMNS)}) VALUES ({', '.join(placeholders)})"
