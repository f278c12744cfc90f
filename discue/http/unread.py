"""Responses that clients have not read: bounded per connection, in total, and in time.

The HTTP server takes over a response at once, however slowly its client reads, and holds it in memory. It says when
it has passed on the last byte of a streamed response, or the connection has ended. Therefore all but small responses
are streamed, and counted until then. A client that reads too slowly loses its connection.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Final

from granian._granian import RSGIProtocolClosed as ProtocolClosed

from discue.domain.errors import Overloaded
from discue.http.rsgi import ClientGone, HttpProtocol
from discue.http.sockets import AcknowledgedBytes, ClientConnection, close_connections

SMALL_BYTES: Final = 4_096
"""Responses up to this size are not counted. The server's own state of a request takes as much memory."""

SHARES: Final = 4
"""The memory is divided into this many shares. The responses of a connection take at most one."""

READ_SECONDS: Final = 30.0
READ_BYTES_PER_SECOND: Final = 32_768
"""A client must read a response within `READ_SECONDS`, plus its size divided by this rate."""

# HTTP/2 takes a whole piece from its stream as soon as the client allows one byte, and what is taken counts as read.
_PIECE_BYTES: Final = 16_384
_TICK_SECONDS: Final = 1.0

_SPARED_TICKS: Final = 2
"""A response that is this new makes no room for others: its client may be reading."""

_WINDOW_BYTES: Final = 1_048_576
"""A stream waits while its client has not read this many bytes of it."""

_FREE_BYTES: Final = 262_144
"""The first bytes of a stream, which are not compared with what the client reads."""

_PROGRESS_SECONDS: Final = 0.05


class UnreadResponse:
    """A response that its client has not read yet."""

    __slots__ = ("connection", "last_tick", "size", "ticks")

    def __init__(self, connection: ClientConnection, size: int) -> None:
        self.connection = connection
        self.size = size
        self.last_tick = round((READ_SECONDS + size / READ_BYTES_PER_SECOND) / _TICK_SECONDS)
        self.ticks = 0
        """Ticks for which it is unread."""


class UnreadResponses:
    """Sends the larger responses of one worker. One timer serves all deadlines, and runs only while there are any."""

    def __init__(
        self,
        *,
        max_bytes: int,
        tick_seconds: float = _TICK_SECONDS,
        close: Callable[[Collection[ClientConnection]], None] = close_connections,
    ) -> None:
        self._max_bytes = max_bytes
        self._share = max_bytes // SHARES
        self._tick_seconds = tick_seconds
        self._close_now = close
        self._bytes = 0
        self._by_connection: dict[ClientConnection, int] = {}
        """Unread bytes. A connection that is being closed is counted until then: its responses are in memory."""
        self._responses: dict[UnreadResponse, None] = {}
        """The oldest first."""
        self._closing: set[ClientConnection] = set()
        self._closer: asyncio.Task[None] | None = None
        self._ticking = False

    def check(self, connection: ClientConnection, size: int) -> None:
        """Raise Overloaded if clients must read earlier responses before there is room for one of this size."""
        unread = self._by_connection.get(connection, 0)
        if unread and unread + size > self._share:
            raise Overloaded("Read the earlier responses on this connection first.")
        # A response that is larger than the limit is possible, too.
        size = min(size, self._share)
        if self._bytes + size > self._max_bytes:
            self._make_room(size)
            raise Overloaded(
                "Too many responses are waiting for their clients. Try again soon, or ask for less at once; "
                "the operator can raise `max_unread_bytes`."
            )

    async def start(
        self,
        exchange: HttpProtocol,
        connection: ClientConnection,
        status: int,
        *,
        headers: list[tuple[str, str]],
        content: bytes,
    ) -> UnreadResponse:
        """Hand a response over to the server, and count it."""
        size = len(content)
        response = UnreadResponse(connection, size)
        self._responses[response] = None
        self._by_connection[connection] = self._by_connection.get(connection, 0) + size
        self._bytes += size
        if self._bytes > self._max_bytes:
            self._make_room(0)
        if not self._ticking:
            self._schedule_tick()
        headers.append(("content-length", str(size)))
        stream = exchange.response_stream(status, headers)
        # A client that is gone has read all it wants.
        with suppress(ProtocolClosed):
            for start in range(0, size, _PIECE_BYTES):
                await stream.send_bytes(content[start : start + _PIECE_BYTES])
        return response

    async def until_read(self, exchange: HttpProtocol, response: UnreadResponse) -> None:
        """Return when the client has read the response, or its connection has ended."""
        try:
            await exchange.client_disconnect()
        finally:
            del self._responses[response]
            self._bytes -= response.size
            left = self._by_connection.pop(response.connection) - response.size
            if left:
                self._by_connection[response.connection] = left

    def window(self, connection: ClientConnection) -> "StreamWindow":
        """Return what makes a stream on a connection wait for its client."""
        return StreamWindow(AcknowledgedBytes(connection), partial(self._close, connection))

    def _make_room(self, size: int) -> None:
        """Close the connections with the oldest responses: a client that reads has read them long before."""
        excess = self._bytes + size - self._max_bytes
        excess -= sum(self._by_connection.get(each, 0) for each in self._closing)
        for response in self._responses:
            if excess <= 0 or response.ticks < _SPARED_TICKS:
                break
            if response.connection not in self._closing:
                excess -= self._by_connection[response.connection]
                self._close(response.connection)

    def _close(self, connection: ClientConnection) -> None:
        self._closing.add(connection)
        if self._closer is None:
            self._closer = asyncio.get_running_loop().create_task(self._close_all())

    async def _close_all(self) -> None:
        # In a thread, and several at once: sockets are found by looking through all open files.
        try:
            while self._closing:
                connections = frozenset(self._closing)
                await asyncio.to_thread(self._close_now, connections)
                self._closing -= connections
        finally:
            self._closer = None

    def _schedule_tick(self) -> None:
        self._ticking = True
        asyncio.get_running_loop().call_later(self._tick_seconds, self._on_tick)

    def _on_tick(self) -> None:
        """Close the connections of responses whose deadline has passed."""
        for response in self._responses:
            response.ticks += 1
            if response.ticks > response.last_tick:
                self._close(response.connection)
        if self._responses:
            self._schedule_tick()
        else:
            self._ticking = False


class StreamWindow:
    """Back-pressure for a stream of events: it waits while its client has not read what was sent before."""

    def __init__(self, progress: AcknowledgedBytes, close: Callable[[], None]) -> None:
        self._progress = progress
        self._close = close
        self._sent = 0
        self._unread = 0
        self._acknowledged: int | None = None

    def add(self, size: int) -> None:
        """Count a piece that was sent."""
        self._sent += size
        self._unread += size

    async def room(self) -> None:
        """Return when more may be sent. Raises ClientGone, and closes the connection, if its client stops reading."""
        if self._acknowledged is None:
            # Most streams are short: their connections need not be found.
            if self._sent >= _FREE_BYTES:
                # In a thread, because it looks through all open files.
                self._acknowledged = await asyncio.to_thread(self._progress.count)
                self._unread = 0
            return
        if self._unread <= _WINDOW_BYTES:
            return
        now = asyncio.get_running_loop().time
        read_at = now()
        while True:
            if self._read():
                read_at = now()
            if self._unread <= _WINDOW_BYTES:
                return
            if now() - read_at > READ_SECONDS:
                self._close()
                raise ClientGone
            await asyncio.sleep(_PROGRESS_SECONDS)

    def _read(self) -> int:
        """Return how much the client has read since the last call, and count it."""
        acknowledged = self._progress.count()
        if acknowledged is None or self._acknowledged is None:
            # The connection is closed: sending raises.
            self._unread = 0
            return 0
        read = acknowledged - self._acknowledged
        self._acknowledged = acknowledged
        self._unread = max(0, self._unread - read)
        return read
