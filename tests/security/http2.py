"""Connections of HTTP/2 whose client gives the server no room for what it asks for."""

import socket
import struct
from collections.abc import Sequence

from hpack import Encoder

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _SETTINGS, _WINDOW_UPDATE = 1, 4, 8
_END_STREAM_AND_HEADERS = 5
_INITIAL_WINDOW_SIZE = 4


def greeting(window: int) -> bytes:
    """The beginning of a connection, which allows the server so many bytes of each response."""
    return _PREFACE + _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, window))


def gets(path: str, numbers: Sequence[int], headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """Requests of a path, one on each stream."""
    encoder = Encoder()
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "127.0.0.1"), (":path", path), *headers]
    return b"".join(
        _frame(_HEADERS, _END_STREAM_AND_HEADERS, number * 2 + 1, encoder.encode(fields)) for number in numbers
    )


def connection_window(size: int) -> bytes:
    """Allows the server so many bytes more on the connection."""
    return _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", size))


def answers(connection: socket.socket, count: int) -> int:
    """Read until so many requests have a response, and return how many have; fewer if the server closes."""
    received, answered = b"", 0
    while answered < count:
        while len(received) < 9 or len(received) < 9 + int.from_bytes(received[:3], "big"):
            try:
                more = connection.recv(65_536)
            except ConnectionError:
                return answered
            if not more:
                return answered
            received += more
        answered += received[3] == _HEADERS
        received = received[9 + int.from_bytes(received[:3], "big") :]
    return answered


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content
