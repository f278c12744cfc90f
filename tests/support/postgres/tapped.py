"""A proxy that reads what clients tell a PostgreSQL server, and can fall silent between two messages."""

import asyncio
import struct
from collections.abc import Callable, Iterator

from tests.support.postgres.proxy import Proxy

PARSE, FLUSH, EXECUTE, SYNC, QUERY = b"P", b"H", b"E", b"S", b"Q"

_PIECE_BYTES = 64 << 10
_TLS_REQUEST = 80_877_103
_WRITING = b"BEGIN\0"
_ENDS = (b"COMMIT\0", b"ROLLBACK\0")


class Talk:
    """The messages of a client on one connection so far."""

    def __init__(self) -> None:
        self.executed = -1
        """How many statements a transaction that writes has run so far; -1 outside of one."""
        self._buffer = b""
        self._is_greeted = False

    def hear(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield each whole message as its kind and all of its bytes."""
        self._buffer += piece
        while (end := self._end()) is not None:
            message, self._buffer = self._buffer[:end], self._buffer[end:]
            if self._is_greeted:
                kind, body = message[:1], message[5:]
                self._follow(kind, body)
                yield kind, message
            else:
                self._is_greeted = struct.unpack_from("!i", message, 4)[0] != _TLS_REQUEST
                yield b"", message

    def _end(self) -> int | None:
        start = 1 if self._is_greeted else 0
        if len(self._buffer) < start + 4:
            return None
        end: int = start + struct.unpack_from("!i", self._buffer, start)[0]
        return end if len(self._buffer) >= end else None

    def _follow(self, kind: bytes, body: bytes) -> None:
        if kind == QUERY:
            if body == _WRITING:
                self.executed = 0
            elif body in _ENDS:
                self.executed = -1
        elif kind == EXECUTE and self.executed >= 0:
            self.executed += 1


class TappedProxy(Proxy):
    """Freezes by itself right after a message of a client, if `stops_after` says so. Nothing else is lost."""

    def __init__(self, target_host: str, target_port: int) -> None:
        super().__init__(target_host, target_port)
        self.stops_after: Callable[[Talk, bytes], bool] | None = None
        """Called for each message with the kind, e.g. `PARSE`. When it returns True once, it is called no more."""
        self.stopped = asyncio.Event()

    async def _pump_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk()
        while piece := await reader.read(_PIECE_BYTES):
            passed = b""
            for kind, message in talk.hear(piece):
                passed += message
                if self.stops_after is not None and self.stops_after(talk, kind):
                    self.stops_after = None
                    await self._pass_request(passed, writer)
                    passed = b""
                    self.freeze()
                    self.stopped.set()
            if passed:
                await self._pass_request(passed, writer)
        await self._flowing.wait()
        writer.write_eof()


def between_prepare_and_execute(_talk: Talk, kind: bytes) -> bool:
    """Stop when the server has prepared a statement and waits for its execution."""
    return kind == FLUSH


def with_locks(talk: Talk, kind: bytes) -> bool:
    """Stop within a transaction that has run some statements: between prepare and execute if there is such a moment."""
    return talk.executed >= 1 and (kind == FLUSH or (kind == SYNC and talk.executed >= 2))
