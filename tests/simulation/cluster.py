"""A database server that several workers share, and the engine with which each of them reaches it.

The SQL is real: a transaction runs on SQLite, in one step. Around it is a network: requests and responses take time,
are held up and lost, so that a worker may not know whether its commit was made.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from contextvars import Context, copy_context
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

import apsw
from msgspec.structs import replace

from discue.domain.errors import StoreUnavailable
from discue.store.engine import (
    Batch,
    BatchOutcome,
    ClusterSnapshot,
    CommitConcurrency,
    LogPage,
    Notification,
    QueueKey,
    Work,
)
from discue.store.group_commit import resolve
from discue.store.sqlite import engine as sqlite
from discue.store.sqlite import schema
from discue.store.sqlite.engine import SqliteEngine, SqliteTransaction, run_to_end
from tests.faults.broken import put
from tests.simulation.locks import Held, Locks, rows_of_works
from tests.simulation.loop import HOST, Host
from tests.simulation.machines import HostClock, Steps
from tests.simulation.network import Network

T = TypeVar("T")

_REQUEST_SECONDS: Final = 10.0
"""A worker waits no longer for the server."""
_OPEN_APART_SECONDS: Final = 0.5
_LATENCY_SECONDS: Final = (0.000_2, 0.003)
_LOST_NOTIFICATIONS: Final = 0.1
_NOTHING_CHANGED: Final = "not_stored"
_NO_WRITE_AHEAD_LOG: Final = b"\x01\x01"
"""The version of the format, at byte 18 of a database file, without such a log: files in memory have none."""


class Server:
    """The database server. Its clock decides about leases."""

    def __init__(self, network: Network, folder: Path, choices: Random) -> None:
        self.host = Host("database", "127.0.0.10")
        self.network = network
        self.trace = network.loop.trace
        self.random = choices
        self.engines: list[ClusterEngine] = []
        self.path = folder / "discue.db"
        self._clock = HostClock(network.loop, self.host)
        self.replicates = True
        """Whether the standby confirms commits. While it does not, they are made, and nobody is told."""
        # Its files are in memory: SQLite's own, which is faster than files of the simulated disk.
        apsw.set_default_vfs("memdb")
        self.locks = Locks(network, lambda works: rows_of_works(self._database._writer, works, self.locks.session_id))

        async def end_sessions(_tx: SqliteTransaction, session_id: int) -> None:
            self.locks.end_session(session_id)

        put(SqliteTransaction, "end_sessions", end_sessions)

    async def open(self) -> None:
        await self._open_database(self.path.read_bytes())

    async def close(self) -> None:
        await self._database.close()

    def latency(self) -> float:
        """Return how long a packet takes from or to a worker. The network outside may be slower."""
        return self.random.uniform(*_LATENCY_SECONDS)

    def write(self, batch: Batch) -> BatchOutcome:
        return self._database._write(batch)

    def read(self, work: Work[T]) -> T:
        return run_to_end(self._database.read(work))

    def page(self, organization: int, queue: int, after: int, rows: int, max_bytes: int) -> LogPage:
        return run_to_end(self._database.page(organization, queue, after, rows, max_bytes=max_bytes))

    def poll(self, queues: Sequence[QueueKey]) -> ClusterSnapshot:
        return replace(run_to_end(self._database.poll(queues)), clock_ms=self._clock.now())

    def notify(self, sender: "ClusterEngine", hint: Notification) -> None:
        """Pass a notification on to all other workers. Some are lost."""
        for engine in self.engines:
            if engine is not sender and self.random.random() >= _LOST_NOTIFICATIONS:
                engine.hear(hint)

    def crash(self) -> None:
        """Stop in the middle of everything. Commits stay; all connections are lost."""
        self.host.is_down = True
        self.locks.clear()
        for engine in self.engines:
            engine.lose()

    def start(self) -> None:
        self.host.is_down = False

    def migrate(self) -> None:
        """Apply the migrations that the program knows and the database lacks."""
        # As the engine knows them: an upgrade in a run adds some there.
        schema.migrate(self._database._writer, vars(sqlite)["migrations"](schema.DIALECT))

    def forget(self, host: Host) -> None:
        """Notice that a machine was killed. Requests that it had sent are still executed."""
        if self.locks.held is not None and self.locks.held.engine.host is host:
            self.locks.release(commits=False)
        self.engines = [engine for engine in self.engines if engine.host is not host]

    def snapshot(self) -> bytes:
        """Return the content of the database: what a standby has."""
        return self._database._reader.serialize("main")

    async def fail_over(self, content: bytes) -> None:
        """Become the standby, which has this content."""
        await self._database.close()
        self.path = self.path.with_name(f"standby-{self.path.name}")
        await self._open_database(content)
        self.replicates = True
        self.start()

    async def _open_database(self, content: bytes) -> None:
        loop = self.network.loop
        with closing(apsw.Connection(str(self.path))) as database, closing(apsw.Connection(":memory:")) as source:
            source.deserialize("main", content[:18] + _NO_WRITE_AHEAD_LOG + content[20:])
            with database.backup("main", source, "main") as copying:
                copying.step()
            self._database = SqliteEngine(
                self.path,
                report=self._report,
                clock=self._clock,
                start_thread=lambda _name: Steps(loop, self.random),
            )
            await self._database.open()

    def _report(self, place: str, error: BaseException) -> None:
        self.trace.add("database", place, repr(error))


class ClusterEngine:
    """`engine.Engine` on a simulated server, for one worker. Its connections are all lost at once."""

    concurrency = CommitConcurrency(appends=2, settles=2, works=2, urgent_works=2, lane_reads=3, apart=True)
    migrated_from = 0

    def __init__(self, server: Server) -> None:
        host = HOST.get()
        assert host is not None
        self.host = host
        self._server = server
        self._network = server.network
        self._context: Context = copy_context()
        self.session_id = 0
        self._generation = 0
        """How often its connections were lost."""
        self._on_notify: Callable[[Notification], None] = lambda _hint: None
        self._on_loss: Callable[[], None] = lambda: None
        self._waiting: dict[asyncio.Future[Any], str] = {}
        """The requests without a response, and the code of the error if there is none."""

    async def open(self) -> None:
        """Connect as soon as the server can be reached."""
        while True:
            try:
                await self._ask(self._server.migrate, code=_NOTHING_CHANGED)
                break
            except StoreUnavailable:
                await asyncio.sleep(_OPEN_APART_SECONDS)
        self._server.engines.append(self)

    async def close(self) -> None:
        self._server.forget(self.host)

    def begin_session(self, session_id: int) -> None:
        self.session_id = session_id

    async def end_stuck_sessions(self) -> Sequence[str]:
        """Do nothing: its processes hang only as workers with a lease."""
        return ()

    async def warm_up(self) -> None:
        """Do nothing: connections of this server are ready at once."""

    async def commit(self, batch: Batch) -> BatchOutcome:
        return await asyncio.shield(asyncio.ensure_future(self._commit(batch)))

    async def read(self, work: Work[T]) -> T:
        return await self._read(lambda: self._server.read(work))

    async def search(self, work: Work[T]) -> T:
        return await self.read(work)

    async def load(self, work: Work[T]) -> T:
        return await self.read(work)

    async def page(self, organization: int, queue: int, after: int, rows: int, *, max_bytes: int) -> LogPage:
        return await self._read(lambda: self._server.page(organization, queue, after, rows, max_bytes))

    async def poll(self, queues: Sequence[QueueKey]) -> ClusterSnapshot:
        return await self._read(lambda: self._server.poll(queues))

    def notify(self, hint: Notification) -> None:
        self._send(lambda: self._server.notify(self, hint))

    def listen(self, on_notify: Callable[[Notification], None], on_loss: Callable[[], None]) -> None:
        self._on_notify, self._on_loss = on_notify, on_loss

    def hear(self, hint: Notification) -> None:
        """Get a notification of another worker, after a while, if the connection holds so long."""
        generation = self._generation

        def arrive() -> None:
            if generation == self._generation:
                self._on_notify(hint)

        self._respond(arrive)

    def lose(self) -> None:
        """Lose all connections: requests without a response fail, and the worker must read everything again."""
        self._generation += 1
        self._server.trace.add(self.host.name, "connections lost")
        self._respond(self._fail_all)

    async def _commit(self, batch: Batch) -> BatchOutcome:
        trace = self._server.trace
        generation = self._generation

        def write() -> BatchOutcome:
            outcome = self._server.write(batch)
            if self._generation != generation:
                trace.reach("unknown commit that was stored")
            return outcome

        return await self._ask(write, code="", batch=batch)

    async def _read(self, read: Callable[[], T]) -> T:
        generation = self._generation
        found = await self._ask(read, code=_NOTHING_CHANGED)
        if generation != self._generation:
            # Later reads may be of another server.
            raise StoreUnavailable(code=_NOTHING_CHANGED)
        return found

    async def _ask(self, run: Callable[[], T], *, code: str, batch: Batch | None = None) -> T:
        """Let the server run something, and return its result. Raises StoreUnavailable with the code without one."""
        response: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting[response] = code
        self._send(self._execute, Held(self, batch, lambda: self._finish(run, response, code)), response, code)
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                return await response
        except TimeoutError:
            self._server.trace.reach("request to the database that timed out")
            self.lose()
            raise StoreUnavailable(code=code) from None
        finally:
            self._waiting.pop(response, None)

    def _execute(self, request: Held, response: "asyncio.Future[Any]", code: str) -> None:
        """Run a request at the server, which answers it or refuses it, once it has the locks that it needs."""
        if self._server.host.is_down:
            self._respond(resolve, response, StoreUnavailable(code=code))
        elif self._server.locks.admit(request):
            request.execute()

    def _finish(self, run: Callable[[], Any], response: "asyncio.Future[Any]", code: str) -> None:
        result: Any
        try:
            result = run()
        except Exception as error:  # noqa: BLE001 - it is the result
            result = error
        if code or self._server.replicates:
            self._respond(resolve, response, result)

    def _fail_all(self) -> None:
        for response, code in list(self._waiting.items()):
            resolve(response, StoreUnavailable(code=code))
        self._on_loss()

    def _send(self, act: Callable[..., None], *args: Any) -> None:
        network = self._network
        network.at(network.loop.time() + self._server.latency(), act, *args, between=(self.host, self._server.host))

    def _respond(self, act: Callable[..., None], *args: Any) -> None:
        """Do something on the worker's machine, once the packet with it has arrived."""
        network = self._network
        between = (self._server.host, self.host)
        network.at(network.loop.time() + self._server.latency(), self._arrive, act, *args, between=between)

    def _arrive(self, act: Callable[..., None], *args: Any) -> None:
        self._network.loop.call_soon(lambda: act(*args), context=self._context)
