"""Clocks. Code that needs the time takes a clock as an argument, so that tests can control it."""

import time
from typing import Final, Protocol

LAST_INSTANT: Final = 253_402_300_799_999
"""End of the year 9999, in milliseconds since the Unix epoch: the latest time that clients may send."""


class Clock(Protocol):
    """A wall clock for what is stored, and a monotonic clock for durations. Their values must not be mixed."""

    def now(self) -> int:
        """Return the wall-clock time in milliseconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start. It never goes back."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
