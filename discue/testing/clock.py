"""The clock of a server under test: that of the machine, ahead by as much as a test has moved it."""

import re
import time
from datetime import timedelta

LATEST = 221_845_392_000_000
"""The beginning of the year 9000, in milliseconds since the epoch. Later times could not be written as dates."""

BEYOND = "The clock cannot go beyond the year 9000."

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smhdw]))+")
_PART = re.compile(r"([0-9.]+)(ms|[smhdw])")


class MovableClock:
    """A clock that runs, or stands still, and can be moved forward."""

    def __init__(self, ahead_ms: int = 0) -> None:
        self._now_ahead_ms = ahead_ms
        self._monotonic_ahead = ahead_ms / 1_000
        """How far both clocks are ahead of those of the machine, while they run."""
        self._still: tuple[int, float] | None = None
        """The time and the seconds at which both clocks stand still; None while they run."""

    @property
    def is_frozen(self) -> bool:
        return self._still is not None

    def now(self) -> int:
        return _machine_ms() + self._now_ahead_ms if self._still is None else self._still[0]

    def monotonic(self) -> float:
        return time.monotonic() + self._monotonic_ahead if self._still is None else self._still[1]

    def move_to(self, instant: int) -> None:
        """Move on to a time in milliseconds since the epoch. A time that has passed changes nothing."""
        step_ms = max(0, instant - self.now())
        if self._still is not None:
            now, monotonic = self._still
            self._still = (now + step_ms, monotonic + step_ms / 1_000)
        self._now_ahead_ms += step_ms
        self._monotonic_ahead += step_ms / 1_000

    def freeze(self) -> None:
        """Stand still, until the clock is moved or runs again."""
        self._still = (self.now(), self.monotonic())

    def unfreeze(self) -> None:
        """Run on from where the clock stands."""
        if self._still is not None:
            now, monotonic = self._still
            self._now_ahead_ms, self._monotonic_ahead = now - _machine_ms(), monotonic - time.monotonic()
            self._still = None


def _machine_ms() -> int:
    return time.time_ns() // 1_000_000


class SendingClock:
    """The clock of requests: their timeouts follow the test, their signatures the machine.

    A receiver compares the time of a signature with its own clock, which no test moves.
    """

    def __init__(self, clock: MovableClock) -> None:
        self.monotonic = clock.monotonic

    def now(self) -> int:
        return _machine_ms()


def milliseconds_of(duration: str | float | timedelta) -> int:
    """Return a duration such as "1h", "1h30m", "250ms", seconds, or a timedelta. Raises ValueError."""
    if isinstance(duration, str):
        text = duration.replace(" ", "")
        if text.startswith("-"):
            raise ValueError(f"The clock cannot go back: {duration!r} is negative.")
        if not _DURATION.fullmatch(text):
            raise ValueError(f'{duration!r} is not a duration. Write it as "90s", "5m", "1h30m" or "2d".')
        return _bounded(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if seconds < 0:
        raise ValueError(f"The clock cannot go back: {duration!r} is negative.")
    return _bounded(seconds * 1_000)


def _bounded(milliseconds: float) -> int:
    if not milliseconds <= LATEST:
        raise ValueError(BEYOND)
    return round(milliseconds)
