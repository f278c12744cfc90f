"""How many requests a caller has left of a minute, and how many of them a worker takes from the store at once.

What was taken counts, used or not. So a worker holds little that nobody may ever ask for: of all workers together at
most a twentieth of the limit. Small limits leave nothing to hold, and are counted one by one.
"""

from typing import Final, NamedTuple

import msgspec

UNLIMITED: Final = 2_147_483_647
"""What clients are told of a limit that is none."""

MINUTE_MS: Final = 60_000

_SHARE_HELD: Final = 20
_SHARE_LOW: Final = 20
_FEWEST_WORKERS: Final = 8
"""So many are reckoned with, whatever is known of the others: they may have started a moment ago."""


class RateLimitKey(NamedTuple):
    """Whose requests are counted: an organization and the row id of its key, or 0 and the number of an address.

    `limit` is how many it may make a minute, 0 for any number.
    """

    organization: int
    caller: int
    limit: int


class RateLimitStatus(msgspec.Struct, frozen=True, gc=False):
    """What a request is told of its caller's minute. `reset_at` is in seconds since the Unix epoch."""

    limit: int
    remaining: int
    reset_at: int
    refused: bool


def reserve_size(limit: int, workers: int) -> int:
    """How many requests that nobody has made yet a worker holds at most.

    While one worker refuses, all others may hold so many: together a twentieth of the limit.
    """
    return limit // (_SHARE_HELD * (max(workers, _FEWEST_WORKERS) - 1))


def refill_threshold(spare: int) -> int:
    """A worker that holds so few takes more, before it has none: -1 where it takes them as they are asked for."""
    return spare // _SHARE_LOW if spare else -1


def refill_size(asked: int, held: int, spare: int) -> int:
    """How many to take when so many requests wait."""
    return max(0, asked + spare - held)


def granted_share(wanted: int, limit: int, taken: int) -> int:
    """How many of those wanted are within the limit. `taken` is the store's count with all that were wanted."""
    return max(0, min(wanted, limit - (taken - wanted)))


class MinuteWindow:
    """Which minute of UTC it is.

    A clock that is set back does not end a minute early: the one that has begun lasts as long as it would have.
    """

    __slots__ = ("_over_at", "end_ms", "number", "start_ms")

    def __init__(self) -> None:
        self.number = -1
        self.start_ms = self.end_ms = 0
        self._over_at = 0.0

    @property
    def reset_at(self) -> int:
        """When the next one begins, in seconds since the Unix epoch."""
        return self.end_ms // 1_000

    def moved(self, now: int, monotonic: float) -> bool:
        """Go with the time; whether another minute has begun."""
        if self.start_ms <= now < self.end_ms or (now < self.start_ms and monotonic < self._over_at):
            return False
        self.number = now // MINUTE_MS
        self.start_ms = self.number * MINUTE_MS
        self.end_ms = self.start_ms + MINUTE_MS
        self._over_at = monotonic + (self.end_ms - now) / 1_000
        return True
