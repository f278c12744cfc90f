"""The database of an application, as a relay uses it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from discue_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from discue_client.outbox.steps import Step

T = TypeVar("T")

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))"
PREPARE = """
SELECT
    set_config('idle_in_transaction_session_timeout', '10s', true),
    set_config('synchronous_commit', CASE level WHEN 'off' THEN 'on' ELSE level END, true)
FROM current_setting('synchronous_commit') AS level
"""
"""Runs before the lock. A name must not be lost in a crash after the batch was sent under it, and a relay that stands
still in a transaction must not stop the others."""

TRANSACTION_SECONDS = 60.0
"""A connection that takes longer is given up: the network may have lost it silently."""


class DatabaseBusy(Exception):
    """An application has held the lock of the database for longer than a connection waits. A later try can succeed."""


class Database(Protocol):
    """Connections of a relay. They are opened again after they were lost."""

    async def transaction(self, step: Step[T], *, lock: str | None = None) -> T:
        """Run a transaction. With `lock`, no other transaction with the same lock runs meanwhile.

        Raises DatabaseBusy, and errors of the driver.
        """
        ...

    async def listen(self, wake: Callable[[], None], /) -> None:
        """Call `wake` after commits that add rows, if the database reports them. Does nothing while it does that."""
        ...

    async def close(self) -> None: ...


def database_of(target: Any) -> Database:
    """Return the database of a URL, or of an engine of SQLAlchemy. Raises ConfigurationError."""
    url = target if isinstance(target, str) else _url_of_engine(target)
    scheme, _, rest = url.partition("://")
    kind, _, driver = scheme.partition("+")
    if kind == "sqlite":
        from discue_client.outbox.sqlite import SqliteDatabase  # noqa: PLC0415 - imports only what is used

        return SqliteDatabase(_file_of(rest))
    if kind in ("postgresql", "postgres"):
        return _postgres(f"postgresql://{rest}", driver)
    # It may contain a password.
    raise ConfigurationError("The database of the outbox must look like postgresql://host/name or sqlite:///file.")


def _url_of_engine(engine: Any) -> str:
    url = getattr(engine, "url", None)
    if url is None or not hasattr(url, "render_as_string"):
        kind = f"{type(engine).__module__}.{type(engine).__qualname__}"
        raise ConfigurationError(f"A relay takes the URL of a database or an engine of SQLAlchemy, not {kind}.")
    text: str = url.render_as_string(hide_password=False)
    return text


def _file_of(rest: str) -> str:
    path = rest.partition("?")[0].removeprefix("/")
    if path in ("", ":memory:"):
        raise ConfigurationError("A relay has connections of its own, which cannot read a database in memory.")
    return path


def _postgres(dsn: str, driver: str) -> Database:
    if driver == "asyncpg" or (driver != "psycopg" and find_spec("asyncpg")):
        from discue_client.outbox.asyncpg import AsyncpgDatabase  # noqa: PLC0415 - imports only what is used

        return AsyncpgDatabase(dsn)
    if find_spec("psycopg"):
        from discue_client.outbox.psycopg import PsycopgDatabase  # noqa: PLC0415 - imports only what is used

        return PsycopgDatabase(dsn)
    raise ConfigurationError("A relay on PostgreSQL needs asyncpg or psycopg 3: install one of them.")
