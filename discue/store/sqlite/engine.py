"""The SQLite engine: one file, one writer thread, one fsync for many publishes.

Reads run on the caller's thread with their own connection: each reads a handful of rows by a key, cheaper than a hop to
another thread, and in WAL mode no reader waits for the writer.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw

from discue.domain.clock import Clock, SystemClock
from discue.domain.errors import StoreUnavailable
from discue.store import feed, schedules
from discue.store.engine import (
    FREE_IN_SNAPSHOT,
    Batch,
    BatchOutcome,
    ClusterSnapshot,
    CommitConcurrency,
    LogPage,
    Notification,
    QueueKey,
    Row,
    Transaction,
    UniqueViolation,
    Value,
    Work,
    WorkerRow,
)
from discue.store.group_commit import resolve
from discue.store.message_log import BODY, page_of
from discue.store.migrations import migrations
from discue.store.sqlite import schema
from discue.store.sqlite.commit import append, append_to_topics, settle
from discue.store.sqlite.connection import (
    BUSY_TIMEOUT_MS,
    INLINE_BYTES,
    SerialThread,
    StartThread,
    Turn,
    connect,
    make_private,
    opening_error,
    translated,
    turn_at,
)
from discue.store.sqlite.schema import DIALECT
from discue.store.sqlite.siblings import SiblingNotifier
from discue.store.time_slice import SLICE_SECONDS, SharedSlice

T = TypeVar("T")

_UNIQUE_CODES = (apsw.SQLITE_CONSTRAINT_UNIQUE, apsw.SQLITE_CONSTRAINT_PRIMARYKEY)
_CHECKPOINT_PAGES = 4_000
_RESTART_PAGES = 16_384
_RESTART_BUSY_MS = 5
"""Readers of the service take less. A longer one, such as a backup, would delay every commit meanwhile."""
_WATCH_SECONDS = 0.25
_TURN_SECONDS = 3.0

# A large body is read only if the page begins with it. At most one other body is read that does not fit.
_PAGE = f"""
SELECT h.head, l.seq, l.id, l.stored_at, l.codec,
    CASE WHEN l.kind <> 0 THEN x'' WHEN l.size <= ?5 OR l.seq = (
        SELECT f.seq FROM log f WHERE f.organization = ?2 AND f.queue = ?3 AND f.seq > ?1 ORDER BY f.seq LIMIT 1
    ) THEN {BODY} END,
    l.expires_at, l.key_hash, l.extra, l.kind, l.origin_seq
FROM queue_head h LEFT JOIN log l ON l.organization = h.organization AND l.queue = h.queue AND l.seq > ?1
WHERE h.organization = ?2 AND h.queue = ?3 ORDER BY l.seq LIMIT ?4
"""
_HAS_JOBS = "SELECT 1 FROM job WHERE state = 'waiting' LIMIT 1"
_MEMBERS = """
SELECT session_id, role, slot, lease_ms, lease_until - clock_ms(), is_leaving, dead FROM worker
ORDER BY session_id"""
_FREE = f"""
SELECT organization, listener, stream FROM cursor WHERE owner IS NULL AND stream = 0
ORDER BY organization, listener, stream LIMIT {FREE_IN_SNAPSHOT}"""
_HEAD = "SELECT head FROM queue_head WHERE organization = $1 AND queue = $2"

Report = Callable[[str, BaseException], None]
"""Called with the place of an internal failure, and the error."""


class _Order:
    """A batch for the writer thread. It is claimed once: by the thread, which begins it, or by the event loop, which
    gives up.
    """

    __slots__ = ("_claim", "batch", "result")

    def __init__(self, batch: Batch, result: asyncio.Future[BatchOutcome]) -> None:
        self.batch = batch
        self.result = result
        self._claim = threading.Lock()

    def claim(self) -> bool:
        return self._claim.acquire(blocking=False)


class SqliteTransaction:
    """`engine.Transaction` on one connection. Nothing here suspends."""

    __slots__ = ("_connection", "heads")
    inline_bytes = INLINE_BYTES
    has_intake = False

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.heads: dict[QueueKey, int] = {}

    async def row(self, sql: str, *values: Value) -> Row | None:
        found = self._run(sql, values)
        return found[0] if found else None

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        return self._run(sql, values)

    async def execute(self, sql: str, *values: Value) -> int:
        before = self._connection.total_changes()
        self._run(sql, values)
        return self._connection.total_changes() - before

    def _run(self, sql: str, values: tuple[Value, ...]) -> list[Row]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except apsw.ConstraintError as error:
            if getattr(error, "extendedresult", 0) in _UNIQUE_CODES:
                raise UniqueViolation from error
            raise

    async def exclusive(self) -> None:
        """Do nothing: every write transaction begins by locking the file."""

    async def end_sessions(self, session_id: int) -> None:
        """Do nothing: a process that has ended holds no lock, and one that hangs is ended by its parent."""


class SqliteEngine:
    """`engine.Engine` on one SQLite file.

    With `siblings`, other processes write to the file all the time: they take turns. With a `notifier`, they notify
    each other of commits. A watch finds the commits of commands, and those whose notifications are lost.
    """

    concurrency = CommitConcurrency()

    def __init__(
        self,
        path: Path,
        *,
        report: Report,
        siblings: bool = False,
        notifier: SiblingNotifier | None = None,
        clock: Clock | None = None,
        start_thread: StartThread = SerialThread,
    ) -> None:
        """`clock` is the database's; by default, the machine's."""
        self.path = path
        self.migrated_from = 0
        self._clock = clock or SystemClock()
        self._start_thread = start_thread
        self._report = report
        self._siblings = siblings
        self._notifier = notifier
        self._turn: Turn | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._wal_pages = 0
        self._checkpoint_above = _CHECKPOINT_PAGES
        self._restart_above = _RESTART_PAGES
        self._checkpoint_asked = False
        self._checkpointing = threading.Lock()
        self._searching = SharedSlice(self._clock.monotonic)
        self._reading = _ReadSlice(self._clock.monotonic)
        self._data_version = -1

    async def open(self) -> None:
        make_private(self.path)
        try:
            self._writer = connect(self.path, clock=self._clock)
            self._turn = turn_at(self.path, must_be=self._siblings)
            with self._turn or nullcontext():
                self.migrated_from = schema.migrate(self._writer, migrations(DIALECT))
            self._reader = connect(self.path, clock=self._clock, read_only=True)
            self._loader = connect(self.path, clock=self._clock, read_only=True)
            self._checkpointer = connect(self.path, clock=self._clock)
        except apsw.Error as error:
            raise opening_error(error, self.path) from error
        self._writer.set_wal_hook(self._committed)
        self._loop = asyncio.get_running_loop()
        self._writing = self._start_thread("discue_writer")
        self._copying = self._start_thread("discue_checkpoints")
        self._loading = self._start_thread("discue_loader")
        self._data_version = self._reader.pragma("data_version")

    def begin_session(self, session_id: int) -> None:
        """Do nothing: no other process could end a connection to a file."""

    async def end_stuck_sessions(self) -> Sequence[str]:
        """Do nothing: no process can end another's connection to a file. The parent kills a hanging worker."""
        return ()

    async def warm_up(self) -> None:
        """Do nothing: its connections are open, and its statements need no plan of a server."""

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if self._notifier is not None:
            self._notifier.close()
        await self._writing.close()
        await self._copying.close()
        await self._loading.close()
        for connection in (self._reader, self._loader, self._checkpointer, self._writer):
            connection.close()
        if self._turn is not None:
            self._turn.close()

    async def commit(self, batch: Batch) -> BatchOutcome:
        order = _Order(batch, self._loop.create_future())
        self._writing.submit(partial(self._write_batch, order))
        if self._turn is None:
            return await order.result
        # A process that hangs while it has the lock must not block others for ever.
        waiting = self._loop.call_later(_TURN_SECONDS, self._give_up, order)
        try:
            return await order.result
        finally:
            waiting.cancel()

    def _give_up(self, order: _Order) -> None:
        if order.claim():
            self._report("turn", TimeoutError("another process holds the write lock"))
            resolve(order.result, StoreUnavailable(code="not_stored"))

    async def read(self, work: Work[T]) -> T:
        if self._reading.is_over():
            await self._reading.pause()
        try:
            return _read_on(self._reader, work)
        except apsw.Error as error:
            raise self._failure("read", error, before_commit=True) from error

    async def search(self, work: Work[T]) -> T:
        tx = _SearchTransaction(self._reader, self._searching)
        try:
            return await work(tx)
        except apsw.Error as error:
            raise self._failure("search", error, before_commit=True) from error
        finally:
            tx.count()

    async def load(self, work: Work[T]) -> T:
        result: asyncio.Future[T] = self._loop.create_future()
        self._loading.submit(partial(self._load, work, result))
        try:
            return await result
        except apsw.Error as error:
            raise self._failure("load", error, before_commit=True) from error

    def _load(self, work: Work[T], result: asyncio.Future[T]) -> None:
        try:
            found: T | Exception = _read_on(self._loader, work)
        except Exception as error:  # It is the reader's result
            found = error
        self._loop.call_soon_threadsafe(resolve, result, found)

    async def page(self, organization: int, queue: int, after: int, rows: int, *, max_bytes: int) -> LogPage:
        if self._reading.is_over():
            await self._reading.pause()
        try:
            cursor = self._reader.execute(_PAGE, (after, organization, queue, rows, max_bytes))
            page = page_of(cursor, after, rows, max_bytes)
            # An open cursor would keep its snapshot, and the write-ahead log could not restart.
            cursor.close()
        except apsw.Error as error:
            raise self._failure("page", error, before_commit=True) from error
        return page

    async def poll(self, queues: Sequence[QueueKey]) -> ClusterSnapshot:
        return await self.read(lambda tx: _poll(tx, queues))

    def notify(self, hint: Notification) -> None:
        if self._notifier is not None:
            self._notifier.notify(hint)

    def listen(self, on_notify: Callable[[Notification], None], on_loss: Callable[[], None]) -> None:
        del on_loss
        if self._notifier is not None:
            self._notifier.listen(on_notify)
        self._watch(on_notify)

    def _watch(self, on_notify: Callable[[Notification], None]) -> None:
        # The reader's connection also sees commits of our own writer. Telling them apart would take counting commits,
        # and a check that finds nothing costs as little.
        version = self._reader.pragma("data_version")
        if version != self._data_version:
            self._data_version = version
            # Not `anything`: other workers announce their heads, and this worker's commits must not read all again.
            on_notify(Notification(feed=True, cursors=True))
        self._watching = self._loop.call_later(_WATCH_SECONDS, self._watch, on_notify)

    def _write_batch(self, order: _Order) -> None:
        with self._turn or nullcontext():
            if not order.claim():
                return
            try:
                result: BatchOutcome | Exception = self._write(order.batch)
            except Exception as error:  # It is the batch's result
                result = self._failure("commit", error)
            self._loop.call_soon_threadsafe(resolve, order.result, result)
            # Within the turn: other processes would make a restart of the log wait.
            self._keep_log_short()

    def _write(self, batch: Batch) -> BatchOutcome:
        try:
            return self._write_together(batch)
        except (apsw.FullError, apsw.IOError, apsw.BusyError, apsw.ReadOnlyError, apsw.CantOpenError):
            # Not caused by one part: each would fail alone as well, after as long a wait.
            raise
        except Exception as error:  # One part caused it, and gets it as its result
            self._report("batch split", error)
            return self._write_apart(batch)

    def _write_together(self, batch: Batch) -> BatchOutcome:
        connection, heads = self._writer, dict[QueueKey, int]()
        # IMMEDIATE takes the write lock now: upgrading a read lock later fails at once if another process writes.
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcome = BatchOutcome(
                append(connection, batch.appends, batch.tally_slot),
                settle(connection, batch.settles, batch.tally_slot),
                [self._work(work, heads) for work in batch.works],
                append_to_topics(connection, batch.topic_appends, batch.tally_slot),
                heads,
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return outcome

    def _write_apart(self, batch: Batch) -> BatchOutcome:
        """Write each part in its own commit, so that an invalid part breaks only itself."""
        heads: dict[QueueKey, int] = {}
        outcome = BatchOutcome([], [], [], [], heads)
        for kind in ("appends", "settles", "works", "topic_appends"):
            for part in getattr(batch, kind):
                try:
                    alone = self._write_together(Batch(**{kind: (part,)}, tally_slot=batch.tally_slot))
                    [result] = getattr(alone, kind)
                    heads.update(alone.heads)
                except Exception as error:  # It is that part's result
                    result = self._failure("commit of one", error)
                getattr(outcome, kind).append(result)
        return outcome

    def _work(self, work: Work[Any], heads: dict[QueueKey, int]) -> object:
        """Run a work, note the heads that it raises, and return its result or exception.

        A full disk or a broken file fails the batch instead.
        """
        # A work that raises must not undo the other parts of the batch.
        self._writer.execute("SAVEPOINT work")
        try:
            tx = SqliteTransaction(self._writer)
            result = run_to_end(work(tx))
        except apsw.Error:
            raise
        except Exception as error:  # It is the work's result
            self._writer.execute("ROLLBACK TO work")
            self._writer.execute("RELEASE work")
            return error
        self._writer.execute("RELEASE work")
        heads.update(tx.heads)
        return result

    def _failure(self, place: str, error: Exception, *, before_commit: bool = False) -> Exception:
        self._report(place, error)
        return translated(error, self.path, before_commit=before_commit) if isinstance(error, apsw.Error) else error

    def _committed(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        if pages < self._wal_pages:
            # This commit, or another process, has restarted the log.
            self._checkpoint_above, self._restart_above = _CHECKPOINT_PAGES, _RESTART_PAGES
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _keep_log_short(self) -> None:
        """Copy the log back, concurrently with the writer; only a long log makes the writer wait."""
        if self._wal_pages >= self._restart_above:
            self._restart_log()
        elif self._wal_pages >= self._checkpoint_above and not self._checkpoint_asked:
            # A busy writer adds pages while the log is copied, so that it does not restart. Copying these few pages
            # again and again would cost as much as writing them: the next checkpoint waits for as many.
            self._checkpoint_asked = True
            self._checkpoint_above = self._wal_pages + _CHECKPOINT_PAGES
            self._copying.submit(self._copy_log)

    def _restart_log(self) -> None:
        """Restart the log. If a reader holds it open, the next try is after it has grown as much again.

        A concurrent checkpoint would make this one busy at every commit, so wait for it; that leaves little to copy.
        """
        with self._checkpointing:
            self._writer.set_busy_timeout(_RESTART_BUSY_MS)
            done = self._checkpoint(self._writer, apsw.SQLITE_CHECKPOINT_RESTART)
            self._writer.set_busy_timeout(BUSY_TIMEOUT_MS)
        self._checkpoint_above = _CHECKPOINT_PAGES
        self._restart_above = _RESTART_PAGES if done else self._wal_pages + _RESTART_PAGES
        self._wal_pages = 0

    def _copy_log(self) -> None:
        with self._checkpointing:
            self._checkpoint(self._checkpointer, apsw.SQLITE_CHECKPOINT_PASSIVE)
        self._checkpoint_asked = False

    def _checkpoint(self, connection: apsw.Connection, mode: int) -> bool:
        try:
            connection.wal_checkpoint(mode=mode)
        except apsw.BusyError:
            return False
        except apsw.Error as error:
            self._report("checkpoint", error)
            return False
        return True


class _ReadSlice:
    """The slice of the task that reads in this turn of the event loop.

    Reads do not suspend: without pauses, a loop over reads, such as a job over all queues, would end in the step in
    which it began. The slice begins with the first read of the turn. If another task reads after its end, the slice of
    that task begins.
    """

    __slots__ = ("_is_counting", "_monotonic", "_started_at", "_task")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._task = 0
        self._started_at = 0.0
        self._is_counting = False

    def is_over(self) -> bool:
        """Return whether the task must pause before it reads again."""
        # This runs for each read: looking up the task would take as long as all the rest.
        now = self._monotonic()
        if self._is_counting and now - self._started_at <= SLICE_SECONDS:
            return False
        task = id(asyncio.current_task())
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._end_turn)
        elif task == self._task:
            return True
        self._task, self._started_at = task, now
        return False

    async def pause(self) -> None:
        """Let other work run, and begin a new slice."""
        await asyncio.sleep(0)
        self.is_over()

    def _end_turn(self) -> None:
        self._is_counting = False


class _SearchTransaction(SqliteTransaction):
    """Statements that each read a snapshot of their own. After some of them, other tasks run."""

    __slots__ = ("_slice", "_started_at")

    def __init__(self, connection: apsw.Connection, shared: SharedSlice) -> None:
        super().__init__(connection)
        self._slice = shared
        self._started_at: float | None = None

    async def row(self, sql: str, *values: Value) -> Row | None:
        await self._pause()
        return await super().row(sql, *values)

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        await self._pause()
        found = await super().rows(sql, *values)
        # Callers take about as long to use many rows as the read takes.
        await self._pause()
        return found

    async def _pause(self) -> None:
        """Count the time since the last pause, and let other tasks run if the slice is over."""
        is_new = self._started_at is None
        self.count()
        await self._slice.wait(is_new=is_new)
        self._started_at = self._slice.monotonic()

    def count(self) -> None:
        """Count the time since the last pause."""
        if self._started_at is not None:
            self._slice.add(self._slice.monotonic() - self._started_at)


def _read_on(connection: apsw.Connection, work: Work[T]) -> T:
    connection.execute("BEGIN")
    try:
        return run_to_end(work(SqliteTransaction(connection)))
    finally:
        # After an I/O error, the transaction has ended already: report that error.
        if connection.in_transaction:
            connection.execute("COMMIT")


def run_to_end(work: Awaitable[T]) -> T:
    """Run work that never suspends, and return its result: on this engine every statement answers at once."""
    running = cast("Coroutine[Any, Any, T]", work)
    try:
        running.send(None)
    except StopIteration as finished:
        result: T = finished.value
        return result
    running.close()
    raise RuntimeError("work inside a transaction waited for something that is not the transaction")


async def _poll(tx: Transaction, queues: Sequence[QueueKey]) -> ClusterSnapshot:
    # Several statements: on a file, none is a round trip, and all read one snapshot.
    return ClusterSnapshot(
        epoch=await feed.epoch(tx),
        feed_version=await feed.head(tx),
        has_jobs=await tx.row(_HAS_JOBS) is not None,
        members=tuple(
            [
                WorkerRow(session_id, role, slot, lease_ms, remaining_ms, is_leaving == 1, dead == 1)
                for session_id, role, slot, lease_ms, remaining_ms, is_leaving, dead in await tx.rows(_MEMBERS)
            ]
        ),
        free=tuple(await tx.rows(_FREE)),
        heads={queue: row[0] for queue in queues if (row := await tx.row(_HEAD, *queue)) is not None},
        scheduled_at=await schedules.next_publish_at(tx),
    )
