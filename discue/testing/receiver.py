"""An HTTP server for listeners: on loopback, with an endpoint per listener, and with the faults of a network."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from itertools import count
from urllib.parse import unquote

from discue.testing.requests import Received, Reply

_LONGEST_HEAD = 1 << 17
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})
_NO_LINGER = struct.pack("ii", 1, 0)


class EndpointConnection:
    """The connection of one request, for endpoints that break it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, reply: Reply) -> None:
        """Send a whole response."""
        self._writer.write(_head(reply) + reply.body)
        await self._writer.drain()

    async def drip(self, reply: Reply, seconds: float) -> None:
        """Send a response of which the body takes so long, byte by byte."""
        self._writer.write(_head(reply))
        for byte in reply.body:
            await asyncio.sleep(seconds / len(reply.body))
            self._writer.write(bytes([byte]))
            await self._writer.drain()

    def reset(self) -> None:
        """Break the connection as a crashed process does."""
        made: socket.socket = self._writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._writer.transport.abort()

    async def until_closed(self) -> None:
        """Return when the server has given up."""
        with suppress(OSError):
            while await self._reader.read(4_096):
                pass


Handle = Callable[[Received, EndpointConnection], Awaitable[None]]
"""Responds to a request on its connection."""


class Receiver:
    """Serves endpoints on the loop on which it is started."""

    _server: asyncio.Server

    def __init__(self) -> None:
        self._endpoints: dict[str, Handle] = {}
        self._numbers = count(1)
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LONGEST_HEAD)

    def add(self, handle: Handle) -> str:
        """Add an endpoint, and return its URL."""
        path = f"/listeners/{next(self._numbers)}"
        self._endpoints[path] = handle
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}{path}"

    async def stop(self) -> None:
        """Break all connections, also those that hang."""
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve_all(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to the requests of a connection, until it is closed."""
        try:
            with suppress(OSError):
                while not writer.is_closing() and (received := await _read(reader)) is not None:
                    await self._respond(received, EndpointConnection(reader, writer))
        finally:
            writer.close()

    async def _respond(self, received: Received, connection: EndpointConnection) -> None:
        handle = self._endpoints.get(received.path)
        if handle is not None and received.method == "POST":
            await handle(received, connection)
        else:
            # A probe of liveness.
            await connection.send(Reply(200 if handle is not None else 404))


async def _read(reader: asyncio.StreamReader) -> Received | None:
    """Return the next request; None at the end of the connection. The server's own requests have a length."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
        length = next((int(value) for name, value in headers if name == "content-length"), 0)
        body = await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = start.split(" ")
    path, _, query = target.partition("?")
    return Received(method, unquote(path), query, headers, body)


def _head(reply: Reply) -> bytes:
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Unknown"
    # Applications frame their responses by themselves.
    shown = [(name, value) for name, value in reply.headers if name.lower() not in _FRAMING]
    headers = "".join(f"{name}: {value}\r\n" for name, value in shown)
    return f"HTTP/1.1 {reply.status} {phrase}\r\n{headers}content-length: {len(reply.body)}\r\n\r\n".encode("latin-1")
