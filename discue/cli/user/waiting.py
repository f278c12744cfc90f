"""Lines about what the client logs: a service that does not respond, and messages in danger."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from discue.cli.output import note

_CLIENT_LOG: Final = "discue_client"
_SILENT_SECONDS: Final = 1.0


def waiting_is_shown(deadline: float) -> AbstractContextManager[None]:
    """Say once what a command waits for, if that takes a second. `deadline` is the one of its requests."""
    return _attached(_Retries(deadline))


def warnings_shown(show: Callable[[str], None]) -> AbstractContextManager[None]:
    """Show what the client warns of, and when its consumer can fetch messages again."""
    return _attached(_Warnings(show))


@contextmanager
def _attached(handler: logging.Handler) -> Iterator[None]:
    log = logging.getLogger(_CLIENT_LOG)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _Warnings(logging.Handler):
    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        # Not each attempt to send a request again.
        if record.levelno >= logging.WARNING or record.module == "consumer":
            self._show(record.getMessage())


class _Retries(logging.Handler):
    """Reads what the client logs before it sends a request again: the pause, and the error."""

    def __init__(self, deadline: float) -> None:
        super().__init__(logging.INFO)
        self._deadline = deadline
        self._started_at: float | None = None
        self._is_said = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._is_said or not isinstance(record.args, tuple) or len(record.args) != 2:
            return
        pause, error = record.args
        now = time.monotonic()
        self._started_at = self._started_at or now
        waited = now - self._started_at
        if waited + float(str(pause)) >= _SILENT_SECONDS:
            self._is_said = True
            note(f"discue: {error} Trying again for up to {self._deadline - waited:.0f} s.")
