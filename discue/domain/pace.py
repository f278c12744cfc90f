"""How fast requests may follow each other: a bucket of tokens, kept as the instant from which on it is full."""

import math

from discue.domain.model import RateLimit

_MICROSECONDS = 1_000_000


class TokenBucket:
    """One lane's. Instants are in seconds of a clock that never goes back.

    In any stretch of time at most `per_second` × its length + `burst` requests begin. A lane that continues another's
    begins with an empty bucket: what that one sent last is not known.
    """

    __slots__ = ("_full_at", "_interval", "_tolerance", "limit")

    def __init__(self, limit: RateLimit | None, now: float, *, is_full: bool) -> None:
        self.limit = limit
        # Whole microseconds: sums of fractions would let one too few begin, or one too many.
        self._interval = 0 if limit is None else math.ceil(_MICROSECONDS / limit.per_second)
        self._tolerance = 0 if limit is None else self._interval * (limit.burst - 1)
        self._full_at = _instant(now) + (0 if is_full else self._tolerance + self._interval)

    def wait_seconds(self, now: float) -> float:
        """How long until the next request may begin; 0 when it may now."""
        return 0.0 if self.limit is None else max(0, self._full_at - self._tolerance - _instant(now)) / _MICROSECONDS

    def begun(self, now: float) -> None:
        """A request has begun, whether or not it might."""
        if self.limit is not None:
            self._full_at = max(self._full_at, _instant(now)) + self._interval


def _instant(seconds: float) -> int:
    return int(seconds * _MICROSECONDS)
