"""A clock that stands still until a test moves it."""

NOON = 1_750_000_000_000


class StandingClock:
    def __init__(self, now: int = NOON) -> None:
        self.instant = now
        self._set_by = 0

    def now(self) -> int:
        return self.instant

    def monotonic(self) -> float:
        return (self.instant - self._set_by) / 1_000

    def advance(self, milliseconds: int) -> None:
        self.instant += milliseconds

    def set_by(self, milliseconds: int) -> None:
        """Set the wall clock forward or, with a negative number, back. No time passes."""
        self.instant += milliseconds
        self._set_by += milliseconds


def no_time() -> float:
    """Return the same second always: nothing is ever late."""
    return 0.0
