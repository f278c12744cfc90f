"""The output of `discue listen`: lines that stay, and on a terminal one below them that is redrawn."""

from __future__ import annotations

import shutil
import sys
from typing import Final

from discue.cli.output import DIM, coloured

_CLEAR_LINE: Final = "\r\x1b[K"


class Screen:
    """Writes lines to standard output and notes to the error output, each at once.

    The status is a line below them, on a terminal only. While the screen is held, lines wait.
    """

    def __init__(self, *, has_status: bool) -> None:
        self._has_status = has_status
        self._status = ""
        self._waiting: list[tuple[bool, str]] | None = None

    def line(self, text: str) -> None:
        self._write(text, is_note=False)

    def note(self, text: str) -> None:
        self._write(text, is_note=True)

    def status(self, text: str) -> None:
        """Replace the line below the others."""
        if self._has_status:
            self._status = text
            if self._waiting is None:
                self._draw()

    def hold(self) -> None:
        """Leave the terminal to another program."""
        self._clear()
        self._waiting = []

    def release(self) -> None:
        """Write what came in the meantime."""
        waiting, self._waiting = self._waiting or [], None
        for is_note, text in waiting:
            self._write(text, is_note=is_note)
        self._draw()

    def end(self) -> None:
        """Remove the status."""
        self._clear()
        self._status = ""

    def _write(self, text: str, *, is_note: bool) -> None:
        if self._waiting is not None:
            self._waiting.append((is_note, text))
            return
        self._clear()
        # One write per line: readers of a pipe see each line as soon as it is there.
        stream = sys.stderr if is_note else sys.stdout
        stream.write(text + "\n")
        stream.flush()
        self._draw()

    def _clear(self) -> None:
        if self._status:
            sys.stdout.write(_CLEAR_LINE)
            sys.stdout.flush()

    def _draw(self) -> None:
        if self._status:
            # A line that wraps could not be cleared.
            text = self._status[: shutil.get_terminal_size().columns - 1]
            sys.stdout.write(_CLEAR_LINE + coloured(text, DIM))
            sys.stdout.flush()
