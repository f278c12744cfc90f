"""A server on loopback that does on each connection what a script says, however wrong that is."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

READ = "read"
"""Read a whole request."""
READ_HEAD = "read head"
CLOSE = "close"
RESET = "reset"
HANG = "hang"
"""Do nothing more until the client goes. Every script ends with it."""

_STEPS = 10


@dataclass(frozen=True)
class Drip:
    """Sends one byte after another until the client closes the connection."""

    data: bytes
    seconds_apart: float = 0.02


@dataclass(frozen=True)
class Flood:
    """Repeats the same bytes up to a total that no client should read."""

    data: bytes
    total: int = 100_000_000


Step = bytes | str | Drip | Flood
Script = Sequence[Step]


@dataclass
class Received:
    """A request as it came, and on which connection."""

    connection: int
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedServer:
    """`scripts` are for the first connection, the second, and so on; the last one is for all later ones.

    Without a `port` it gets a free one.
    """

    scripts: Sequence[Script]
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    connections: int = 0
    flooded: int = 0
    port: int = 0
    requests: list[Received] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self.open = 0
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        # A connection that was accepted last has no writer yet, nor one whose handshake goes on. The client has left
        # both, which the event loop finds out within a few steps.
        for _ in range(_STEPS):
            await asyncio.sleep(0)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        scheme = "https" if self.tls else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/hook?x=1"

    async def until_open(self, count: int) -> None:
        """Wait until exactly so many connections are open."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.open == count)

    async def until_received(self, count: int) -> None:
        """Wait until that many requests were read."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        await self._count(1)
        number = self.connections
        self.connections += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                for step in (*self.scripts[min(number, len(self.scripts) - 1)], HANG):
                    if await self._do(step, number, reader, writer):
                        break
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            await self._count(-1)

    async def _count(self, change: int) -> None:
        async with self._changed:
            self.open += change
            self._changed.notify_all()

    async def _do(self, step: Step, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Do one step; whether the script ends with it."""
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif isinstance(step, Drip):
            await drip(step, reader, writer)
        elif isinstance(step, Flood):
            await self._flood(step, writer)
        elif step == READ_HEAD:
            await reader.readuntil(b"\r\n\r\n")
        elif step == READ:
            self.requests.append(await read_request(reader, number))
            async with self._changed:
                self._changed.notify_all()
        elif step == HANG:
            while await reader.read(65_536):
                pass
        else:
            await end(writer, by_reset=step == RESET)
            return True
        return False

    async def _flood(self, step: Flood, writer: asyncio.StreamWriter) -> None:
        while self.flooded < step.total:
            writer.write(step.data)
            self.flooded += len(step.data)
            await writer.drain()


async def read_request(reader: asyncio.StreamReader, connection: int) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.strip().split("\r\n")
    pairs = [text.partition(": ") for text in lines]
    headers = {name.lower(): value for name, _, value in pairs}
    assert len(headers) == len(pairs), "a header came twice"
    return Received(connection, line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


async def drip(step: Drip, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte whenever the client has been silent for the interval."""
    while not reader.at_eof():
        for byte in step.data:
            writer.write(bytes([byte]))
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(65_536), step.seconds_apart)


async def end(writer: asyncio.StreamWriter, *, by_reset: bool) -> None:
    if by_reset:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
