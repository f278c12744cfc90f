"""Clocks. Code that needs the time takes a clock as an argument, so that tests can control it."""

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol

LAST_INSTANT: Final = 253_402_300_799_999
"""End of the year 9999, in milliseconds since the Unix epoch: the latest time that clients may send."""


def rfc3339(instant: int) -> str:
    """Return a time, in milliseconds since the epoch, such as 2026-07-01T12:00:00.000Z."""
    second, millisecond = divmod(instant, 1_000)
    return f"{_to_the_second(second)}.{millisecond:03d}Z"


@lru_cache(maxsize=2)
def _to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


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
