"""Unread responses: the ledger reserves their memory, and a deadline limits their time.

The HTTP server accepts a response at once, however slowly its client reads, and holds it in memory. For a streamed
response, the server reports when it has sent the last byte or the connection has ended. So all but small responses are
streamed, and counted until then. The connection of a client that reads too slowly is closed.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from discue.http.rsgi import (
    AcknowledgedBytes,
    ClientConnection,
    ClientGone,
    HttpProtocol,
    ResponseStream,
    close_connections,
)
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

_PART_BYTES: Final = 65_536

_UNCHECKED_BYTES: Final = 262_144
"""A stream with at most this many unread bytes does not ask the system before each part."""

_PROGRESS_SECONDS: Final = 0.05


@dataclass(slots=True, eq=False)
class UnreadResponse:
    """A response that its client has not read yet."""

    connection: ClientConnection
    reservation: Reservation
    last_tick: int
    ticks: int = 0


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
        self._streams: dict[StreamWindow, None] = {}
        self._progress: WeakValueDictionary[ClientConnection, StreamProgress] = WeakValueDictionary()
        self._making_room: asyncio.Task[None] | None = None
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
        last_tick = round((READ_SECONDS + size / READ_BYTES_PER_SECOND) / _TICK_SECONDS)
        response = UnreadResponse(connection, reservation, last_tick)
        self._responses[response] = None
        if (progress := self._progress.get(connection)) is not None:
            # Bytes of another response are not read bytes of the streams.
            progress.credit -= size
        self._start_ticking()
        headers.append(("content-length", str(size)))
        time_slice = TimeSlice()
        # A client that is gone has read all it wants.
        with suppress(ClientGone):
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

    @contextmanager
    def window(self, connection: ClientConnection, organization: int) -> "Iterator[StreamWindow]":
        """Send a stream through a window, whose memory the ledger counts for the duration of the block."""
        with self._ledger.hold(organization, 0) as reservation:
            progress = self._progress.get(connection) or StreamProgress(AcknowledgedBytes(connection))
            self._progress[connection] = progress
            window = StreamWindow(progress, partial(self._close, connection), reservation)
            self._streams[window] = None
            self._start_ticking()
            try:
                yield window
            finally:
                del self._streams[window]
                progress.unread -= window.unread

    async def _make_room(self, pressed: Mapping[int, bool]) -> None:
        """Close the connection with the oldest unread response of each organization that finds no room.

        For an organization without unread responses, the oldest one of all organizations is chosen, but only if the
        others hold too much: a client that reads has read it long before.
        """
        time_slice = TimeSlice()
        for stream in tuple(self._streams):
            # A stream that sends nothing does not notice that its client has read everything.
            if stream.unread:
                stream.check()
                await time_slice.pause_if_over()
        unread: tuple[UnreadResponse | StreamWindow, ...] = (*self._responses, *self._streams)
        old = [each for each in unread if each.ticks > _SPARED_TICKS and each.connection not in self._closing]
        old.sort(key=lambda each: -each.ticks)
        for organization, by_others in pressed.items():
            own = (each for each in old if each.reservation.organization == organization)
            response = next(own, old[0] if old and by_others else None)
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

    def _start_ticking(self) -> None:
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(self._tick_seconds, self._on_tick)

    def _on_tick(self) -> None:
        """Close the connections of responses whose deadline has passed, and make room."""
        for response in self._responses:
            response.ticks += 1
            if response.ticks > response.last_tick:
                self._close(response.connection)
        for stream in self._streams:
            stream.ticks += bool(stream.unread)
        if (self._making_room is None or self._making_room.done()) and (pressed := self._ledger.take_pressed()):
            self._making_room = asyncio.get_running_loop().create_task(self._make_room(pressed))
        self._ticking = False
        if self._responses or self._streams:
            self._start_ticking()


@dataclass(slots=True, eq=False, weakref_slot=True)
class StreamProgress:
    """Divides the bytes that a client acknowledges among the streams of its connection.

    Over HTTP/2, nothing tells which response they belong to. Each counts once, for the first stream that asks, and not
    for other responses: else a client that reads one response would seem to read all streams.
    """

    system: AcknowledgedBytes
    _last: int | None = None
    """The acknowledged bytes at the last look. None before the first, and if the system does not count them."""
    credit: int = 0
    """The acknowledged bytes that no stream has taken. Negative while another response is unread."""
    unread: int = 0
    """The unread bytes of all streams of the connection."""

    async def begin(self) -> bool:
        """Begin to count. Returns False if the system does not count acknowledged bytes."""
        if self._last is None:
            # In a thread, because it looks through all open files.
            self._last = await asyncio.to_thread(self.system.count)
        return self._last is not None

    def take(self, most: int) -> int:
        """Return how many of a stream's unread bytes the client has read; all if the connection is closed."""
        acknowledged, taken = self.system.count(), most
        if acknowledged is not None and self._last is not None:
            self.credit = min(self.unread, self.credit + acknowledged - self._last)
            self._last = acknowledged
            taken = max(0, min(most, self.credit))
            self.credit -= taken
        self.unread -= taken
        return taken


@dataclass(slots=True, eq=False)
class StreamWindow:
    """Back-pressure for a stream of events: it waits while its client has not read what was sent before.

    The reservation holds what the client has not read, and what is left to send of a piece.
    """

    _progress: StreamProgress
    _close: Callable[[], None]
    reservation: Reservation
    _is_counted: bool = False
    _skipped: int = 0
    """The bytes sent until the count began, with the piece before which it began."""
    _sent: int = 0
    """The bytes sent since the count began."""
    _read: int = 0
    """How many of them the client has read."""
    _left: int = 0
    """The bytes of the current piece that are not sent yet."""
    _marked: int = 0
    ticks: int = 0
    """Ticks for which the first `_marked` of the sent bytes are not all read."""

    @property
    def connection(self) -> ClientConnection:
        return self._progress.system.connection

    @property
    def unread(self) -> int:
        """The bytes that were sent and that the client has not read, as of the last check."""
        return self._sent - self._read

    async def send(self, response: ResponseStream, piece: bytes) -> None:
        """Send a piece in parts, as fast as the client reads.

        Raises ClientGone, and closes the connection, if the client stops reading.
        """
        size = self._left = len(piece)
        self.reservation.keep(self.unread + self._left)
        if self._skipped <= SMALL_BYTES:
            # The connections of streams that send little need not be found.
            if self._skipped + size > SMALL_BYTES:
                self._is_counted = await self._progress.begin()
            self._skipped += size
        time_slice = TimeSlice()
        for start in range(0, size, _PART_BYTES):
            if self.unread > _UNCHECKED_BYTES:
                self.check()
                await self._until_read(_WINDOW_BYTES)
            part = piece[start : start + _PART_BYTES]
            await response.send_bytes(part)
            self._left -= len(part)
            if self._is_counted:
                self._sent += len(part)
                self._progress.unread += len(part)
            self.reservation.keep(self.unread + self._left)
            await time_slice.pause_if_over()

    async def finish(self) -> None:
        """Return when the client has read everything. Raises like `send`."""
        if self.unread:
            self.check()
            await self._until_read(0)

    async def _until_read(self, most: int) -> None:
        """Return when at most this many bytes are unread."""
        now = asyncio.get_running_loop().time
        read_at, read = now(), self._read
        while self.unread > most:
            if now() - read_at > READ_SECONDS:
                self._close()
                raise ClientGone
            await asyncio.sleep(_PROGRESS_SECONDS)
            self.check()
            if self._read > read:
                read_at, read = now(), self._read

    def check(self) -> None:
        """Count what the client has read until now."""
        # If the connection is closed, sending raises.
        self._read += self._progress.take(self.unread)
        if self._read >= self._marked:
            self._marked, self.ticks = self._sent, 0
        self.reservation.keep(self.unread + self._left)
