"""The outbox as a table of SQLAlchemy 2."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import DDL, BigInteger, Column, Identity, Index, Integer, LargeBinary, Table, Text, event, text
from sqlalchemy.orm import Session, scoped_session

from discue_client.outbox.publish import insert_sql
from discue_client.outbox.rows import INSERT_COLUMNS
from discue_client.outbox.table import INDEXES, NOTIFYING, TABLE
from discue_client.outbox.waking import wake

if TYPE_CHECKING:
    from sqlalchemy import MetaData, TextClause

_WAKES = "discue_outbox_wakes"


def outbox_table(metadata: MetaData) -> Table:
    """Add the table to the metadata, and return it. `metadata.create_all` creates it with the trigger for relays."""
    table = Table(
        TABLE,
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
        Column("queue", Text, nullable=False),
        Column("key", Text),
        Column("payload", LargeBinary, nullable=False),
        Column("form", Text, nullable=False),
        Column("fields", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("batch", Text),
        Column("attempts", Text),
        Column("claimed_at", BigInteger),
        Column("error", Text),
        sqlite_autoincrement=True,
    )
    for name, columns, condition in INDEXES:
        where = text(condition)
        Index(name, *(table.c[column] for column in columns), postgresql_where=where, sqlite_where=where)
    _run_on_postgresql(table, "after_create", *NOTIFYING)
    _run_on_postgresql(table, "after_drop", f"DROP FUNCTION {TABLE}_notify()")
    return table


def _run_on_postgresql(table: Table, moment: str, *statements: str) -> None:
    for statement in statements:
        ddl = DDL(statement)  # type: ignore[no-untyped-call]
        event.listen(table, moment, ddl.execute_if(dialect="postgresql"))


@cache
def insert_statement() -> TextClause:
    """Return the INSERT of a row, with the names of the columns as parameters."""
    return text(insert_sql(f":{name}" for name in INSERT_COLUMNS))


def wake_after_commit(connection: Any) -> None:
    """Have the relays of this process look for messages when the session commits. Connections do not report that."""
    session = connection() if isinstance(connection, scoped_session) else connection
    if isinstance(session, Session) and not session.info.get(_WAKES):
        session.info[_WAKES] = True
        event.listen(session, "after_commit", _committed)


def _committed(_session: Session) -> None:
    wake()
