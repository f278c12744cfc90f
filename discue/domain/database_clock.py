"""The database's clock, as far as a worker knows it."""

from discue.domain.clock import Clock


class DatabaseClock:
    """A clock on which all workers of a database agree, even if the wall clock of one is wrong.

    It follows the monotonic clock, from what was read of the database's. Until something was read, it is the machine's:
    for a database on a file it stays that.
    """

    def __init__(self, clock: Clock) -> None:
        self.monotonic = clock.monotonic
        self._clock = clock
        self._ahead_ms: float | None = None
        """How far it is ahead of the monotonic clock."""

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
        # If the response took long, or the process stood still, little is known: the clock may be right as it is.
        self._ahead_ms = min(max(self._ahead_ms, earliest), latest)
