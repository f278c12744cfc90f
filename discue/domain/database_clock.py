"""The database's clock, as far as a worker knows it."""

from discue.domain.clock import Clock


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
