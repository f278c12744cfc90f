"""Unread responses: the ledger reserves their memory, and a deadline limits their time.

The HTTP server accepts a response at once, however slowly its client reads, and holds it in memory. For a streamed
response, the server reports when it has sent the last byte or the connection has ended. So all but small responses are
streamed, and counted until then. The connection of a client that reads too slowly is closed.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Final

from granian._granian import RSGIProtocolClosed as ProtocolClosed

from discue.http.rsgi import ClientGone, HttpProtocol
from discue.http.sockets import AcknowledgedBytes, ClientConnection, close_connections
from discue.store.ledger import Ledger, Reservation
from discue.store.time_slice import TimeSlice

SMALL_BYTES: Final = 4_096
"""Responses up to this size are not counted. The server's own state of a request takes as much memory."""

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

    __slots__ = ("connection", "last_tick", "reservation", "ticks")

    def __init__(self, connection: ClientConnection, reservation: Reservation, size: int) -> None:
        self.connection = connection
        self.reservation = reservation
        self.last_tick = round((READ_SECONDS + size / READ_BYTES_PER_SECOND) / _TICK_SECONDS)
        self.ticks = 0
        """Ticks for which it is unread."""


class UnreadResponses:
    """Sends the larger responses of a worker, whose memory the ledger counts.

    One timer serves all deadlines; it runs only while there are deadlines.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        tick_seconds: float = _TICK_SECONDS,
        close: Callable[[Collection[ClientConnection]], None] = close_connections,
    ) -> None:
        self._ledger = ledger
        self._tick_seconds = tick_seconds
        self._close_now = close
        self._responses: dict[UnreadResponse, None] = {}
        """The oldest first."""
        self._closing: set[ClientConnection] = set()
        self._closer: asyncio.Task[None] | None = None
        self._ticking = False

    async def start(
        self,
        exchange: HttpProtocol,
        connection: ClientConnection,
        status: int,
        *,
        headers: list[tuple[str, str]],
        content: bytes,
        reservation: Reservation,
    ) -> UnreadResponse:
        """Hand a response over to the server. Its reservation is released when the client has read it."""
        size = len(content)
        response = UnreadResponse(connection, reservation, size)
        self._responses[response] = None
        if not self._ticking:
            self._schedule_tick()
        headers.append(("content-length", str(size)))
        time_slice = TimeSlice()
        # A client that is gone has read all it wants.
        with suppress(ProtocolClosed):
            stream = exchange.response_stream(status, headers)
            for start in range(0, size, _PIECE_BYTES):
                await stream.send_bytes(content[start : start + _PIECE_BYTES])
                await time_slice.pause_if_over()
        return response

    async def until_read(self, exchange: HttpProtocol, response: UnreadResponse) -> None:
        """Return when the client has read the response, or its connection has ended."""
        try:
            await exchange.client_disconnect()
        finally:
            del self._responses[response]
            response.reservation.release()

    def window(self, connection: ClientConnection, reservation: Reservation) -> "StreamWindow":
        """Return the window of a stream: it counts the unread bytes of the client, and makes the stream wait."""
        return StreamWindow(AcknowledgedBytes(connection), partial(self._close, connection), reservation)

    def _make_room(self) -> None:
        """Close the connection with the oldest response of each organization whose reservation finds no room.

        For an organization without unread responses, the oldest response of all organizations is chosen: a client that
        reads has read it long before.
        """
        old = [each for each in self._responses if each.ticks > _SPARED_TICKS and each.connection not in self._closing]
        for organization in self._ledger.take_pressed():
            own = (each for each in old if each.reservation.organization == organization)
            response = next(own, old[0] if old else None)
            if response is not None:
                old.remove(response)
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
        self._make_room()
        if self._responses:
            self._schedule_tick()
        else:
            self._ticking = False


class StreamWindow:
    """Back-pressure for a stream of events: it waits while its client has not read what was sent before."""

    def __init__(self, progress: AcknowledgedBytes, close: Callable[[], None], reservation: Reservation) -> None:
        self._progress = progress
        self._close = close
        self._reservation = reservation
        self._sent = 0
        self._unread = 0
        self._acknowledged: int | None = None

    def add(self, size: int) -> None:
        """Count a piece that was sent."""
        self._sent += size
        self._count(self._unread + size)

    async def room(self) -> None:
        """Return when more may be sent. Raises ClientGone, and closes the connection, if its client stops reading."""
        if self._acknowledged is None:
            # Most streams are short: their connections need not be found.
            if self._sent >= _FREE_BYTES:
                # In a thread, because it looks through all open files.
                self._acknowledged = await asyncio.to_thread(self._progress.count)
                self._count(0)
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
            self._count(0)
            return 0
        read = acknowledged - self._acknowledged
        self._acknowledged = acknowledged
        self._count(max(0, self._unread - read))
        return read

    def _count(self, unread: int) -> None:
        self._unread = unread
        self._reservation.keep(unread)
