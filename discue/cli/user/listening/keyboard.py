"""Keys of `discue listen` on a terminal: select a request, look at it, send it again, edit it."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
import tempfile
import termios
import tty
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from discue.cli.output import BOLD, coloured, printable
from discue.cli.user.listening.attempts import line_of
from discue.cli.user.listening.forwarding import Forwarded, Forwarder, Stopped
from discue.cli.user.listening.screen import Screen

_KEPT: Final = 200
_BODY_SHOWN: Final = 10_000
_READ: Final = 1_024
_KEY: Final = re.compile(rb"\x1b(?:\[[0-9;]*[@-~]|O[@-~])?|.", re.DOTALL)
_HELP: Final = "↑ ↓ select, Enter show, r send again, e edit and send, q quit"
_UP: Final = frozenset({b"\x1b[A", b"\x1bOA", b"k"})
_DOWN: Final = frozenset({b"\x1b[B", b"\x1bOB", b"j"})
_ENTER: Final = frozenset({b"\r", b"\n"})


def has_keyboard(output: str) -> bool:
    """Return whether a user at a terminal can press keys and sees their effect."""
    return output == "lines" and sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()


class Keyboard:
    """Acts on keys. Requests that are sent again change nothing about the acknowledgement of their message."""

    def __init__(self, screen: Screen, forwarder: Forwarder, stop: Callable[[], None]) -> None:
        self._screen = screen
        self._forwarder = forwarder
        self._stop = stop
        self._requests: deque[Forwarded] = deque(maxlen=_KEPT)
        self._back = 0
        """How many requests the selected one is before the newest."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._modes = termios.tcgetattr(sys.stdin.fileno())

    def add(self, forwarded: Forwarded) -> None:
        """Keep a request, so that it can be selected."""
        self._requests.append(forwarded)
        if self._back:
            # The selection stays on its request.
            self._back = min(self._back + 1, len(self._requests) - 1)
        self._show_status()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read keys, one at a time and without showing them. The modes of the terminal come back at the end."""
        self._start()
        self._show_status()
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            self._end()
            self._screen.end()

    def _start(self) -> None:
        tty.setcbreak(sys.stdin.fileno())
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._modes)

    def _read(self) -> None:
        content = os.read(sys.stdin.fileno(), _READ)
        if not content:
            # The terminal is gone.
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        for key in keys_in(content):
            self._act(key)

    def _act(self, key: bytes) -> None:
        if key == b"q":
            self._stop()
        elif key == b"?" or not self._requests:
            self._screen.note(_HELP)
        elif key in _UP:
            self._select(self._back + 1)
        elif key in _DOWN:
            self._select(self._back - 1)
        elif key in _ENTER:
            self._screen.line(details_of(self._selected))
        elif key in (b"r", b"e"):
            self._spawn(self._edited(self._selected) if key == b"e" else self._again(self._selected))

    @property
    def _selected(self) -> Forwarded:
        return self._requests[-1 - self._back]

    def _select(self, back: int) -> None:
        self._back = max(0, min(back, len(self._requests) - 1))
        self._show_status()
        self._screen.line(f"▸ {line_of(self._selected)}")

    def _show_status(self) -> None:
        selected = f"{self._selected.message.id} selected. " if self._requests else ""
        self._screen.status(f"{selected}{_HELP}")

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _again(self, forwarded: Forwarded) -> None:
        try:
            await self._forwarder.forward(forwarded.source, forwarded.message, is_repeated=True)
        except Stopped:
            return

    async def _edited(self, forwarded: Forwarded) -> None:
        """Let the editor change the body, and send it under the same id."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "body.json"
            path.write_bytes(_indented(forwarded.message.body))
            if await self._edit(path):
                body = path.read_bytes().rstrip(b"\n")
                await self._again(forwarded._replace(message=forwarded.message._replace(body=body)))

    async def _edit(self, path: Path) -> bool:
        """Run the editor on a file. Returns whether it has ended well."""
        command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        self._screen.hold()
        self._end()
        try:
            editor = await asyncio.create_subprocess_exec(*shlex.split(command), str(path))
            code = await editor.wait()
        except OSError as error:
            self._screen.note(f"The editor {command} cannot be run: {error.strerror}. Set EDITOR.")
            return False
        finally:
            self._start()
            self._screen.release()
        if code:
            self._screen.note(f"The editor ended with {code}: nothing is sent.")
        return code == 0


def keys_in(content: bytes) -> list[bytes]:
    """Return the keys in what was read: fast fingers and busy machines bring several at once."""
    return [found[0] for found in _KEY.finditer(content)]


def details_of(forwarded: Forwarded) -> str:
    """Return a request and its response, on many lines."""
    message, outcome = forwarded.message, forwarded.outcome
    headers = [f"{name}: {value}" for name, value in message.headers.items()]
    response = outcome.excerpt.decode(errors="replace") or outcome.detail
    return "\n".join(
        [
            coloured(line_of(forwarded), BOLD),
            *(printable(each) for each in [f"content-type: {message.media_type}", *headers]),
            *_text_of(_indented(message.body)),
            coloured(f"Response: {outcome.status or outcome.error}", BOLD),
            *_text_of(response.encode()),
        ]
    )


def _text_of(content: bytes) -> list[str]:
    shown = content[:_BODY_SHOWN].decode(errors="replace").splitlines()
    return [printable(line) for line in shown] + (["…"] if len(content) > _BODY_SHOWN else [])


def _indented(body: bytes) -> bytes:
    """Return JSON indented, and everything else as it is."""
    try:
        return msgspec.json.format(body)
    except msgspec.DecodeError:
        return body
