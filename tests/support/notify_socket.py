"""The socket on which a service manager receives notifications, as systemd has one."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE_SECONDS = 30.0


class NotifySocket:
    """Received notifications, and the variables that lead a service to the socket."""

    def __init__(self, path: Path, watchdog_seconds: float) -> None:
        self.received: list[str] = []
        self.variables = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(round(watchdog_seconds * 1_000_000))}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(_PATIENCE_SECONDS)
        self.socket.bind(str(path))

    def wait_for(self, text: str) -> str:
        """Return the next notification that contains the text."""
        while True:
            self.received.append(self.socket.recv(65_536).decode())
            if text in self.received[-1]:
                return self.received[-1]


@contextmanager
def notify_socket(folder: Path, watchdog_seconds: float) -> Iterator[NotifySocket]:
    manager = NotifySocket(folder / "notify", watchdog_seconds)
    with manager.socket:
        yield manager
