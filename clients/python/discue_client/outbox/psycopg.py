"""The outbox in PostgreSQL, with psycopg 3."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from discue_client.outbox.database import LOCK, PREPARE, TRANSACTION_SECONDS
from discue_client.outbox.steps import run
from discue_client.outbox.table import CHANNEL, TABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from discue_client.outbox.steps import Statement, Step

T = TypeVar("T")

_NETWORK: dict[str, Any] = {
    "connect_timeout": 30,
    "tcp_user_timeout": round(TRANSACTION_SECONDS * 1_000),
    "keepalives_idle": 15,
    "keepalives_interval": 15,
    "keepalives_count": 3,
}
"""A connection that the network has lost silently is given up, like one of asyncpg."""


class PsycopgDatabase:
    """A connection for transactions, and one for notifications."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._working: psycopg.AsyncConnection[Any] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def transaction(self, step: Step[T], *, lock: str | None = None) -> T:
        async with self._turn:
            if self._working is None or self._working.closed:
                self._working = await self._connect()
            async with self._working.transaction():
                if lock is not None:
                    await self._working.execute(PREPARE.encode())
                    await self._working.execute(_formatted(LOCK), (f"{TABLE}/{lock}",))
                return await run(step, partial(_execute, self._working))

    async def listen(self, wake: Callable[[], None]) -> None:
        if self._listening is not None and not self._listening.done():
            return
        connection = await self._connect()
        try:
            await connection.execute(f"LISTEN {CHANNEL}".encode())
        except BaseException:
            await connection.close()
            raise

        async def report() -> None:
            # A connection that is lost ends the loop, and the next look opens another one.
            try:
                with suppress(psycopg.Error):
                    async for _ in connection.notifies():
                        wake()
            finally:
                await connection.close()
                wake()

        self._listening = asyncio.get_running_loop().create_task(report(), name="discue outbox notifications")

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        # Poolers such as PgBouncer give each transaction another session, which knows no prepared statements.
        return await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, prepare_threshold=None, **_NETWORK)

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        if self._working is not None:
            await self._working.close()


async def _execute(connection: psycopg.AsyncConnection[Any], statement: Statement) -> list[Any]:
    cursor = await connection.execute(_formatted(statement.sql), statement.values)
    return await cursor.fetchall() if cursor.description else []


def _formatted(sql: str) -> bytes:
    # Bytes, as the types of psycopg take text only from literals.
    return sql.replace("?", "%s").encode()
