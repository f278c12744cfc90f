"""A clock that stands still until a test moves it."""

NOON = 1_750_000_000_000


class StandingClock:
    def __init__(self, now: int = NOON) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._now / 1_000

    def advance(self, milliseconds: int) -> None:
        self._now += milliseconds
