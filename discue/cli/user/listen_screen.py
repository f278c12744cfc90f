"""The screen of `discue listen`: a line for each request and, in a terminal, keys that show, repeat and edit one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import termios
import tty
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from discue.cli.output import BOLD, DIM, GREEN, RED, clock_time, coloured, excerpt, note, printable, say
from discue.domain.attempts import Outcome
from discue.domain.errors import reason_phrase
from discue.sending.request import AttemptRequest

Style = Literal["lines", "json", "quiet"]

_RESPONSE_SHOWN: Final = 100
_KEY_SHOWN: Final = 24
_COMPLETE: Final = frozenset({"", "status", "redirect"})
"""Errors of outcomes whose response was read to its end."""
_KNOWN: Final = frozenset(HTTPStatus)
_KEPT: Final = 200
_BODY_SHOWN: Final = 10_000
_READ: Final = 1_024
_CLEAR_LINE: Final = "\r\x1b[K"
_KEY: Final = re.compile(rb"\x1b(?:\[[0-9;]*[@-~]|O[@-~])?|.", re.DOTALL)
_HELP: Final = "↑ ↓ select, Enter show, r send again, e edit and send, q quit"
_UP: Final = frozenset({b"\x1b[A", b"\x1bOA", b"k"})
_DOWN: Final = frozenset({b"\x1b[B", b"\x1bOB", b"j"})
_ENTER: Final = frozenset({b"\r", b"\n"})


class Forwarded(NamedTuple):
    """A request to the local server, and its outcome."""

    at: float
    """Seconds since the epoch."""
    queue: str
    key: str | None
    request: AttemptRequest
    outcome: Outcome
    is_repeated: bool
    """Whether a user asked to repeat it: it is not an attempt to deliver the message."""

    @property
    def reason(self) -> str:
        """The first line of the response, or why there was none, or only a part."""
        if self.outcome.error not in _COMPLETE:
            return self.outcome.detail
        lines = self.outcome.excerpt.decode(errors="replace").splitlines()
        return excerpt(next((line for line in lines if line.strip()), ""), _RESPONSE_SHOWN)


class Screen:
    """Writes requests to standard output, and notes to the error output."""

    def __init__(self, style: Style) -> None:
        self._style = style

    def show(self, forwarded: Forwarded) -> None:
        """Write a request and its outcome. `quiet` writes only refused ones, as notes."""
        if self._style == "json":
            self.line(json_line(forwarded))
        elif self._style == "lines":
            self.line(line_of(forwarded))
        elif not forwarded.outcome.acknowledged:
            self.note(line_of(forwarded))

    def line(self, text: str) -> None:
        say(text)

    def note(self, text: str) -> None:
        note(text)


def line_of(forwarded: Forwarded) -> str:
    """Return time, id, queue, attempt and key of a message, then the outcome, its duration and size."""
    request, outcome = forwarded.request, forwarded.outcome
    attempt = f" attempt {request.number}" if request.number > 1 else ""
    attempt = " again" if forwarded.is_repeated else attempt
    key = f" key {excerpt(forwarded.key, _KEY_SHOWN)}" if forwarded.key else ""
    phrase = f" {reason_phrase(outcome.status)}" if outcome.status in _KNOWN else ""
    result = f"{outcome.status}{phrase}" if outcome.error in _COMPLETE else outcome.error
    reason = "" if outcome.acknowledged else f"  {printable(forwarded.reason)}"
    return (
        f"{coloured(clock_time(forwarded.at), DIM)} {request.message_id} {printable(forwarded.queue)}{attempt}"
        f"{printable(key)}  {coloured(result, GREEN if outcome.acknowledged else RED)}  {outcome.duration_ms} ms"
        f"  {len(request.body):,} bytes{reason}"
    ).rstrip()


def json_line(forwarded: Forwarded) -> str:
    """Return the request and its outcome as JSON on one line."""
    request, outcome = forwarded.request, forwarded.outcome
    shown = {
        "at": round(forwarded.at * 1_000),
        "queue": forwarded.queue,
        "message_id": request.message_id,
        "key": forwarded.key,
        "attempt": request.number,
        "bytes": len(request.body),
        "accepted": outcome.acknowledged,
        "status": outcome.status,
        "error": outcome.error,
        "took_ms": outcome.duration_ms,
        "reason": None if outcome.acknowledged else forwarded.reason,
    }
    return json.dumps({name: value for name, value in shown.items() if value is not None}, ensure_ascii=False)


class Terminal(Screen):
    """A screen with a status below its lines, which acts on keys. Lines wait while an editor has the terminal.

    Requests that are sent again change nothing about the acknowledgement of their message.
    """

    def __init__(self) -> None:
        super().__init__("lines")
        self._status = ""
        self._waiting: list[Callable[[], None]] | None = None
        """Writes that wait for the editor; None without one."""
        self._requests: deque[Forwarded] = deque(maxlen=_KEPT)
        self._back = 0
        """How many requests the selected one is before the newest."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._modes = termios.tcgetattr(sys.stdin.fileno())

    def show(self, forwarded: Forwarded) -> None:
        """Write a request, and keep it, so that it can be selected."""
        super().show(forwarded)
        self._requests.append(forwarded)
        # The selection stays on its request.
        self._select(self._back + 1 if self._back else 0)

    def line(self, text: str) -> None:
        self._write(partial(super().line, text))

    def note(self, text: str) -> None:
        self._write(partial(super().note, text))

    def _write(self, write: Callable[[], None]) -> None:
        if self._waiting is not None:
            self._waiting.append(write)
            return
        self._draw("")
        write()
        self._draw(self._status)

    def _draw(self, status: str) -> None:
        """Replace the line below the others."""
        # A line that wraps could not be cleared.
        text = status[: shutil.get_terminal_size().columns - 1]
        sys.stdout.write(_CLEAR_LINE + (coloured(text, DIM) if text else ""))
        sys.stdout.flush()

    @contextmanager
    def reading(
        self, repeat: Callable[[Forwarded], Coroutine[Any, Any, None]], stop: Callable[[], None]
    ) -> Iterator[None]:
        """Read keys one at a time, without echo. Restores the modes of the terminal at the end.

        `repeat` sends a request again.
        """
        self._repeat, self._stop = repeat, stop
        self._select(0)
        self._take()
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            self._leave()
            self._status = ""

    def _take(self) -> None:
        tty.setcbreak(sys.stdin.fileno())
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)
        self._draw(self._status)

    def _leave(self) -> None:
        self._draw("")
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
            self.note(_HELP)
        elif key in _UP | _DOWN:
            self._select(self._back + (1 if key in _UP else -1))
            self.line(f"▸ {line_of(self._selected)}")
        elif key in _ENTER:
            self.line(details_of(self._selected))
        elif key in (b"r", b"e"):
            work = self._edited(self._selected) if key == b"e" else self._repeat(self._selected)
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @property
    def _selected(self) -> Forwarded:
        return self._requests[-1 - self._back]

    def _select(self, back: int) -> None:
        self._back = max(0, min(back, len(self._requests) - 1))
        selected = f"{self._selected.request.message_id} selected. " if self._requests else ""
        self._status = f"{selected}{_HELP}"
        if self._waiting is None:
            self._draw(self._status)

    async def _edited(self, forwarded: Forwarded) -> None:
        """Let the editor change the body, and send it under the same id."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "body.json"
            path.write_bytes(_indented(forwarded.request.body))
            if await self._edit(path):
                body = path.read_bytes().rstrip(b"\n")
                await self._repeat(forwarded._replace(request=msgspec.structs.replace(forwarded.request, body=body)))

    async def _edit(self, path: Path) -> bool:
        """Run the editor on a file. Returns whether it has ended well."""
        command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        self._leave()
        self._waiting = []
        try:
            editor = await asyncio.create_subprocess_exec(*shlex.split(command), str(path))
            code = await editor.wait()
        except OSError as error:
            self.note(f"The editor {command} cannot be run: {error.strerror}. Set EDITOR.")
            return False
        finally:
            # Before a line says that the editor has ended: keys that are typed until the terminal is taken are lost.
            self._take()
            waiting, self._waiting = self._waiting, None
            for write in waiting:
                write()
        if code:
            self.note(f"The editor ended with {code}: nothing is sent.")
        return code == 0


def keys_in(content: bytes) -> list[bytes]:
    """Return the keys in what was read: fast fingers and busy machines bring several at once."""
    return [found[0] for found in _KEY.finditer(content)]


def details_of(forwarded: Forwarded) -> str:
    """Return a request and its response, on many lines."""
    request, outcome = forwarded.request, forwarded.outcome
    headers = [f"{name}: {value}" for name, value in request.headers]
    response = outcome.excerpt or outcome.detail.encode()
    return "\n".join(
        [
            coloured(line_of(forwarded), BOLD),
            *(printable(each) for each in [f"content-type: {request.media_type}", *headers]),
            *_text_of(_indented(request.body)),
            coloured(f"Response: {outcome.status or outcome.error}", BOLD),
            *_text_of(response),
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
