"""Ctrl-C and SIGTERM during long commands."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final, TypeAlias

_Handler: TypeAlias = "Callable[[int, FrameType | None], object] | int | None"

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def until_interrupt(work: Callable[[], None]) -> None:
    """Run the work until Ctrl-C or SIGTERM, which end it at once, also while the service does not respond."""
    # Not a context manager: a signal between its beginning and that of the block would end the command.
    kept = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        for number in kept:
            signal.signal(number, signal.default_int_handler)
        work()
    except KeyboardInterrupt:
        pass
    finally:
        _restore(kept)


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, to end between two requests. A second Ctrl-C ends at once."""
    event = threading.Event()
    kept = {number: signal.getsignal(number) for number in _SIGNALS}

    def stop(*_: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in kept:
        signal.signal(number, stop)
    try:
        yield event
    finally:
        _restore(kept)


def _restore(handlers: Mapping[signal.Signals, _Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
