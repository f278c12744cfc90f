"""Clocks. Code that needs the time takes a clock as an argument, so that tests can control it."""

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol

from discue.domain.errors import invalid

EARLIEST_INSTANT: Final = 100_000_000_000
"""In 1973: the earliest time, except 0, in requests that name a time. A smaller number is most likely in seconds."""
LAST_INSTANT: Final = 253_402_300_799_999
"""End of the year 9999, in milliseconds since the Unix epoch: the latest time that clients may send."""


IN_SECONDS: Final = "must be milliseconds since the epoch; this looks like seconds: multiply it by 1,000"
"""The rule that a time in seconds breaks."""


def is_in_seconds(instant: int) -> bool:
    """Return whether a client most likely sent a time in seconds instead of milliseconds."""
    return 0 < instant < EARLIEST_INSTANT


def check_unit(instant: int, pointer: str) -> None:
    """Raise Unprocessable for a time that a client sent in seconds instead of milliseconds."""
    if is_in_seconds(instant):
        raise invalid(pointer, IN_SECONDS)


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

    # No method around it, because it is called several times for each message.
    monotonic = staticmethod(time.monotonic)


class DatabaseClock:
    """The time of the database, on which all workers agree, even if the wall clock of one is wrong.

    All times that a worker stores or compares with stored ones are by this clock.

    It follows the monotonic clock, at a distance that readings of the database's clock correct. Before the first
    reading it is the machine's clock. A database in a file has no clock to read.
    """

    def __init__(self, clock: Clock) -> None:
        self.monotonic = clock.monotonic
        self._clock = clock
        self._ahead_ms: float | None = None
        """How far it is ahead of the monotonic clock; None before the first reading."""

    def now(self) -> int:
        """Return the time in milliseconds since the Unix epoch."""
        if self._ahead_ms is None:
            return self._clock.now()
        return int(self.monotonic() * 1_000 + self._ahead_ms)

    def adjust(self, read: int, sent_at: float) -> None:
        """Adjust to a time that was read after `sent_at`, by the monotonic clock, and has arrived now."""
        earliest, latest = read - self.monotonic() * 1_000, read - sent_at * 1_000
        if self._ahead_ms is None:
            self._ahead_ms = (earliest + latest) / 2
        # The bounds are far apart if the response took long or the process stood still. The clock may be right then.
        self._ahead_ms = min(max(self._ahead_ms, earliest), latest)
