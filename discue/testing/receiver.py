"""An HTTP server for listeners: on loopback, with an endpoint per listener, scripted responses, and network faults."""

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from http import HTTPStatus
from itertools import count
from typing import Final, NamedTuple, Self
from urllib.parse import unquote

_LONGEST_HEAD: Final = 1 << 17
_FRAMING: Final = frozenset({"connection", "content-length", "transfer-encoding"})
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_DRIPPED: Final = b"." * 16

_logger = logging.getLogger("discue.testing")


@dataclass(frozen=True)
class Received:
    """A request of the server, as it arrived."""

    method: str
    path: str
    """The path, percent-decoded."""
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)

    @cached_property
    def fields(self) -> dict[str, str]:
        """The headers by name in lower case."""
        return {name.lower(): value for name, value in self.headers}


@dataclass(frozen=True)
class Reply:
    """A response."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class AttemptKey(NamedTuple):
    """Names an attempt, as its request does."""

    listener_id: str
    message_id: str
    number: int
    replay_id: str = ""


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

    async def reset(self) -> None:
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


Callback = Callable[[Received], Reply | int | None]
"""Responds to a request: with a reply, a status, or `200` for None. Runs on a thread of its own."""


class Script:
    """The responses of a listener, in the order of its requests. The response is `200` if there is no step.

    A step without `times` lasts until another one is added.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[Handle, int | None]] = []
        """Functions that respond, and the number of requests for each; None for all from now on."""
        self._lock = threading.Lock()
        self._held: set[AttemptKey] = set()
        self.requests: list[Received] = []
        """All requests, in the order in which they arrived."""
        self.errors: list[Exception] = []
        """The exceptions that callbacks have raised, oldest first."""

    @property
    def held(self) -> frozenset[AttemptKey]:
        """The attempts that `hang` keeps without a response."""
        return frozenset(self._held)

    def waits_for(self, message_id: str) -> str:
        """Return why a message is in flight; "" if this script is not the reason."""
        hangs = any(key.message_id == message_id for key in self.held)
        return "It hangs, as the test says, until the clock has moved by its timeout." if hangs else ""

    def respond(
        self,
        status: int,
        *,
        times: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | bytes = b"",
    ) -> Self:
        """Respond with a status."""
        content = body.encode() if isinstance(body, str) else body
        reply = Reply(status, tuple((headers or {}).items()), content)
        return self._add(lambda _, connection: connection.send(reply), times)

    def retry_after(self, seconds: int, *, status: int = 503, times: int | None = None) -> Self:
        """Respond that the next attempt should come so many seconds later."""
        return self.respond(status, times=times, headers={"retry-after": str(seconds)})

    def gone(self, *, times: int | None = None) -> Self:
        """Respond with `410`, which disables the listener."""
        return self.respond(410, times=times)

    def slow(self, seconds: float, *, status: int = 200, times: int | None = None) -> Self:
        """Respond after so many seconds of real time."""

        async def respond(_: Received, connection: EndpointConnection) -> None:
            await asyncio.sleep(seconds)
            await connection.send(Reply(status))

        return self._add(respond, times)

    def drip(self, seconds: float, *, status: int = 200, times: int | None = None) -> Self:
        """Respond at once, with a body that takes so many seconds of real time."""
        reply = Reply(status, body=_DRIPPED)
        return self._add(lambda _, connection: connection.drip(reply, seconds), times)

    def reset(self, *, times: int | None = None) -> Self:
        """Break the connection in place of a response."""
        return self._add(lambda _, connection: connection.reset(), times)

    def hang(self, *, times: int | None = None) -> Self:
        """Never respond: the attempt fails when the clock has moved by the listener's timeout."""
        return self._add(self._hang, times)

    def callback(self, callback: Callback, *, times: int | None = None) -> Self:
        """Respond with what the function returns for the request, or `500` if it raises."""
        return self._add(partial(self._call, callback), times)

    async def handle(self, received: Received, connection: EndpointConnection) -> None:
        """Respond to the next request."""
        await self._next(received)(received, connection)

    async def _hang(self, received: Received, connection: EndpointConnection) -> None:
        fields = received.fields
        number, replay_id = int(fields["discue-attempt"]), fields.get("discue-replay", "")
        key = AttemptKey(fields["discue-listener"], fields["webhook-id"], number, replay_id)
        self._held.add(key)
        try:
            await connection.until_closed()
        finally:
            self._held.discard(key)

    async def _call(self, callback: Callback, received: Received, connection: EndpointConnection) -> None:
        try:
            result = await asyncio.to_thread(callback, received)
        except Exception as error:
            self.errors.append(error)
            _logger.exception("the callback of a listener raised")
            result = 500
        await connection.send(result if isinstance(result, Reply) else Reply(result or 200))

    def _add(self, respond: Handle, times: int | None) -> Self:
        with self._lock:
            self._steps = [each for each in self._steps if each[1] is not None]
            self._steps.append((respond, times))
        return self

    def _next(self, received: Received) -> Handle:
        with self._lock:
            self.requests.append(received)
            if not self._steps:
                return lambda _, connection: connection.send(Reply())
            respond, times = self._steps[0]
            if times is not None:
                self._steps[:1] = [(respond, times - 1)] if times > 1 else []
            return respond
