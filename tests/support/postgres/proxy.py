"""A network that fails, in front of a server on loopback: connections are cut, refused, or swallow what is sent."""

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"

_PIECE_BYTES = 64 << 10
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """A TCP proxy with bounded buffers: while it is frozen, it reads nothing more."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.port = 0
        self._target = (target_host, target_port)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.delay_seconds = 0.0
        """By how much longer a round trip takes."""
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        # Bound and never listening: it keeps the port while connections are refused.
        self._holder = socket.socket()

    async def __aenter__(self) -> Self:
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind((HOST, 0))
        self.port = self._holder.getsockname()[1]
        await self.mend()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()
        self._holder.close()

    async def cut(self) -> None:
        """Reset every connection, and refuse others until it is mended."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self.reset()

    async def reset(self) -> None:
        """Reset every connection there is. Others are taken."""
        ending = list(self._connections)
        for connection in ending:
            connection.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def mend(self) -> None:
        """Take connections again."""
        if self._server is None:
            self._server = await asyncio.start_server(self._take, HOST, self.port, limit=_PIECE_BYTES, reuse_port=True)

    def freeze(self) -> None:
        """Pass nothing on until it is thawed. Connections stay, and others are taken."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on what waited, and what comes."""
        self._flowing.set()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # A connection accepted just before the cut arrives after it.
            if self._server is not None:
                await self._pass_on(reader, writer)
        except* OSError:
            pass
        except* asyncio.CancelledError:
            pass
        finally:
            self._connections.discard(task)
            _reset(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        target_reader, target_writer = await asyncio.open_connection(*self._target, limit=_PIECE_BYTES)
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._pump_requests(reader, target_writer))
                directions.create_task(self._pump(target_reader, writer))
            for ended in (target_writer, writer):
                ended.close()
                await ended.wait_closed()
        finally:
            _reset(target_writer)

    async def _pump_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            await self._pass_request(piece, writer)
        await self._flowing.wait()
        writer.write_eof()

    async def _pass_request(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        await self._flowing.wait()
        writer.write(piece)
        await writer.drain()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            await self._flowing.wait()
            writer.write(piece)
            await writer.drain()
        await self._flowing.wait()
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Nothing happens to one that is closed."""
    connection: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
