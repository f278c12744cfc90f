"""Notifications between the worker processes of one parent, which share a SQLite file: datagrams over Unix sockets."""

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec

from discue.store.engine import Notification
from discue.store.notifications import WaitingNotifications

_PAUSE_SECONDS: Final = 0.002
"""Notifications that are added meanwhile share the next datagrams: each datagram wakes up another worker."""
_FULL_SECONDS: Final = 0.1
"""The pause before a full socket is tried again, unless there is something to send to the others."""
# Some systems limit a datagram to 2,048 bytes. A head takes up to 30 bytes.
_HEADS_PER_DATAGRAM: Final = 64
_DATAGRAM_BYTES: Final = 2_048
_RECEIVED_AT_ONCE: Final = 16
_FULL: Final = frozenset({errno.EAGAIN, errno.ENOBUFS})


class SiblingNotifier(Protocol):
    """Notifies the other workers on the same file, like `engine.Engine`. Closing sends pending notifications."""

    def notify(self, hint: Notification) -> None: ...

    def listen(self, on_notify: Callable[[Notification], None]) -> None: ...

    def close(self) -> None: ...


class SiblingSockets:
    """A `SiblingNotifier`. Each worker has a socket, in a folder that only they may use."""

    def __init__(self, folder: Path, number: int, count: int) -> None:
        """`number` is the number of this worker, from 1 to `count`."""
        paths = [folder / f"notify-{each}" for each in range(1, count + 1)]
        self._path = paths.pop(number - 1)
        self._others = [str(path) for path in paths]
        self._behind: set[str] = set()
        """Sockets that were full at the last notifications. They get an unspecific one instead."""
        self._waiting = WaitingNotifications(_HEADS_PER_DATAGRAM)
        self._sending: asyncio.Handle | None = None
        self._is_only_behind = False
        """Whether full sockets are the only reason for the next send."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def notify(self, hint: Notification) -> None:
        self._waiting.add(hint)
        if self._is_only_behind and self._sending is not None:
            self._sending.cancel()
            self._is_only_behind, self._sending = False, None
        if self._sending is None:
            self._sending = asyncio.get_running_loop().call_soon(self._send)

    def listen(self, on_notify: Callable[[Notification], None]) -> None:
        # The socket of a worker that was killed is still there.
        self._path.unlink(missing_ok=True)
        self._socket.bind(str(self._path))
        asyncio.get_running_loop().add_reader(self._socket, self._receive, on_notify)

    def close(self) -> None:
        self._send()
        self._others.clear()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _receive(self, on_notify: Callable[[Notification], None]) -> None:
        with suppress(BlockingIOError):
            for _ in range(_RECEIVED_AT_ONCE):
                on_notify(msgspec.msgpack.decode(self._socket.recv(_DATAGRAM_BYTES), type=Notification))

    def _send(self) -> None:
        """Send pending notifications. Repeats after a pause while any are pending."""
        waiting, behind = self._waiting.take(), self._behind
        self._is_only_behind = False
        if not waiting and not behind:
            self._sending = None
            return
        self._behind = set()
        for path in self._others:
            try:
                for each in [Notification(anything=True)] if path in behind else waiting:
                    self._socket.sendto(msgspec.msgpack.encode(each), path)
            except (FileNotFoundError, ConnectionRefusedError):
                # This worker does not run. When it starts, it reads everything.
                continue
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._behind.add(path)
        self._is_only_behind = not waiting
        pause = _PAUSE_SECONDS if waiting else _FULL_SECONDS
        self._sending = asyncio.get_running_loop().call_later(pause, self._send)
