"""The outbox in a file of SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from discue_client.outbox.database import DatabaseBusy

if TYPE_CHECKING:
    from collections.abc import Callable

    from discue_client.outbox.steps import Step

T = TypeVar("T")


class SqliteDatabase:
    """A connection on a thread of its own. SQLite reports no commits: applications in this process wake the relay."""

    def __init__(self, path: str, *, busy_seconds: float = 5.0) -> None:
        """`busy_seconds` is how long to wait for the lock that an application holds."""
        self._path = path
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "discue outbox")

    async def transaction(self, step: Step[T], *, lock: str | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, step, lock)

    def _run(self, step: Step[T], lock: str | None) -> T:
        try:
            return self._transact(step, lock)
        except sqlite3.OperationalError as error:
            # Its codes are attributes of the error from Python 3.11 on only.
            if "locked" in str(error):
                raise DatabaseBusy(f"{error} ({self._path})") from error
            raise

    def _transact(self, step: Step[T], lock: str | None) -> T:
        connection = self._connection = self._connection or self._connect()
        connection.execute("BEGIN" if lock is None else "BEGIN IMMEDIATE")
        try:
            rows: list[object] | None = None
            while True:
                sql, values = step.send(rows)  # type: ignore[arg-type] # None starts it
                rows = connection.execute(sql, values).fetchall()
        except StopIteration as end:
            connection.execute("COMMIT")
            result: T = end.value
            return result
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _connect(self) -> sqlite3.Connection:
        # Does not create the file.
        connection = sqlite3.connect(
            f"file:{quote(self._path)}?mode=rw", uri=True, isolation_level=None, timeout=self._busy_seconds
        )
        try:
            # A name must not be lost in a crash after the batch was sent under it. This reads the file.
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    async def listen(self, _wake: Callable[[], None]) -> None:
        return

    async def close(self) -> None:
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()
