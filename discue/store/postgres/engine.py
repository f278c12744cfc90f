"""The PostgreSQL engine: several processes and machines, a few connections each, and one statement per commit.

Appends and settles are statements that commit by themselves, so that a process that hangs leaves no transaction open
that others wait for. Each work is a transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg

from discue.domain.errors import StoreUnavailable
from discue.store.engine import (
    FREE_IN_SNAPSHOT,
    Appended,
    Batch,
    BatchOutcome,
    ClusterSnapshot,
    CommitConcurrency,
    LogPage,
    Notification,
    QueueKey,
    Work,
    WorkerRow,
)
from discue.store.message_log import page_of
from discue.store.migrations import migrations
from discue.store.postgres import schema
from discue.store.postgres.commit import OneIsStale, append, append_to_topics, empty_append, empty_settle, settle
from discue.store.postgres.connection import (
    END_STUCK_SESSIONS,
    FAILURES_TO_OPEN,
    OUTAGES,
    PostgresTransaction,
    Server,
    application_name,
    concerns_one_part,
    is_conflict,
    opening_error,
    run_work,
    translated,
    without_data,
)
from discue.store.postgres.notify import Notifier
from discue.store.postgres.pool import Pool, Report, ServerConnection, ServerConnections
from discue.store.postgres.schema import DIALECT

T = TypeVar("T")

_Store = Callable[[asyncpg.Connection, Sequence[Any], int], Awaitable[list[Any]]]
"""Stores parts of one kind in one statement, counted in a tally slot."""

_OPEN_SECONDS: Final = 5.0
_STUCK_SHARE: Final = 1.5
"""How long a transaction of another process may take, relative to when each process aborts its own.

Beyond it, the process hangs, or is slow to abort.
"""
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.01

_APPENDS, _SETTLES, _WORKS, _URGENT_WORKS, _READS = 2, 2, 2, 2, 4
_WARM_READS: Final = 2
CONNECTIONS: Final = _APPENDS + _SETTLES + _WORKS + _URGENT_WORKS + _READS + 1
"""How many connections an engine has at most. One of them is for notifications."""

_EPOCH, _FEED, _JOBS, _MEMBER, _FREE, _HEAD, _SCHEDULED, _INTAKE = range(8)

# On `= ANY (ARRAY[x])` see `commit.append_statement`.
POLL: Final = f"""
SELECT {_EPOCH} AS kind, clock_ms() AS a, 0::bigint AS b, 0::bigint AS c, 0::bigint AS d, 0::bigint AS e,
    0::bigint AS f, value AS text FROM meta WHERE key = 'epoch'
UNION ALL
SELECT {_FEED}, version, 0, 0, 0, 0, 0, '' FROM feed_head WHERE shard = 0
UNION ALL
SELECT {_JOBS}, 1, 0, 0, 0, 0, 0, '' WHERE EXISTS (SELECT 1 FROM job WHERE state = 'waiting')
UNION ALL
(SELECT {_MEMBER}, session_id, slot, lease_ms, lease_until - clock_ms(), is_leaving, dead, role FROM worker
    ORDER BY session_id)
UNION ALL
(SELECT {_FREE}, organization, listener, stream, 0, 0, 0, '' FROM cursor
    WHERE owner IS NULL AND stream = 0 ORDER BY organization, listener, stream LIMIT {FREE_IN_SNAPSHOT})
UNION ALL
(SELECT {_SCHEDULED}, due_at, 0, 0, 0, 0, 0, '' FROM scheduled WHERE due_at >= 0 ORDER BY due_at LIMIT 1)
UNION ALL
(SELECT {_SCHEDULED}, next_run_at, 0, 0, 0, 0, 0, '' FROM schedule WHERE next_run_at IS NOT NULL
    ORDER BY next_run_at LIMIT 1)
UNION ALL
(SELECT {_INTAKE}, 1, 0, 0, 0, 0, 0, '' FROM intake WHERE error IS NULL ORDER BY organization, queue, id LIMIT 1)
UNION ALL
SELECT {_HEAD}, h.organization, h.queue, h.head, 0, 0, 0, ''
FROM unnest($1::bigint[], $2::bigint[]) AS w (organization, queue)
JOIN queue_head h ON h.organization = ANY (ARRAY[w.organization]) AND h.queue = w.queue
"""

# Bodies beyond the page's size are not sent: of the first entry that does not fit only the seq is read.
PAGE: Final = """
SELECT h.head, e.seq, e.id, e.stored_at, e.codec, CASE WHEN e.place = 1 OR e.total <= $5 THEN coalesce(e.body, (
        SELECT b.bytes FROM body b WHERE b.id = e.body_id)) END,
    e.expires_at, e.key_hash, e.extra, e.kind, e.origin_seq
FROM queue_head h LEFT JOIN LATERAL (
    SELECT l.*, sum(l.size) OVER so_far AS total, row_number() OVER so_far AS place
    FROM (
        SELECT seq, id, stored_at, codec, CASE kind WHEN 0 THEN size::int ELSE 0 END AS size,
            CASE kind WHEN 0 THEN body ELSE ''::bytea END AS body, body_id, expires_at, key_hash, extra, kind,
            origin_seq
        FROM log WHERE organization = $1 AND queue = $2 AND seq > $3 ORDER BY seq LIMIT $4
    ) AS l
    WINDOW so_far AS (ORDER BY l.seq ROWS UNBOUNDED PRECEDING)
) AS e ON e.place <= 2 OR e.total - e.size <= $5
WHERE h.organization = $1 AND h.queue = $2
"""


class PostgresEngine:
    """`engine.Engine` on a PostgreSQL database. Cuts off commits and reads that exceed a time limit.

    Readers must handle lost connections (`listen`): the address may then lead to another server.
    """

    concurrency = CommitConcurrency(_APPENDS, _SETTLES, _WORKS, _URGENT_WORKS, _READS - 1, apart=True)

    def __init__(
        self, address: str, *, report: Report, commit_seconds: float = 10.0, connect_seconds: float = 1.0
    ) -> None:
        self._address = address
        self.migrated_from = 0
        self._report = report
        self._commit_seconds = commit_seconds
        self._connect_seconds = connect_seconds
        self._running: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        try:
            server = Server(self._address)
            client = await server.connect(_OPEN_SECONDS)
            try:
                # There may be no worker left to end them, and they would block the migration.
                await client.fetch(END_STUCK_SESSIONS, self._commit_seconds * _STUCK_SHARE)
                self.migrated_from = await schema.migrate(client, migrations(DIALECT))
            except BaseException:
                client.terminate()
                raise
        except FAILURES_TO_OPEN as error:
            raise opening_error(error, self._address) from None
        self._connections = ServerConnections(server, self._report, self._connect_seconds)
        self._connections.adopt(client)
        self._appending = Pool(self._connections, _APPENDS)
        self._settling = Pool(self._connections, _SETTLES)
        # An urgent work finds a connection, whatever the others wait for.
        self._working = Pool(self._connections, _WORKS + _URGENT_WORKS)
        self._reading = Pool(self._connections, _READS)
        self._notifier = Notifier(self._connections, self._report)

    async def close(self) -> None:
        await self._notifier.close()
        if self._running:
            await asyncio.wait(self._running, timeout=self._commit_seconds)
        await self._connections.close()

    def begin_session(self, session_id: int) -> None:
        self._connections.server.application_name = application_name(session_id)

    async def end_stuck_sessions(self) -> Sequence[str]:
        seconds = self._commit_seconds * _STUCK_SHARE
        # A read: all other work may wait for the locks of such a session.
        found = await self._shielded(
            self._read("end stuck sessions", lambda connection: connection.client.fetch(END_STUCK_SESSIONS, seconds))
        )
        return [name for name, is_ended in found if is_ended]

    async def warm_up(self) -> None:
        appends, settles = empty_append(), empty_settle()
        await asyncio.gather(
            *(self._read("warm up", lambda to: to.client.fetch(*appends), self._appending) for _ in range(_APPENDS)),
            *(self._read("warm up", lambda to: to.client.fetch(*settles), self._settling) for _ in range(_SETTLES)),
            *(self.page(0, 0, 0, 1, max_bytes=0) for _ in range(_WARM_READS)),
        )

    async def commit(self, batch: Batch) -> BatchOutcome:
        return await self._shielded(self._commit(batch))

    async def read(self, work: Work[T]) -> T:
        return await self._shielded(self._read("read", lambda connection: self._read_work(connection, work)))

    async def search(self, work: Work[T]) -> T:
        # Every statement waits for the server, and lets other tasks run meanwhile.
        return await self.read(work)

    async def load(self, work: Work[T]) -> T:
        return await self.read(work)

    async def page(self, organization: int, queue: int, after: int, rows: int, *, max_bytes: int) -> LogPage:
        values = (organization, queue, after, rows, max_bytes)
        found = await self._shielded(self._read("page", lambda connection: connection.client.fetch(PAGE, *values)))
        return page_of(found, after, rows, max_bytes)

    async def poll(self, queues: Sequence[QueueKey]) -> ClusterSnapshot:
        keys = ([key[0] for key in queues], [key[1] for key in queues])
        rows = await self._shielded(self._read("poll", lambda connection: connection.client.fetch(POLL, *keys)))
        found: tuple[list[tuple[Any, ...]], ...] = ([], [], [], [], [], [], [], [])
        for kind, *values in rows:
            found[kind].append(tuple(values))
        return ClusterSnapshot(
            epoch=found[_EPOCH][0][-1] if found[_EPOCH] else "",
            feed_version=found[_FEED][0][0] if found[_FEED] else 0,
            has_jobs=bool(found[_JOBS]),
            members=tuple(
                WorkerRow(session_id, role, slot, lease_ms, remaining_ms, is_leaving == 1, dead == 1)
                for session_id, slot, lease_ms, remaining_ms, is_leaving, dead, role in found[_MEMBER]
            ),
            free=tuple((row[0], row[1], row[2]) for row in found[_FREE]),
            heads={(row[0], row[1]): row[2] for row in found[_HEAD]},
            scheduled_at=min((row[0] for row in found[_SCHEDULED]), default=None),
            has_intake=bool(found[_INTAKE]),
            clock_ms=found[_EPOCH][0][0] if found[_EPOCH] else None,
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
        slot, heads = batch.tally_slot, dict[QueueKey, int]()
        return BatchOutcome(
            await self._commit_together(self._appending, append, batch.appends, tally_slot=slot)
            if batch.appends
            else (),
            await self._commit_together(self._settling, settle, batch.settles, tally_slot=slot)
            if batch.settles
            else (),
            [await self._work(work, heads) for work in batch.works],
            await self._append_to_topics(batch) if batch.topic_appends else (),
            heads,
        )

    async def _append_to_topics(self, batch: Batch) -> Sequence[tuple[Appended, ...] | Exception]:
        store = append_to_topics
        try:
            return await self._commit_together(self._appending, store, batch.topic_appends, tally_slot=batch.tally_slot)
        except Exception as error:
            if not batch.appends:
                raise
            # The appends before are durable: their callers must get their results.
            return [error for _ in batch.topic_appends]

    async def _commit_together(self, pool: Pool, store: _Store, parts: Sequence[Any], *, tally_slot: int) -> list[Any]:
        """Commit all parts in one statement; or each in its own, if one of them makes that fail."""

        async def stored(connection: ServerConnection, some: Sequence[Any] = parts) -> list[Any]:
            with connection.committing(self._commit_seconds):
                return await store(connection.client, some, tally_slot)

        try:
            return await self._retried(pool, stored)
        except OneIsStale:
            pass
        except Exception as error:  # Reported, and raised as a store error
            if not concerns_one_part(error):
                raise self._failure("commit", error) from without_data(error)
            self._report("batch split", without_data(error))
        results: list[Any] = []
        for part in parts:
            # If the server is down, each of the others would only wait for the same error.
            if results and isinstance(results[-1], StoreUnavailable):
                results.append(StoreUnavailable(code="not_stored"))
                continue
            try:
                results += await self._retried(pool, partial(stored, some=[part]))
            except Exception as error:  # It is that part's result
                results.append(self._failure("commit of one", error))
        return results

    async def _work(self, work: Work[Any], heads: dict[QueueKey, int]) -> Any:
        """Run a work, note the heads that it raises, and return its result or exception. Raises the server's error."""
        is_committing = asyncio.Event()
        try:
            return await self._retried(
                self._working, lambda connection: self._transact(connection, work, heads, is_committing)
            )
        except Exception as error:  # Reported, and raised as a store error
            raise self._failure("commit", error, before_commit=not is_committing.is_set()) from without_data(error)

    async def _transact(
        self, connection: ServerConnection, work: Work[T], heads: dict[QueueKey, int], is_committing: asyncio.Event
    ) -> T | Exception:
        """Run a work in a transaction, note the heads that it raises, and return its result or exception.

        Raises the server's error, even if the work ignored it. Sets `is_committing` before the server may be told to
        commit: from then on the outcome of a lost connection is unknown.
        """
        client = connection.client
        is_committing.clear()
        with connection.committing(self._commit_seconds):
            await client.execute("BEGIN")
            tx = PostgresTransaction(client)
            result: T | Exception
            try:
                result = await run_work(work, tx)
            except Exception as error:  # It is the work's result
                result = error
            if tx.failure is None and not isinstance(result, Exception):
                if connection.is_open:
                    is_committing.set()
                # Earlier warnings do not concern the commit: for example, a session to be ended had already ended.
                connection.warning = None
                await client.execute("COMMIT")
                heads.update(tx.heads)
                return result
            if connection.is_open:
                await client.execute("ROLLBACK")
            if tx.failure is not None and not concerns_one_part(tx.failure):
                raise tx.failure
        return result if isinstance(result, Exception) else RuntimeError("the work continued after a failed statement")

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
                raise StoreUnavailable(code="not_stored")
            try:
                return await run(connection)
            except asyncpg.ReadOnlySQLTransactionError:
                # It is not the primary any more: the address may lead to another server now.
                connection.cut()
                raise

    async def _read(self, place: str, run: Callable[[ServerConnection], Awaitable[T]], pool: Pool | None = None) -> T:
        """Run a read. It fails if connections were lost meanwhile: later reads may be of another server."""
        generation = self._connections.generation
        try:
            async with (pool or self._reading).connection() as connection:
                with connection.limited(self._commit_seconds):
                    found = await run(connection)
        except OUTAGES as error:
            raise self._failure(place, error, before_commit=True) from without_data(error)
        if generation != self._connections.generation:
            raise StoreUnavailable(code="not_stored")
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

    def _failure(self, place: str, error: Exception, *, before_commit: bool = False) -> Exception:
        if isinstance(error, StoreUnavailable):
            return error
        self._report(place, without_data(error))
        return translated(error, before_commit=before_commit)
