"""The PostgreSQL engine: several processes and machines, a few connections each, and one statement per commit.

Appends and settles are statements that commit by themselves, so that a process that hangs leaves no transaction open
that others wait for. Each work is a transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

from discue.domain.errors import StoreUnavailable
from discue.store.engine import (
    Append,
    Appended,
    Batch,
    BatchOutcome,
    ClusterSnapshot,
    CommitConcurrency,
    LogPage,
    Notification,
    QueueKey,
    Settle,
    Work,
)
from discue.store.migrations import migrations
from discue.store.postgres import append as postgres_append
from discue.store.postgres import poll as postgres_poll
from discue.store.postgres import schema
from discue.store.postgres import settle as postgres_settle
from discue.store.postgres.connection import PostgresTransaction, Server, run_work
from discue.store.postgres.errors import (
    FAILURES_TO_OPEN,
    OUTAGES,
    concerns_one_part,
    is_conflict,
    is_standby_error,
    opening_error,
    translated,
    without_data,
)
from discue.store.postgres.notify import Notifier
from discue.store.postgres.pool import Pool, Report, ServerConnection, ServerConnections
from discue.store.postgres.schema import DIALECT

__all__ = ["DIALECT", "POOL_SIZES", "PoolSizes", "PostgresEngine"]

T = TypeVar("T")

_OPEN_SECONDS: Final = 5.0
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.01


class PoolSizes(msgspec.Struct, frozen=True):
    """How many connections there may be for each purpose. One more is for urgent works, and one for notifications."""

    appends: int = 2
    settles: int = 2
    works: int = 2
    reads: int = 4

    @property
    def total(self) -> int:
        return self.appends + self.settles + self.works + self.reads + 2


POOL_SIZES: Final = PoolSizes()


class PostgresEngine:
    """`engine.Engine` on a PostgreSQL database. Cuts off commits and reads that exceed a time limit.

    Readers must handle lost connections (`listen`): the address may then lead to another server.
    """

    def __init__(
        self, address: str, *, report: Report, pool_sizes: PoolSizes = POOL_SIZES, commit_seconds: float = 10.0
    ) -> None:
        self.concurrency = CommitConcurrency(pool_sizes.appends, pool_sizes.settles, pool_sizes.works, apart=True)
        self._address = address
        self._report = report
        self._pool_sizes = pool_sizes
        self._commit_seconds = commit_seconds
        self._running: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        try:
            server = Server(self._address)
            client = await server.connect(_OPEN_SECONDS)
            try:
                await schema.migrate(client, migrations(DIALECT))
            except BaseException:
                client.terminate()
                raise
        except FAILURES_TO_OPEN as error:
            raise opening_error(error, self._address) from None
        self._begin(server, client)

    def _begin(self, server: Server, client: asyncpg.Connection) -> None:
        self._connections = ServerConnections(server, self._report)
        self._connections.adopt(client)
        sizes = self._pool_sizes
        self._appending = Pool(self._connections, sizes.appends)
        self._settling = Pool(self._connections, sizes.settles)
        # One more than works may run concurrently: an urgent one finds a connection, whatever these wait for.
        self._working = Pool(self._connections, sizes.works + 1)
        self._reading = Pool(self._connections, sizes.reads)
        self._notifier = Notifier(self._connections, self._report)

    async def close(self) -> None:
        await self._notifier.close()
        if self._running:
            await asyncio.wait(self._running, timeout=self._commit_seconds)
        await self._connections.close()

    async def commit(self, batch: Batch) -> BatchOutcome:
        return await self._shielded(self._commit(batch))

    async def read(self, work: Work[T]) -> T:
        return await self._shielded(self._read("read", lambda connection: self._read_work(connection, work)))

    async def page(self, organization: int, queue: int, after: int, rows: int, max_bytes: int) -> LogPage:
        key = (organization, queue)
        return await self._shielded(
            self._read("page", lambda connection: postgres_poll.page(connection.client, key, after, rows, max_bytes))
        )

    async def poll(self, queues: Sequence[QueueKey]) -> ClusterSnapshot:
        return await self._shielded(
            self._read("poll", lambda connection: postgres_poll.poll(connection.client, queues)),
        )

    def notify(self, hint: Notification) -> None:
        self._notifier.notify(hint)

    def listen(self, on_notify: Callable[[Notification], None], on_loss: Callable[[], None]) -> None:
        self._connections.on_loss = on_loss
        self._notifier.listen(on_notify)

    async def _shielded(self, running: Coroutine[Any, Any, T]) -> T:
        """Run to the end even if the caller is cancelled, so that the connection returns in a clean state."""
        task = asyncio.get_running_loop().create_task(running)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _commit(self, batch: Batch) -> BatchOutcome:
        # One after another, so that later parts see earlier ones. `Store` passes one kind at a time, except for appends
        # of queues and of topics.
        return BatchOutcome(
            await self._append(batch.appends, batch.tally_slot) if batch.appends else (),
            await self._settle(batch.settles, batch.tally_slot) if batch.settles else (),
            [await self._work(work) for work in batch.works],
            await self._append_to_topics(batch) if batch.topic_appends else (),
        )

    async def _append(self, appends: Sequence[Append], tally_slot: int) -> Sequence[Appended | Exception]:
        store = partial(postgres_append.append, tally_slot=tally_slot)
        return await self._commit_together(self._appending, store, appends)

    async def _append_to_topics(self, batch: Batch) -> Sequence[tuple[Appended, ...] | Exception]:
        store = partial(postgres_append.append_to_topics, tally_slot=batch.tally_slot)
        try:
            return await self._commit_together(self._appending, store, batch.topic_appends)
        except Exception as error:
            if not batch.appends:
                raise
            # The appends before are durable: their callers must get their results.
            return [error for _ in batch.topic_appends]

    async def _settle(self, settles: Sequence[Settle], tally_slot: int) -> Sequence[bool | Exception]:
        store = partial(postgres_settle.settle, tally_slot=tally_slot)
        return await self._commit_together(self._settling, store, settles)

    async def _commit_together(
        self,
        pool: Pool,
        store: Callable[[asyncpg.Connection, Sequence[Any]], Awaitable[list[Any]]],
        parts: Sequence[Any],
    ) -> list[Any]:
        """Commit all parts in one statement; or each in its own, if one of them makes that fail."""
        try:
            return await self._retried(pool, lambda connection: store(connection.client, parts))
        except postgres_append.OneIsStale:
            pass
        except Exception as error:  # Reported, and raised as a store error
            if not concerns_one_part(error):
                raise self._failure("commit", error) from without_data(error)
            self._report("batch split", without_data(error))
        results: list[Any] = []
        for part in parts:
            # If the server is down, each of the others would only wait for the same error.
            is_down = bool(results) and isinstance(results[-1], StoreUnavailable)
            results.append(StoreUnavailable() if is_down else await self._commit_alone(pool, store, part))
        return results

    async def _commit_alone(
        self, pool: Pool, store: Callable[[asyncpg.Connection, Sequence[Any]], Awaitable[list[Any]]], part: Any
    ) -> Any:
        try:
            [result] = await self._retried(pool, lambda connection: store(connection.client, [part]))
        except Exception as error:  # It is that part's result
            return self._failure("commit of one", error)
        return result

    async def _work(self, work: Work[Any]) -> Any:
        """Run a work, and return its result or exception. Raises the server's error."""
        try:
            return await self._retried(self._working, lambda connection: _transact(connection, work))
        except Exception as error:  # Reported, and raised as a store error
            raise self._failure("commit", error) from without_data(error)

    async def _retried(self, pool: Pool, run: Callable[[ServerConnection], Awaitable[T]]) -> T:
        """Run what commits, and retry if it did nothing because of a conflict; never if the outcome is unknown."""
        for attempt in range(1, _TRIES):
            try:
                return await self._committed(pool, run)
            except Exception as error:
                if not is_conflict(error):
                    raise
            # Let the conflicting transaction go first.
            await asyncio.sleep(attempt * _PAUSE_SECONDS)
        return await self._committed(pool, run)

    async def _committed(self, pool: Pool, run: Callable[[ServerConnection], Awaitable[T]]) -> T:
        generation = self._connections.generation
        async with pool.connection() as connection:
            # A batch that waited while connections were lost was made of what another server said.
            if connection.generation != generation:
                raise StoreUnavailable
            try:
                with connection.committing(self._commit_seconds):
                    return await run(connection)
            except Exception as error:
                if is_standby_error(error):
                    connection.cut()
                raise

    async def _read(self, place: str, run: Callable[[ServerConnection], Awaitable[T]]) -> T:
        """Run a read. It fails if connections were lost meanwhile: later reads may be of another server."""
        generation = self._connections.generation
        try:
            async with self._reading.connection() as connection:
                with connection.limited(self._commit_seconds):
                    found = await run(connection)
        except OUTAGES as error:
            raise self._failure(place, error) from without_data(error)
        if generation != self._connections.generation:
            raise StoreUnavailable
        return found

    async def _read_work(self, connection: ServerConnection, work: Work[T]) -> T:
        await connection.client.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        tx = PostgresTransaction(connection.client)
        try:
            return await run_work(work, tx)
        finally:
            if tx.failure is not None:
                self._report("read", without_data(tx.failure))
            if connection.is_open:
                await connection.client.execute("COMMIT")

    def _failure(self, place: str, error: Exception) -> Exception:
        if isinstance(error, StoreUnavailable):
            return error
        self._report(place, without_data(error))
        return translated(error)


async def _transact(connection: ServerConnection, work: Work[Any]) -> Any:
    """Run a work in a transaction, and return its result or exception.

    Raises the server's error, even if the work ignored it.
    """
    client = connection.client
    await client.execute("BEGIN")
    tx = PostgresTransaction(client)
    try:
        result = await run_work(work, tx)
    except Exception as error:  # It is the work's result
        result = error
    if tx.failure is None and not isinstance(result, Exception):
        await client.execute("COMMIT")
        return result
    if connection.is_open:
        await client.execute("ROLLBACK")
    if tx.failure is not None and not concerns_one_part(tx.failure):
        raise tx.failure
    return result if isinstance(result, Exception) else RuntimeError("work went on after a statement of it had failed")
