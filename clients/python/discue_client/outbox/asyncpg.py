"""The outbox in PostgreSQL, with asyncpg."""

from __future__ import annotations

import asyncio
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from discue_client.outbox.database import LOCK, PREPARE, TRANSACTION_SECONDS
from discue_client.outbox.steps import run
from discue_client.outbox.table import CHANNEL, TABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from discue_client.outbox.steps import Statement, Step

T = TypeVar("T")

_CLOSE_SECONDS = 5.0


class AsyncpgDatabase:
    """A connection for transactions, and one for notifications."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._working: Any = None
        self._listening: Any = None
        self._turn = asyncio.Lock()

    async def transaction(self, step: Step[T], *, lock: str | None = None) -> T:
        async with self._turn:
            if self._working is None or self._working.is_closed():
                self._working = await self._connect()
            timeout = asyncio.get_running_loop().call_later(TRANSACTION_SECONDS, self._working.terminate)
            try:
                async with self._working.transaction():
                    if lock is not None:
                        await self._working.fetch(PREPARE)
                        await self._working.fetch(_numbered(LOCK), f"{TABLE}/{lock}")
                    return await run(step, self._execute)
            finally:
                timeout.cancel()

    async def _execute(self, statement: Statement) -> list[Any]:
        rows: list[Any] = await self._working.fetch(_numbered(statement.sql), *statement.values)
        return rows

    async def listen(self, wake: Callable[[], None]) -> None:
        if self._listening is not None and not self._listening.is_closed():
            return
        connection = await self._connect()
        self._listening = connection
        # The next look opens another one.
        connection.add_termination_listener(lambda *_: wake())
        try:
            await connection.add_listener(CHANNEL, lambda *_: wake())
        except BaseException:
            connection.terminate()
            raise

    async def _connect(self) -> Any:
        # Poolers such as PgBouncer give each transaction another session, which knows no prepared statements.
        return await asyncpg.connect(self._dsn, statement_cache_size=0)

    async def close(self) -> None:
        for connection in (self._listening, self._working):
            if connection is not None:
                try:
                    await connection.close(timeout=_CLOSE_SECONDS)
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError):
                    connection.terminate()


@cache
def _numbered(sql: str) -> str:
    numbers = count(1)
    return "".join(f"${next(numbers)}" if char == "?" else char for char in sql)
