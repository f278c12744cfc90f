"""The engine for several processes and machines: a few connections to a server, and one statement a commit.

Appends and settles are statements that commit by themselves, so that a process that stops in the middle leaves no
transaction open that others would wait for. Each work is a transaction of its own.
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
    is_conflict,
    is_of_a_standby,
    is_of_one,
    opening_error,
    translated,
    without_data,
)
from discue.store.postgres.notify import Wake
from discue.store.postgres.pool import Link, Links, Pool, Report
from discue.store.postgres.schema import DIALECT

__all__ = ["CONNECTIONS", "DIALECT", "Connections", "PostgresEngine"]

T = TypeVar("T")

_OPEN_SECONDS: Final = 5.0
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.01


class Connections(msgspec.Struct, frozen=True):
    """How many there may be, for each purpose. One more is for urgent works, and one for notifications."""

    appends: int = 2
    settles: int = 2
    works: int = 2
    reads: int = 4

    @property
    def total(self) -> int:
        return self.appends + self.settles + self.works + self.reads + 2


CONNECTIONS: Final = Connections()


class PostgresEngine:
    """`engine.Engine` on a PostgreSQL database. A commit or a read that takes longer than a limit is cut off.

    Those who read must hear of lost connections (`listen`): the server behind an address may be another one then.
    """

    def __init__(
        self, address: str, *, report: Report, connections: Connections = CONNECTIONS, commit_seconds: float = 10.0
    ) -> None:
        self.concurrency = CommitConcurrency(connections.appends, connections.settles, connections.works, apart=True)
        self._address = address
        self._report = report
        self._connections = connections
        self._commit_seconds = commit_seconds
        self._running: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        try:
            server = Server(self._address)
            connection = await server.connect(_OPEN_SECONDS)
            try:
                await schema.migrate(connection, migrations(DIALECT))
            except BaseException:
                connection.terminate()
                raise
        except FAILURES_TO_OPEN as error:
            raise opening_error(error, self._address) from None
        self._begin(server, connection)

    def _begin(self, server: Server, connection: asyncpg.Connection) -> None:
        self._links = Links(server, self._report)
        self._links.adopt(connection)
        sizes = self._connections
        self._appending = Pool(self._links, sizes.appends)
        self._settling = Pool(self._links, sizes.settles)
        # One more than there are streams of works: whatever these wait for, an urgent one finds a connection.
        self._working = Pool(self._links, sizes.works + 1)
        self._reading = Pool(self._links, sizes.reads)
        self._wake = Wake(self._links, self._report)

    async def close(self) -> None:
        await self._wake.close()
        if self._running:
            await asyncio.wait(self._running, timeout=self._commit_seconds)
        await self._links.close()

    async def commit(self, batch: Batch) -> BatchOutcome:
        return await self._to_its_end(self._commit(batch))

    async def read(self, work: Work[T]) -> T:
        return await self._to_its_end(self._read("read", lambda link: self._read_work(link, work)))

    async def page(self, organization: int, queue: int, after: int, rows: int, max_bytes: int) -> LogPage:
        key = (organization, queue)
        return await self._to_its_end(
            self._read("page", lambda link: postgres_poll.page(link.connection, key, after, rows, max_bytes))
        )

    async def poll(self, queues: Sequence[QueueKey]) -> ClusterSnapshot:
        return await self._to_its_end(
            self._read("poll", lambda link: postgres_poll.poll(link.connection, queues)),
        )

    def notify(self, hint: Notification) -> None:
        self._wake.notify(hint)

    def listen(self, heard: Callable[[Notification], None], lost: Callable[[], None]) -> None:
        self._links.lost = lost
        self._wake.listen(heard)

    async def _to_its_end(self, running: Coroutine[Any, Any, T]) -> T:
        """Whoever waits may go away: a statement under way ends by itself, and gives its connection back in order."""
        task = asyncio.get_running_loop().create_task(running)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _commit(self, batch: Batch) -> BatchOutcome:
        # One after another, so that what comes later sees what came before. `Store` hands over one kind at a time, but
        # for appends and what is routed.
        return BatchOutcome(
            await self._append(batch.appends, batch.tally_slot) if batch.appends else (),
            await self._settle(batch.settles, batch.tally_slot) if batch.settles else (),
            [await self._work(work) for work in batch.works],
            await self._append_to_topics(batch) if batch.topic_appends else (),
        )

    async def _append(self, appends: Sequence[Append], tally_slot: int) -> Sequence[Appended | Exception]:
        store = partial(postgres_append.append, tally_slot=tally_slot)
        return await self._in_one(self._appending, store, appends)

    async def _append_to_topics(self, batch: Batch) -> Sequence[tuple[Appended, ...] | Exception]:
        store = partial(postgres_append.append_to_topics, tally_slot=batch.tally_slot)
        try:
            return await self._in_one(self._appending, store, batch.topic_appends)
        except Exception as error:
            if not batch.appends:
                raise
            # What was appended before is durable, and its callers hear so.
            return [error for _ in batch.topic_appends]

    async def _settle(self, settles: Sequence[Settle], tally_slot: int) -> Sequence[bool | Exception]:
        store = partial(postgres_settle.settle, tally_slot=tally_slot)
        return await self._in_one(self._settling, store, settles)

    async def _in_one(
        self,
        pool: Pool,
        store: Callable[[asyncpg.Connection, Sequence[Any]], Awaitable[list[Any]]],
        parts: Sequence[Any],
    ) -> list[Any]:
        """All parts in one statement; each in one of its own, where one of them is to blame that this fails."""
        try:
            return await self._repeated(pool, lambda link: store(link.connection, parts))
        except postgres_append.OneIsStale:
            pass
        except Exception as error:  # noqa: BLE001 - told, and raised as what it means
            if not is_of_one(error):
                raise self._failure("commit", error) from without_data(error)
            self._report("batch split", without_data(error))
        answers: list[Any] = []
        for part in parts:
            is_down = bool(answers) and isinstance(answers[-1], StoreUnavailable)
            answers.append(StoreUnavailable() if is_down else await self._alone(pool, store, part))
        return answers

    async def _alone(
        self, pool: Pool, store: Callable[[asyncpg.Connection, Sequence[Any]], Awaitable[list[Any]]], part: Any
    ) -> Any:
        try:
            [answer] = await self._repeated(pool, lambda link: store(link.connection, [part]))
        except Exception as error:  # noqa: BLE001 - it is that part's answer
            return self._failure("commit of one", error)
        return answer

    async def _work(self, work: Work[Any]) -> Any:
        """Its result, or its exception. Raises what the server failed with."""
        try:
            return await self._repeated(self._working, lambda link: _transact(link, work))
        except Exception as error:  # noqa: BLE001 - as above
            raise self._failure("commit", error) from without_data(error)

    async def _repeated(self, pool: Pool, run: Callable[[Link], Awaitable[T]]) -> T:
        """Run what commits. Again, if it did nothing because others were in its way; never when that is unknown."""
        for attempt in range(1, _TRIES):
            try:
                return await self._committed(pool, run)
            except Exception as error:
                if not is_conflict(error):
                    raise
            # Whoever was in its way goes first now.
            await asyncio.sleep(attempt * _PAUSE_SECONDS)
        return await self._committed(pool, run)

    async def _committed(self, pool: Pool, run: Callable[[Link], Awaitable[T]]) -> T:
        generation = self._links.generation
        async with pool.link() as link:
            # What was waiting when connections were lost was made of what another server said.
            if link.generation != generation:
                raise StoreUnavailable
            try:
                with link.committing(self._commit_seconds):
                    return await run(link)
            except Exception as error:
                if is_of_a_standby(error):
                    link.cut()
                raise

    async def _read(self, place: str, run: Callable[[Link], Awaitable[T]]) -> T:
        """A read that a loss came between is none: what it found may be of another server than what follows."""
        generation = self._links.generation
        try:
            async with self._reading.link() as link:
                with link.limited(self._commit_seconds):
                    found = await run(link)
        except OUTAGES as error:
            raise self._failure(place, error) from without_data(error)
        if generation != self._links.generation:
            raise StoreUnavailable
        return found

    async def _read_work(self, link: Link, work: Work[T]) -> T:
        await link.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        tx = PostgresTransaction(link.connection)
        try:
            return await run_work(work, tx)
        finally:
            if tx.failure is not None:
                self._report("read", without_data(tx.failure))
            if link.is_open:
                await link.connection.execute("COMMIT")

    def _failure(self, place: str, error: Exception) -> Exception:
        if isinstance(error, StoreUnavailable):
            return error
        self._report(place, without_data(error))
        return translated(error)


async def _transact(link: Link, work: Work[Any]) -> Any:
    """A work's result, or its exception. Raises what the server failed with, whatever the work made of it."""
    connection = link.connection
    await connection.execute("BEGIN")
    tx = PostgresTransaction(connection)
    try:
        answer = await run_work(work, tx)
    except Exception as error:  # noqa: BLE001 - it is the work's answer
        answer = error
    if tx.failure is None and not isinstance(answer, Exception):
        await connection.execute("COMMIT")
        return answer
    if link.is_open:
        await connection.execute("ROLLBACK")
    if tx.failure is not None and not is_of_one(tx.failure):
        raise tx.failure
    return answer if isinstance(answer, Exception) else RuntimeError("work went on after a statement of it had failed")
