"""The clock of a server under test: that of the machine, ahead by as much as a test has moved it."""

import re
import time
from datetime import timedelta

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smhdw]))+")
_PART = re.compile(r"([0-9.]+)(ms|[smhdw])")


class MovableClock:
    """A clock that runs, and can be moved forward."""

    def __init__(self) -> None:
        self.ahead_ms = 0
        """How far it is ahead of the machine, in milliseconds."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_ms / 1_000

    def move_to(self, instant: int) -> None:
        """Move on to a time in milliseconds since the epoch. A time that has passed changes nothing."""
        self.ahead_ms += max(0, instant - self.now())


class SendingClock:
    """The clock of requests: their timeouts follow the test, their signatures the machine.

    A receiver compares the time of a signature with its own clock, which no test moves.
    """

    def __init__(self, clock: MovableClock) -> None:
        self.monotonic = clock.monotonic

    def now(self) -> int:
        return time.time_ns() // 1_000_000


def milliseconds_of(duration: str | float | timedelta) -> int:
    """Return a duration such as "1h", "1h30m", "250ms", seconds, or a timedelta. Raises ValueError."""
    if isinstance(duration, str):
        text = duration.replace(" ", "")
        if text.startswith("-"):
            raise ValueError(f"The clock cannot go back: {duration!r} is negative.")
        if not _DURATION.fullmatch(text):
            raise ValueError(f'{duration!r} is not a duration. Write it as "90s", "5m", "1h30m" or "2d".')
        return round(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if seconds < 0:
        raise ValueError(f"The clock cannot go back: {duration!r} is negative.")
    return round(seconds * 1_000)
