"""The kinds of database connections, recognized without importing their drivers."""

from __future__ import annotations

SYNC = "a Session or Connection of SQLAlchemy, or a connection or cursor of psycopg or sqlite3"
ASYNC = "an AsyncSession or AsyncConnection of SQLAlchemy, or a connection of asyncpg or psycopg"

_KINDS = {
    ("sqlalchemy", "Session"): "sqlalchemy",
    ("sqlalchemy", "scoped_session"): "sqlalchemy",
    ("sqlalchemy", "Connection"): "sqlalchemy",
    ("sqlalchemy", "AsyncSession"): "sqlalchemy.async",
    ("sqlalchemy", "async_scoped_session"): "sqlalchemy.async",
    ("sqlalchemy", "AsyncConnection"): "sqlalchemy.async",
    ("psycopg", "Connection"): "psycopg",
    ("psycopg", "Cursor"): "psycopg",
    ("psycopg", "AsyncConnection"): "psycopg.async",
    ("psycopg", "AsyncCursor"): "psycopg.async",
    ("sqlite3", "Connection"): "sqlite3",
    ("sqlite3", "Cursor"): "sqlite3",
    ("asyncpg", "Connection"): "asyncpg",
    ("asyncpg", "PoolConnectionProxy"): "asyncpg",
}


def kind_of(connection: object) -> str | None:
    """Return the kind of a connection; None if it is unknown."""
    for each in type(connection).__mro__:
        found = _KINDS.get((each.__module__.partition(".")[0], each.__name__))
        if found is not None:
            return found
    return None


def wrong_kind(what: str, connection: object, expected: str, other: str) -> TypeError:
    """Return the error for an unsupported connection. `other` names what accepts it; "" if nothing does."""
    kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
    way_out = f" Use `{other}` for it." if other else ""
    return TypeError(f"The {what} takes {expected}, not {kind}.{way_out}")
