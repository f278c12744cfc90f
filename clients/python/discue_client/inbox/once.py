"""Marking a message in the transaction of its effect."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from discue_client.connections import ASYNC, SYNC, kind_of, wrong_kind
from discue_client.inbox.table import forget_sql, mark_sql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

    from discue_client._async.consumer import AsyncDelivery
    from discue_client._sync.consumer import Delivery
    from discue_client.webhook import Event

_SAVEPOINT = "discue_inbox"
_NUMBERED = [f"${number}" for number in (1, 2, 3)]
_PARAMETERS: dict[str, list[str]] = {"sqlite3": ["?"] * 3, "asyncpg": _NUMBERED}
KEPT = timedelta(days=90)
"""How long marks are kept by default: longer than discue keeps messages by default."""


class Once:
    """A block that has an effect once: `with` or `async with`, depending on the connection."""

    def __init__(self, connection: Any, message: str, consumer: str) -> None:
        # A scoped session stands for the session of its thread or task.
        self._connection = connection.registry() if hasattr(connection, "registry") else connection
        self._kind = kind_of(connection)
        self._mark = (message, consumer, now())
        self._entered: Any = None

    def __enter__(self) -> bool:
        if self._kind not in ("sqlalchemy", "psycopg", "sqlite3"):
            raise wrong_kind("inbox", self._connection, SYNC, "async with" if self._kind else "")
        block = _sqlite_block if self._kind == "sqlite3" else _block
        self._entered = block(self._kind, self._connection, self._mark)
        first: bool = self._entered.__enter__()
        return first

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.__exit__(kind, error, trace)

    async def __aenter__(self) -> bool:
        if self._kind not in ("sqlalchemy.async", "asyncpg", "psycopg.async"):
            raise wrong_kind("inbox", self._connection, ASYNC, "with" if self._kind else "")
        self._entered = _async_block(self._kind, self._connection, self._mark)
        first: bool = await self._entered.__aenter__()
        return first

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._entered.__aexit__(kind, error, trace)


def once(connection: Any, message: Event[Any] | Delivery | AsyncDelivery | str, *, consumer: str = "") -> Once:
    """Return a context manager that yields True for the first request with this message, and False for all others.

    The mark and the effect in the block are atomic: the open transaction of the connection commits both, or the end of
    the block if none is open, and an exception undoes both. `message` is an event, a delivery or an id. Consumers with
    different names may share a table: each handles a message once.

    `connection` is a Session or Connection of SQLAlchemy, sync or async, a connection of psycopg, asyncpg or sqlite3,
    or a cursor of psycopg or sqlite3. Raises TypeError for any other connection.
    """
    return Once(connection, id_of(message), consumer)


def id_of(message: Any) -> str:
    """Return the id of an event or a delivery, or the given id. Raises TypeError for anything else."""
    message_id = message if isinstance(message, str) else getattr(message, "id", None)
    if not isinstance(message_id, str) or not message_id:
        raise TypeError(f"The inbox takes an event, a delivery or the id of a message, not {message!r}.")
    return message_id


def forget(connection: Any, *, older_than: timedelta = KEPT, limit: int = 10_000) -> int:
    """Delete up to `limit` old marks in the transaction of the connection, and return their number.

    Takes the connections that `once` takes in `with`.
    """
    kind = kind_of(connection)
    if kind not in ("sqlalchemy", "psycopg", "sqlite3"):
        raise wrong_kind("inbox", connection, SYNC, "forget_async" if kind else "")
    statement, values = forgetting(kind, older_than, limit)
    count: int = connection.execute(statement, values).rowcount
    return count


async def forget_async(connection: Any, *, older_than: timedelta = KEPT, limit: int = 10_000) -> int:
    """Like `forget`, for the connections that `once` takes in `async with`."""
    kind = kind_of(connection)
    if kind not in ("sqlalchemy.async", "asyncpg", "psycopg.async"):
        raise wrong_kind("inbox", connection, ASYNC, "forget" if kind else "")
    return await _run_async(kind, connection, *forgetting(kind, older_than, limit))


def now() -> int:
    return round(time.time() * 1_000)


def forgetting(kind: str, older_than: timedelta, limit: int) -> tuple[Any, Any]:
    before = now() - round(older_than.total_seconds() * 1_000)
    if kind.startswith("sqlalchemy"):
        return _text(forget_sql(":before", ":limit")), {"before": before, "limit": limit}
    return forget_sql(*_PARAMETERS.get(kind, ["%s"] * 3)[:2]), (before, limit)


def marking(kind: str, mark: tuple[str, str, int]) -> tuple[Any, Any]:
    if kind.startswith("sqlalchemy"):
        names = ("message", "consumer", "marked_at")
        return _text(mark_sql(*(f":{name}" for name in names))), dict(zip(names, mark, strict=True))
    return mark_sql(*_PARAMETERS.get(kind, ["%s"] * 3)), mark


def _text(sql: str) -> Any:
    from sqlalchemy import text  # noqa: PLC0415 - imports only what the application has

    return text(sql)


async def _run_async(kind: str, connection: Any, statement: Any, values: Any) -> int:
    """Run a statement, and return how many rows it has changed."""
    if kind == "asyncpg":
        return int((await connection.execute(statement, *values)).rpartition(" ")[2])
    count: int = (await connection.execute(statement, values)).rowcount
    return count


@contextmanager
def _block(kind: str, connection: Any, mark: tuple[str, str, int]) -> Iterator[bool]:
    with ExitStack() as stack:
        if kind == "psycopg":
            # In an open transaction, this is a savepoint.
            stack.enter_context(getattr(connection, "connection", connection).transaction())
        else:
            if not connection.in_transaction():
                stack.enter_context(connection.begin())
            _begin_on_sqlite(connection)
            # Needed after `begin` too: if each statement commits, PostgreSQL refuses the savepoint.
            stack.enter_context(connection.begin_nested())
        yield connection.execute(*marking(kind, mark)).rowcount == 1


@asynccontextmanager
async def _async_block(kind: str, connection: Any, mark: tuple[str, str, int]) -> AsyncIterator[bool]:
    async with AsyncExitStack() as stack:
        if kind == "asyncpg":
            await stack.enter_async_context(connection.transaction())
        elif kind == "psycopg.async":
            await stack.enter_async_context(getattr(connection, "connection", connection).transaction())
        else:
            if not connection.in_transaction():
                await stack.enter_async_context(connection.begin())
            await connection.run_sync(_begin_on_sqlite)
            await stack.enter_async_context(connection.begin_nested())
        yield await _run_async(kind, connection, *marking(kind, mark)) == 1


def _begin_on_sqlite(connection: Any) -> None:
    """Begin a transaction on SQLite, where the driver begins one only before a statement that writes.

    A savepoint outside a transaction would start one, and its release would commit.
    """
    bound = connection.get_bind() if hasattr(connection, "get_bind") else connection
    if bound.dialect.name == "sqlite":
        connection.execute(_text(forget_sql("0", "0")))


@contextmanager
def _sqlite_block(kind: str, connection: Any, mark: tuple[str, str, int]) -> Iterator[bool]:
    base = getattr(connection, "connection", connection)
    # Outside a transaction, a savepoint starts one.
    base.execute(f"SAVEPOINT {_SAVEPOINT}")
    try:
        yield base.execute(*marking(kind, mark)).rowcount == 1
        base.execute(f"RELEASE {_SAVEPOINT}")
    except BaseException:
        # Some errors, such as a full disk, have rolled back the whole transaction.
        if base.in_transaction:
            base.execute(f"ROLLBACK TO {_SAVEPOINT}")
            base.execute(f"RELEASE {_SAVEPOINT}")
        raise
