"""The progress line of long commands, which can be stopped and resumed."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from discue.cli.command import Invocation
from discue.domain.clock import Clock
from discue.domain.errors import DiscueError, Unavailable
from discue.server.signals import stop_on_signal

_REWRITTEN_SECONDS: Final = 0.1
_REPEATED_SECONDS: Final = 10.0
_CLEAR_LINE: Final = "\r\x1b[K"


@contextmanager
def resumable(invocation: Invocation, hint: str) -> Iterator["ProgressLine"]:
    """Yield the progress line of long work, which stops at a signal. Errors say how to resume it: `hint`."""
    stop = stop_on_signal(invocation.log)

    def require_running() -> None:
        if stop.is_set():
            raise DiscueError(f"Stopped. {hint}")

    line = ProgressLine(sys.stderr, invocation.clock, require_running)
    try:
        yield line
    except Unavailable as error:
        raise DiscueError(f"{error.detail} {hint}") from error
    finally:
        line.end()


class ProgressLine:
    """The progress of a long command: a line that is redrawn on a terminal, and repeated every ten seconds elsewhere.

    Nothing is written before the first interval has passed.
    """

    def __init__(self, stream: TextIO, clock: Clock, require_running: Callable[[], None]) -> None:
        """`require_running` raises DiscueError if the work must stop. It is called at each step."""
        self.require_running = require_running
        self._stream = stream
        self._clock = clock
        self._every = _REWRITTEN_SECONDS if stream.isatty() else _REPEATED_SECONDS
        self._started_at = self._shown_at = clock.monotonic()
        self._started_with = 0
        self._total = 0

    def begin(self, done: int, total: int) -> None:
        """Start a phase over `total` rows, of which `done` were processed before."""
        self._started_at = self._clock.monotonic()
        self._started_with, self._total = done, total

    def show(self, what: str, done: int) -> None:
        """Show the number of processed rows and the current step. Raises DiscueError if the work must stop."""
        self.require_running()
        now = self._clock.monotonic()
        if now - self._shown_at < self._every:
            return
        self._shown_at = now
        # Rows may be added meanwhile: never more than 100%.
        share = 100 * done // max(self._total, done, 1)
        rate = round((done - self._started_with) / max(now - self._started_at, 0.001))
        text = f"{what}: {done:,} of {self._total:,} rows, {share}%, {rate:,} per second"
        if self._stream.isatty():
            # A line that wraps could not be cleared.
            self._stream.write(_CLEAR_LINE + text[: shutil.get_terminal_size().columns - 1])
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def end(self) -> None:
        """Clear the line."""
        if self._stream.isatty():
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()
