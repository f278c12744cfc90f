"""Connections to the server: when they are made, discarded, lost, and made again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import asyncpg

from discue.domain.errors import StoreUnavailable
from discue.store.postgres.connection import CommitUncertain, ConnectionCut, Server, without_data

Report = Callable[[str, BaseException], None]
"""Called with the place of an internal failure, and the error."""

_WAIT_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 1.0
_READY_SECONDS: Final = 5.0
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0


class ServerConnection:
    def __init__(
        self, client: asyncpg.Connection, generation: int, on_end: Callable[["ServerConnection"], None]
    ) -> None:
        self.client = client
        self.name: str = client.get_settings().application_name
        self.generation = generation
        """How many losses there had been when it was made."""
        self.is_idle = False
        self.is_discarded = False
        self.warning: str | None = None
        """The last warning of the server during a commit."""
        self.ended = asyncio.Event()
        self._on_end = on_end
        client.add_log_listener(self._notice)
        client.add_termination_listener(self._terminated)

    @property
    def is_open(self) -> bool:
        return not self.client.is_closed()

    async def take_name(self, name: str) -> None:
        """Let the server show the connection under this name."""
        await self.client.execute(f"SET application_name = '{name}'")
        self.name = name

    def cut(self) -> None:
        """Terminate it. This counts as a loss: the outcome of a running statement is unknown."""
        self.client.terminate()

    def discard(self) -> None:
        """Terminate it while no statement runs."""
        self.is_discarded = True
        self.client.terminate()

    async def close(self) -> None:
        """Close it in the orderly way, within a limited time."""
        self.is_discarded = True
        try:
            await self.client.close(timeout=_CLOSE_SECONDS)
        except Exception:  # It ends in any case
            self.client.terminate()

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Cut the connection if the block takes longer.

        Cancelling a commit instead would make the server answer before the commit is safe.
        """
        timer = asyncio.get_running_loop().call_later(seconds, self.cut)
        try:
            yield
        except asyncpg.PostgresError:
            raise
        except Exception as error:
            # Between two steps of a statement the client fails in its own ways on a connection that is gone.
            if self.is_open:
                raise
            raise ConnectionCut from error
        finally:
            timer.cancel()

    @contextmanager
    def committing(self, seconds: float) -> Iterator[None]:
        """Like `limited`; and raise CommitUncertain after a block during which the server warned."""
        self.warning = None
        with self.limited(seconds):
            yield
        if self.warning is not None:
            raise CommitUncertain(self.warning)

    def _notice(self, _client: object, message: asyncpg.PostgresLogMessage) -> None:
        if (message.severity_en or message.severity) == "WARNING":
            self.warning = message.message

    def _terminated(self, _client: object) -> None:
        self.ended.set()
        self._on_end(self)


class ServerConnections:
    """All connections of an engine.

    The loss of one connection makes all others of its generation suspect: the address may lead to another server now.
    Idle ones are discarded, the others when they are returned, and `on_loss` is called once for all of them. After a
    failed attempt to connect, no task waits: attempts continue in the background until one succeeds.
    """

    def __init__(self, server: Server, report: Report, connect_seconds: float) -> None:
        """`connect_seconds` is the time that a host of the server has to answer."""
        self.server = server
        self._connect_seconds = connect_seconds
        self.generation = 0
        # Without a listener, no cache has read anything that a loss could invalidate.
        self.on_loss: Callable[[], None] = lambda: None
        self._report = report
        self._all: set[ServerConnection] = set()
        self._spare: ServerConnection | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._closing = False

    def adopt(self, client: asyncpg.Connection) -> None:
        """Keep a connection that exists for the next caller of `connect`."""
        self._spare = self._register(client, self.generation)
        self._spare.is_idle = True

    async def connect(self) -> ServerConnection:
        """Make a connection. Raises StoreUnavailable, at once if it is known that the server cannot be reached."""
        if self._spare is not None and self._spare.is_open:
            connection, self._spare = self._spare, None
            connection.is_idle = False
            return connection
        if self._reconnecting is not None or self._closing:
            raise StoreUnavailable(code="not_stored")
        try:
            connection = await self._connect()
        except Exception as error:  # Reported, and retried
            self._report("connect", without_data(error))
            self._begin_reconnecting()
            raise StoreUnavailable(code="not_stored") from without_data(error)
        # A concurrent attempt may have failed and begun to reconnect: that is over.
        self._end_reconnecting()
        return connection

    async def close(self) -> None:
        """Close all connections, and make no more."""
        self._closing = True
        reconnecting = self._end_reconnecting()
        if reconnecting is not None:
            await asyncio.gather(reconnecting, return_exceptions=True)
        await asyncio.gather(*(connection.close() for connection in tuple(self._all)))

    async def _connect(self) -> ServerConnection:
        generation = self.generation
        client = await self.server.connect(self._connect_seconds)
        if self._closing:
            client.terminate()
            raise ConnectionCut
        return self._register(client, generation)

    def _register(self, client: asyncpg.Connection, generation: int) -> ServerConnection:
        connection = ServerConnection(client, generation, self._ended)
        self._all.add(connection)
        return connection

    def _ended(self, connection: ServerConnection) -> None:
        self._all.discard(connection)
        # A failover ends all connections one after another: only the first of a generation counts as a loss.
        if connection.is_discarded or self._closing or connection.generation != self.generation:
            return
        self.generation += 1
        for other in tuple(self._all):
            if other.is_idle:
                other.discard()
        self._report("connection lost", ConnectionCut())
        self.on_loss()

    def _begin_reconnecting(self) -> None:
        if self._reconnecting is None and not self._closing:
            self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect())

    def _end_reconnecting(self) -> "asyncio.Task[None] | None":
        reconnecting, self._reconnecting = self._reconnecting, None
        if reconnecting is not None:
            reconnecting.cancel()
        return reconnecting

    async def _reconnect(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            try:
                self._spare = await self._connect()
            except Exception as error:  # Reported, and retried
                self._report("connect", without_data(error))
                continue
            self._spare.is_idle = True
            self._reconnecting = None
            return


class Pool:
    """A limited number of connections for one purpose, made when they are needed."""

    def __init__(self, connections: ServerConnections, size: int) -> None:
        self._connections = connections
        self._slots = asyncio.Semaphore(size)
        self._idle: list[ServerConnection] = []

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[ServerConnection]:
        """Use a connection alone. Raises StoreUnavailable, after a second if all are in use."""
        await self._enter()
        try:
            connection = self._take_idle() or await self._connections.connect()
            connection.is_idle = False
            try:
                name = self._connections.server.application_name
                if connection.name != name:
                    with connection.limited(_READY_SECONDS):
                        await connection.take_name(name)
                yield connection
            finally:
                self._put_back(connection)
        finally:
            self._slots.release()

    async def _enter(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise StoreUnavailable(code="not_stored") from None

    def _take_idle(self) -> ServerConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    def _put_back(self, connection: ServerConnection) -> None:
        if not connection.is_open:
            return
        # A connection of an earlier generation may lead to a former primary.
        if connection.generation != self._connections.generation or connection.client.is_in_transaction():
            connection.discard()
            return
        connection.is_idle = True
        self._idle.append(connection)
