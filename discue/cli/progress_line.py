"""How far something long has come: one line that is rewritten on a terminal, and a line now and then elsewhere."""

import shutil
from typing import Final, TextIO

from discue.domain.clock import Clock

_REWRITTEN_SECONDS: Final = 0.1
_REPEATED_SECONDS: Final = 10.0
_CLEAR_LINE: Final = "\r\x1b[K"


class ProgressLine:
    """About so many rows in all. Nothing is written for what is over at once."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._every = _REWRITTEN_SECONDS if stream.isatty() else _REPEATED_SECONDS
        self._begun_at = self._shown_at = clock.monotonic()
        self._begun_with = 0
        self._total = 0

    def begin(self, done: int, total: int) -> None:
        """Something of `total` rows, of which so many were done before."""
        self._begun_at = self._clock.monotonic()
        self._begun_with, self._total = done, total

    def show(self, what: str, done: int) -> None:
        """It has come so far, and is at `what`."""
        now = self._clock.monotonic()
        if now - self._shown_at >= self._every:
            self._shown_at = now
            self._write(self._text(what, done, now - self._begun_at))

    def end(self) -> None:
        """Leave the line to others."""
        if self._stream.isatty():
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()

    def _text(self, what: str, done: int, seconds: float) -> str:
        share = 100 * done // max(self._total, done, 1)
        rate = round((done - self._begun_with) / max(seconds, 0.001))
        return f"{what}: {done:,} of {self._total:,} rows, {share}%, {rate:,} a second"

    def _write(self, text: str) -> None:
        if self._stream.isatty():
            columns = shutil.get_terminal_size().columns
            self._stream.write(_CLEAR_LINE + text[: columns - 1])
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
