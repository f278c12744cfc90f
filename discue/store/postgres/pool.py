"""Connections to the server: when they are made, given up, lost, and made again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from discue.domain.errors import StoreUnavailable
from discue.store.postgres.connection import Server
from discue.store.postgres.errors import CommitInDoubt, ConnectionCut, without_data

Report = Callable[[str, BaseException], None]

CONNECT_SECONDS = 1.0
_WAIT_SECONDS = 1.0
_CLOSE_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


class Link:
    """One connection. `generation` says before which loss it was made, `ended` that it is not there any more."""

    def __init__(self, connection: asyncpg.Connection, generation: int, ended: Callable[["Link"], None]) -> None:
        self.connection = connection
        self.generation = generation
        self.is_idle = False
        self.is_given_up = False
        self.warning: str | None = None
        self.ended = asyncio.Event()
        self._tell_end = ended
        connection.add_log_listener(self._notice)
        connection.add_termination_listener(self._terminated)

    @property
    def is_open(self) -> bool:
        return not self.connection.is_closed()

    def cut(self) -> None:
        """End it from this side, which is as good as losing it: what was under way has an unknown outcome."""
        self.connection.terminate()

    def give_up(self) -> None:
        """End it without anything under way."""
        self.is_given_up = True
        self.connection.terminate()

    async def close(self) -> None:
        """End it as the server expects it, and in bounded time."""
        self.is_given_up = True
        try:
            await self.connection.close(timeout=_CLOSE_SECONDS)
        except Exception:  # noqa: BLE001 - it is at its end in any case
            self.connection.terminate()

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Cut it if the block takes longer. (Cancelling a commit would make the server answer before it is safe.)"""
        timer = asyncio.get_running_loop().call_later(seconds, self.cut)
        try:
            yield
        except asyncpg.PostgresError:
            raise
        except Exception as error:
            # Between two steps of a statement the client stumbles over a connection that is gone.
            if self.is_open:
                raise
            raise ConnectionCut from error
        finally:
            timer.cancel()

    @contextmanager
    def committing(self, seconds: float) -> Iterator[None]:
        """The same; and a block that ended well did not, if the server warned of anything."""
        self.warning = None
        with self.limited(seconds):
            yield
        if self.warning is not None:
            raise CommitInDoubt(self.warning)

    def _notice(self, _connection: object, message: asyncpg.PostgresLogMessage) -> None:
        if (message.severity_en or message.severity) == "WARNING":
            self.warning = message.message

    def _terminated(self, _connection: object) -> None:
        self.ended.set()
        self._tell_end(self)


class Links:
    """All connections of an engine.

    A connection that is lost makes all others of its time suspect: the server behind an address may be another one by
    now. Those that do nothing are given up, the others when they are done, and `lost` is called once for all of them.
    After an attempt to connect that failed, nobody waits: attempts go on in the background until one succeeds.
    """

    def __init__(self, server: Server, report: Report) -> None:
        self.generation = 0
        self.lost: Callable[[], None] = _nobody_minds
        self._server = server
        self._report = report
        self._all: set[Link] = set()
        self._spare: Link | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._closing = False

    def adopt(self, connection: asyncpg.Connection) -> None:
        """A connection that was made already: the next one who asks gets it."""
        self._spare = self._link(connection, self.generation)
        self._spare.is_idle = True

    async def connect(self) -> Link:
        """Another connection. Raises StoreUnavailable, at once when it is known that there is none to be had."""
        if self._spare is not None and self._spare.is_open:
            link, self._spare = self._spare, None
            link.is_idle = False
            return link
        if self._reconnecting is not None or self._closing:
            raise StoreUnavailable
        try:
            link = await self._connect()
        except Exception as error:  # noqa: BLE001 - told, and tried again
            self._report("connect", without_data(error))
            self._begin_reconnecting()
            raise StoreUnavailable from without_data(error)
        # Another attempt may have failed meanwhile: that is over.
        self._end_reconnecting()
        return link

    async def close(self) -> None:
        self._closing = True
        reconnecting = self._end_reconnecting()
        if reconnecting is not None:
            await asyncio.gather(reconnecting, return_exceptions=True)
        await asyncio.gather(*(link.close() for link in tuple(self._all)))

    async def _connect(self) -> Link:
        generation = self.generation
        connection = await self._server.connect(CONNECT_SECONDS)
        if self._closing:
            connection.terminate()
            raise ConnectionCut
        return self._link(connection, generation)

    def _link(self, connection: asyncpg.Connection, generation: int) -> Link:
        link = Link(connection, generation, self._ended)
        self._all.add(link)
        return link

    def _ended(self, link: Link) -> None:
        self._all.discard(link)
        if link.is_given_up or self._closing or link.generation != self.generation:
            return
        self.generation += 1
        for other in tuple(self._all):
            if other.is_idle:
                other.give_up()
        self._report("connection lost", ConnectionCut())
        self.lost()

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
            except Exception as error:  # noqa: BLE001 - told, and tried again
                self._report("connect", without_data(error))
                continue
            self._spare.is_idle = True
            self._reconnecting = None
            return


class Pool:
    """At most so many connections for one purpose, made when they are needed. Who comes then waits for a second."""

    def __init__(self, links: Links, size: int) -> None:
        self._links = links
        self._places = asyncio.Semaphore(size)
        self._idle: list[Link] = []

    @asynccontextmanager
    async def link(self) -> AsyncIterator[Link]:
        """A connection to oneself. Raises StoreUnavailable."""
        await self._enter()
        try:
            link = self._idle_link() or await self._links.connect()
            link.is_idle = False
            try:
                yield link
            finally:
                self._put_back(link)
        finally:
            self._places.release()

    async def _enter(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise StoreUnavailable from None

    def _idle_link(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if link.is_open:
                return link
        return None

    def _put_back(self, link: Link) -> None:
        if not link.is_open:
            return
        if link.generation != self._links.generation or link.connection.is_in_transaction():
            link.give_up()
            return
        link.is_idle = True
        self._idle.append(link)


def _nobody_minds() -> None:
    """Nobody has read anything that could be wrong."""
