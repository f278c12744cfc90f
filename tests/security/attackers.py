"""Attacking clients. They use little time of this process, because its other threads measure."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from itertools import count, cycle

_LITTLE_BYTES = 4_096
_PIECE_BYTES = 1 << 20
_PATIENCE_SECONDS = 5


class Attacker:
    """A client with a key. It neither decodes nor keeps the responses."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key

    def request(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {self._key}\r\n\r\n".encode()

    def connected(self, received_bytes: int | None = None) -> socket.socket:
        """Connect, with a receive buffer of this many bytes."""
        connection = socket.socket()
        connection.settimeout(_PATIENCE_SECONDS)
        if received_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received_bytes)
        connection.connect(("127.0.0.1", self._port))
        return connection

    def leave_unread(self, path: str, per_second: int, seconds: float) -> None:
        """Send requests, each on a connection of its own, and read no response. The server may close them."""
        with ExitStack() as connections:
            for _ in paced(per_second, seconds):
                connection = connections.enter_context(closing(self.connected(_LITTLE_BYTES)))
                with suppress(ConnectionError):
                    connection.sendall(self.request(path))

    def repeat(self, paths: Sequence[str], clients: int, seconds: float) -> list[int]:
        """Let several clients send requests in sequence. Returns the statuses, 0 for a request without a response."""
        ends_at = time.monotonic() + seconds

        def attack(number: int) -> list[int]:
            statuses: list[int] = []
            first = number % len(paths)
            turn, buffer = cycle([*paths[first:], *paths[:first]]), bytearray(_PIECE_BYTES)
            while time.monotonic() < ends_at:
                try:
                    with closing(self.connected()) as connection:
                        while time.monotonic() < ends_at:
                            connection.sendall(self.request(next(turn)))
                            statuses.append(_discard_response(connection, buffer))
                except (ConnectionError, TimeoutError):
                    statuses.append(0)
            return statuses

        with ThreadPoolExecutor(clients) as threads:
            return [status for each in threads.map(attack, range(clients)) for status in each]


def _discard_response(connection: socket.socket, buffer: bytearray) -> int:
    """Receive a response and return its status."""
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv_into(buffer)
        if not received:
            raise ConnectionResetError
        head += buffer[:received]
    head, _, rest = head.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    left = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")) - len(rest)
    while left > 0:
        received = connection.recv_into(buffer)
        if not received:
            raise ConnectionResetError
        left -= received
    return int(lines[0].split()[1])


def paced(per_second: float, seconds: float) -> Iterator[int]:
    """Yield numbers at a rate until the time is over. Late numbers come at once."""
    began_at, never = time.monotonic(), threading.Event()
    for number in count():
        wait_seconds = began_at + number / per_second - time.monotonic()
        if max(number / per_second, time.monotonic() - began_at) >= seconds:
            return
        never.wait(max(0.0, wait_seconds))
        yield number


def timed(work: Callable[[], object]) -> float:
    """Return how long it took, in seconds."""
    began_at = time.perf_counter()
    work()
    return time.perf_counter() - began_at
