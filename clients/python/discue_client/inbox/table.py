"""SQL of the inbox table."""

from __future__ import annotations

TABLE = "discue_inbox"
INDEX = f"{TABLE}_marked_at"

_CREATE = (
    f"""CREATE TABLE IF NOT EXISTS {TABLE} (
    message text NOT NULL,
    consumer text NOT NULL,
    marked_at bigint NOT NULL,
    PRIMARY KEY (message, consumer)
)""",
    f"CREATE INDEX IF NOT EXISTS {INDEX} ON {TABLE} (marked_at)",
)
_DIALECTS = ("postgresql", "sqlite")


def create_statements(dialect: str) -> tuple[str, ...]:
    """Return the statements that create the table. Raises ValueError unless the dialect is PostgreSQL or SQLite."""
    _check(dialect)
    return _CREATE


def drop_statements(dialect: str) -> tuple[str, ...]:
    """Return the statements that drop the table. Raises ValueError unless the dialect is PostgreSQL or SQLite."""
    _check(dialect)
    return (f"DROP TABLE {TABLE}",)


def mark_sql(message: str, consumer: str, marked_at: str) -> str:
    """Return the INSERT of a mark, with these placeholders. It inserts nothing if the mark exists.

    While another transaction that has inserted the same mark is open, PostgreSQL waits for its end.
    """
    return (
        f"INSERT INTO {TABLE} (message, consumer, marked_at) VALUES ({message}, {consumer}, {marked_at}) "
        "ON CONFLICT (message, consumer) DO NOTHING"
    )


def forget_sql(before: str, limit: str) -> str:
    """Return the DELETE of old marks, with these placeholders."""
    oldest = f"SELECT message, consumer FROM {TABLE} WHERE marked_at < {before} ORDER BY marked_at LIMIT {limit}"
    return f"DELETE FROM {TABLE} WHERE (message, consumer) IN ({oldest})"


def _check(dialect: str) -> None:
    if dialect not in _DIALECTS:
        raise ValueError(f'The inbox works on PostgreSQL and SQLite, not on {dialect}. Pass "postgresql" or "sqlite".')
