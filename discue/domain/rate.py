"""Rates: a token bucket for requests to a listener, and budget slices for the rate limits of API clients."""

import math
from typing import Final, NamedTuple

import msgspec

_MICROSECONDS: Final = 1_000_000


class RateLimit(msgspec.Struct, frozen=True):
    """A limit of requests to a listener."""

    per_second: float
    """Average rate."""
    burst: int
    """Requests that may start at once."""


class TokenBucket:
    """A token bucket, stored as the time at which it is full (GCRA). Times are monotonic, in seconds.

    In any interval, at most `per_second` * its length + `burst` requests start. A lane that takes over from another
    starts with an empty bucket, because it does not know when the other one sent its last requests.
    """

    __slots__ = ("_full_at", "_interval", "_tolerance", "limit")

    def __init__(self, limit: RateLimit | None, now: float, *, is_full: bool) -> None:
        """`limit` None: no limit."""
        self.limit = limit
        # A request conforms if the bucket would be full within the tolerance (virtual scheduling, ITU-T I.371).
        # Whole microseconds: sums of fractions would drift, and let one request too many or too few start.
        self._interval = 0 if limit is None else math.ceil(_MICROSECONDS / limit.per_second)
        self._tolerance = 0 if limit is None else self._interval * (limit.burst - 1)
        self._full_at = _microseconds(now) + (0 if is_full else self._tolerance + self._interval)

    def wait_seconds(self, now: float) -> float:
        """Return the time until the next request may start; 0 if it may start now."""
        if self.limit is None:
            return 0.0
        return max(0, self._full_at - self._tolerance - _microseconds(now)) / _MICROSECONDS

    def take(self, now: float) -> None:
        """Take a token for a request that starts, even if none is available."""
        if self.limit is not None:
            self._full_at = max(self._full_at, _microseconds(now)) + self._interval


def _microseconds(seconds: float) -> int:
    return int(seconds * _MICROSECONDS)


# Rate limits of API clients. The store counts the requests of each key per minute. So that not every request needs the
# store, a worker takes a slice of the budget at once. The whole slice counts, whether used or not, so all workers
# together hold at most a twentieth of the limit in reserve. Small limits have no reserve and are counted one by one.

UNLIMITED: Final = 2_147_483_647
"""Value of the `limit` and `remaining` headers if there is no limit."""

MINUTE_MS: Final = 60_000

KEYS_AT_THE_LIMIT: Final = 4
"""An organization may make as many requests as this number of its API keys: more keys do not lift the limit."""

_RESERVE_DIVISOR: Final = 20
_REFILL_DIVISOR: Final = 20
_MIN_WORKERS: Final = 8
"""Number of workers to assume at least: others may have started a moment ago."""


class RateLimitKey(NamedTuple):
    """The subject of a rate limit: an API key, a user, a customer or a client address."""

    organization: int
    """0 for an address."""
    caller: int
    """Row id of the API key or the user, or the number of the customer or address; 0 for all of the organization."""
    limit: int
    """Requests per minute; 0: no limit."""


class RateLimitStatus(msgspec.Struct, frozen=True, gc=False):
    """State of a rate limit after a request, for the response headers."""

    limit: int
    remaining: int
    reset_at: int
    """Start of the next minute, in seconds since the Unix epoch."""
    refused: bool


def reserve_size(limit: int, workers: int) -> int:
    """Return how many requests a worker may hold in reserve.

    When one worker has none left and refuses, the others hold at most a twentieth of the limit together.
    """
    return limit // (_RESERVE_DIVISOR * (max(workers, _MIN_WORKERS) - 1))


def refill_threshold(reserve: int) -> int:
    """Return the number of held requests at which a worker refills its reserve; -1 if it has no reserve."""
    return reserve // _REFILL_DIVISOR if reserve else -1


def refill_size(waiting: int, held: int, reserve: int) -> int:
    """Return how many requests to take from the store while `waiting` requests wait."""
    return max(0, waiting + reserve - held)


def granted_share(wanted: int, limit: int, taken: int) -> int:
    """Return how many of the wanted requests are within the limit. `taken`: count in the store, with `wanted`."""
    return max(0, min(wanted, limit - (taken - wanted)))


class MinuteWindow:
    """The current minute in UTC. It lasts as long on the monotonic clock even if the wall clock is set back."""

    __slots__ = ("_monotonic_end", "end_ms", "number", "start_ms")

    def __init__(self) -> None:
        self.number = -1
        """Minutes since the Unix epoch."""
        self.start_ms = self.end_ms = 0
        self._monotonic_end = 0.0

    @property
    def reset_at(self) -> int:
        """Start of the next minute, in seconds since the Unix epoch."""
        return self.end_ms // 1_000

    def advance(self, now: int, monotonic: float) -> bool:
        """Move to the current minute. Return whether a new one has started."""
        # A clock that is set back within the minute must not start a second budget for the same minute.
        if self.start_ms <= now < self.end_ms or (now < self.start_ms and monotonic < self._monotonic_end):
            return False
        self.number = now // MINUTE_MS
        self.start_ms = self.number * MINUTE_MS
        self.end_ms = self.start_ms + MINUTE_MS
        self._monotonic_end = monotonic + (self.end_ms - now) / 1_000
        return True
