"""Responses that clients have not read are counted, wait for nobody, and end with their connections."""

import asyncio
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pytest

from discue.domain.reservations import ReadBound
from discue.http.rsgi import AcknowledgedBytes, ClientConnection, ClientGone, close_connections, descriptors
from discue.http.unread import READ_SECONDS, StreamProgress, StreamWindow, UnreadResponse, UnreadResponses
from discue.store.ledger import Ledger

MAX_BYTES = 1_000_000
OURS, THEIRS = 1, 2
TICK_SECONDS = 0.001
STALLED_SECONDS = 0.3
"""Several times as long as a stream waits before it looks again."""
WINDOW_BYTES, PART_BYTES = 1_048_576, 65_536


class Exchange:
    """A request whose client reads its response when the test says so."""

    def __init__(self) -> None:
        self.content = b""
        self.headers: list[tuple[str, str]] = []
        self.read = asyncio.Event()

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> "Exchange":
        self.headers = headers
        return self

    async def send_bytes(self, data: bytes) -> None:
        self.content += data

    async def client_disconnect(self) -> None:
        await self.read.wait()


class Unread:
    """Responses of a server with clients that are numbered."""

    def __init__(self) -> None:
        self.closed: list[ClientConnection] = []
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.ledger = Ledger(max_bytes=MAX_BYTES)
        self.responses = UnreadResponses(self.ledger, tick_seconds=TICK_SECONDS, close=self._close)
        self._exchanges: list[tuple[ClientConnection, Exchange]] = []
        self._reading: list[asyncio.Task[None]] = []

    async def send(self, number: int, size: int, organization: int = OURS) -> Exchange:
        exchange, connection = Exchange(), client(number)
        reservation = self.ledger.hold(organization, size)
        # The parts of the protocol that are used.
        response = await self.responses.start(
            exchange,  # type: ignore[arg-type]
            connection,
            200,
            headers=[],
            content=b"x" * size,
            reservation=reservation,
        )
        self._exchanges.append((connection, exchange))
        self._reading.append(asyncio.create_task(self._until_read(exchange, response)))
        return exchange

    async def tick(self) -> None:
        await asyncio.sleep(TICK_SECONDS)

    async def ended(self) -> None:
        await asyncio.gather(*self._reading)

    async def _until_read(self, exchange: Exchange, response: UnreadResponse) -> None:
        await self.responses.until_read(exchange, response)  # type: ignore[arg-type]

    def _close(self, connections: Collection[ClientConnection]) -> None:
        self._loop.call_soon_threadsafe(self._closed, connections)

    def _closed(self, connections: Collection[ClientConnection]) -> None:
        self.closed += sorted(connections)
        for connection, exchange in self._exchanges:
            if connection in connections:
                exchange.read.set()
        self.changed.set()


def client(number: int) -> ClientConnection:
    return ClientConnection(3_000, f"192.0.2.1:{number}")


async def test_response_is_sent_whole_and_released_when_it_is_read() -> None:
    unread = Unread()
    exchange = await unread.send(1, MAX_BYTES)
    assert exchange.content == b"x" * MAX_BYTES
    assert exchange.headers == [("content-length", str(MAX_BYTES))]
    assert unread.ledger.held == MAX_BYTES
    exchange.read.set()
    await unread.ended()
    assert unread.ledger.held == 0
    assert not unread.closed


async def test_response_that_is_not_read_in_time_ends_with_its_connection() -> None:
    unread = Unread()
    await unread.send(1, 10_000)
    began_at = asyncio.get_running_loop().time()
    await unread.changed.wait()
    assert unread.closed == [client(1)]
    assert asyncio.get_running_loop().time() - began_at >= READ_SECONDS * TICK_SECONDS
    await unread.ended()
    assert unread.ledger.held == 0


@pytest.mark.parametrize("waiting", [OURS, THEIRS])
async def test_oldest_response_makes_room_for_a_reservation(waiting: int) -> None:
    unread = Unread()
    for number in range(4):
        await unread.send(number, MAX_BYTES // 4)
    # It waits at first, because the other clients may be reading.
    with await unread.ledger.reserve(waiting, ReadBound(0, MAX_BYTES // 8)):
        assert unread.closed[0] == client(0)


async def test_organization_makes_room_for_itself_first() -> None:
    unread = Unread()
    await unread.send(1, MAX_BYTES // 2, THEIRS)
    await unread.send(2, MAX_BYTES // 2)
    with await unread.ledger.reserve(OURS, ReadBound(0, MAX_BYTES // 4)):
        assert unread.closed == [client(2)]


async def test_connection_is_not_closed_while_there_is_room() -> None:
    unread = Unread()
    await unread.send(1, MAX_BYTES // 4)
    for _ in range(20):
        await unread.tick()
    assert not unread.closed


class Stalled(AcknowledgedBytes):
    """The progress of a client that acknowledges what the test says: nothing at first."""

    acknowledged = 0

    def count(self) -> int:
        return self.acknowledged


def stall(window: StreamWindow) -> Stalled:
    """Let the client of a stream read nothing."""
    window._progress.system = system = Stalled(window.connection)
    return system


class Written:
    """A response that the server writes at once, and holds until the system takes it."""

    def __init__(self, server: asyncio.StreamWriter) -> None:
        self._server = server

    async def send_bytes(self, data: bytes) -> None:
        self._server.write(data)


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket, ClientConnection]]:
    """A client's socket, the server's, and the connection between them."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, (host, port) = listening.accept()
        with ours, theirs:
            yield ours, theirs, ClientConnection(listening.getsockname()[1], f"{host}:{port}")


def test_connection_is_closed_by_its_name() -> None:
    with connected() as (ours, theirs, connection), connected() as (other, others_end, _):
        before = descriptors()
        close_connections({connection, ClientConnection(1, "192.0.2.1:1")})
        # With the end of the server's own descriptor it is reset; until then nothing more comes.
        assert ours.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            theirs.send(b"x")
        others_end.sendall(b"x")
        assert other.recv(1) == b"x"
        assert descriptors() == before


def test_progress_is_what_the_client_has_acknowledged() -> None:
    with connected() as (ours, theirs, connection):
        progress = AcknowledgedBytes(connection)
        assert progress.count() == 0
        theirs.sendall(b"x" * 1_000)
        received = b""
        while len(received) < 1_000:
            received += ours.recv(1_000)
        while progress.count() != 1_000:
            pass
    assert progress.count() is None


async def test_stream_waits_until_its_client_reads() -> None:
    ledger, piece = Ledger(), b"x" * 8_000_000
    with connected() as (ours, theirs, connection):
        _, server = await asyncio.open_connection(sock=theirs)
        responses = UnreadResponses(ledger)
        with responses.window(connection, OURS) as window:
            sending = asyncio.create_task(window.send(Written(server), piece))
            ended, _ = await asyncio.wait({sending}, timeout=STALLED_SECONDS)
            assert not ended
            # The server and the system hold the unread bytes. The ledger also counts the rest of the piece.
            assert window.unread <= WINDOW_BYTES + PART_BYTES
            assert len(piece) - ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= ledger.held <= len(piece)
            received = 0
            while received < len(piece):
                received += len(await asyncio.to_thread(ours.recv, 1_000_000))
            await sending
            await window.finish()
            assert ledger.held == 0
        server.transport.abort()


async def test_first_pieces_of_a_stream_are_counted() -> None:
    ledger = Ledger()
    with UnreadResponses(ledger).window(client(1), OURS) as window:
        stall(window)
        for _ in range(4):
            await window.send(Exchange(), b"x" * 20_000)
        assert window.unread == ledger.held == 80_000
    assert ledger.held == 0


async def test_acknowledged_byte_counts_for_one_stream_and_not_for_other_responses() -> None:
    unread = Unread()
    with unread.responses.window(client(1), OURS) as first, unread.responses.window(client(1), OURS) as second:
        system = stall(first)
        for window in (first, second):
            await window.send(Exchange(), b"x" * 100_000)
        await unread.send(1, 200_000)
        system.acknowledged = 200_000
        for window in (first, second):
            window.check()
        assert (first.unread, second.unread) == (100_000, 100_000)
        system.acknowledged = 350_000
        for window in (first, second):
            window.check()
        assert (first.unread, second.unread) == (0, 50_000)
        system.acknowledged = 400_000
        second.check()
        assert second.unread == 0


async def test_client_that_stops_reading_a_stream_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discue.http.unread.READ_SECONDS", 0.01)
    closed: list[bool] = []
    window = StreamWindow(StreamProgress(Stalled(client(1))), lambda: closed.append(True), Ledger().hold(OURS, 0))
    with pytest.raises(ClientGone):
        await window.send(Exchange(), b"x" * 3_000_000)
    assert closed == [True]
    with pytest.raises(ClientGone):
        await window.finish()


async def test_unread_stream_makes_room_for_its_organization() -> None:
    unread = Unread()
    await unread.send(1, MAX_BYTES // 4, THEIRS)
    with unread.responses.window(client(2), OURS) as window:
        stall(window)
        await window.send(Exchange(), b"x" * (MAX_BYTES // 2))
        waiting = asyncio.create_task(unread.ledger.reserve(OURS, ReadBound(0, MAX_BYTES // 4)))
        await unread.changed.wait()
    assert unread.closed == [client(2)]
    (await waiting).release()


async def test_stream_whose_client_has_read_everything_stays_open_and_holds_nothing() -> None:
    unread = Unread()
    with unread.responses.window(client(1), OURS) as window:
        progress = stall(window)
        await window.send(Exchange(), b"x" * (MAX_BYTES // 2))
        assert unread.ledger.reserve_now(OURS, 1) is None
        progress.acknowledged = MAX_BYTES
        with await unread.ledger.reserve(OURS, ReadBound(0, MAX_BYTES // 2)):
            assert window.unread == 0
    assert not unread.closed


async def test_organization_short_of_its_own_memory_closes_no_response_of_others() -> None:
    unread = Unread()
    await unread.send(1, MAX_BYTES // 4, THEIRS)
    ours = unread.ledger.hold(OURS, MAX_BYTES // 2)
    waiting = asyncio.create_task(unread.ledger.reserve(OURS, ReadBound(0, MAX_BYTES // 4)))
    for _ in range(20):
        await unread.tick()
    assert not waiting.done()
    assert not unread.closed
    ours.release()
    (await waiting).release()
