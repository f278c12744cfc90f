"""When failed attempts to authenticate lock somebody out, and for how long."""

import hashlib
from typing import Final, Literal, NamedTuple

import msgspec

LockoutKind = Literal["api_key", "address"]

FAILURES: Final = 5
WINDOW_MS: Final = 60_000
FIRST_LOCK_MS: Final = 60_000
LONGEST_LOCK_MS: Final = 15 * 60_000
QUIET_MS: Final = 15 * 60_000
"""Without a failure for so long, while no lock holds: the next lock is a first one again."""

FORGOTTEN_AFTER_MS: Final = LONGEST_LOCK_MS + QUIET_MS
"""So long after the last failure nothing of it matters any more."""

_MOST_LOCKS: Final = 1 + (LONGEST_LOCK_MS // FIRST_LOCK_MS).bit_length()


class LockoutSubject(NamedTuple):
    """Whom failures are held against: a key by its public id, or an address (of IPv6 its /64)."""

    kind: LockoutKind
    name: str

    @property
    def number(self) -> int:
        """63 bits of a hash, the same in every worker."""
        digest = hashlib.sha256(f"{self.kind} {self.name}".encode(errors="surrogatepass")).digest()
        return int.from_bytes(digest[:8]) >> 1


class FailureHistory(msgspec.Struct, frozen=True):
    """What counts of a subject's failed attempts: `failed_at` since the last lock began, oldest first.

    `locks` is how many there were in a row.
    """

    failed_at: tuple[int, ...] = ()
    locks: int = 0
    locked_until: int = 0


NO_HISTORY: Final = FailureHistory()


def remaining_ms(locked_until: int, now: int) -> int:
    """How long a lock goes on. One that ends later than any lock can is none: a clock was wrong."""
    left = locked_until - now
    return left if 0 < left <= LONGEST_LOCK_MS else 0


def after_failure(before: FailureHistory, now: int) -> FailureHistory:
    """What a failed attempt makes of it. While a lock holds, nothing: such an attempt is not looked at."""
    if remaining_ms(before.locked_until, now):
        return before
    locks = 0 if _was_quiet(before, now) else before.locks
    recent = [at for at in before.failed_at if abs(now - at) < WINDOW_MS]
    failed_at = tuple(sorted([*recent, now]))
    if len(failed_at) < FAILURES:
        return FailureHistory(failed_at, locks, before.locked_until)
    return FailureHistory((), min(locks + 1, _MOST_LOCKS), now + lock_ms(locks))


def lock_ms(locks_before: int) -> int:
    """A minute at first, then twice as long each time, up to a quarter of an hour."""
    return min(FIRST_LOCK_MS << min(locks_before, _MOST_LOCKS), LONGEST_LOCK_MS)


def _was_quiet(before: FailureHistory, now: int) -> bool:
    last = max(before.locked_until, *before.failed_at, 0)
    return abs(now - last) >= QUIET_MS


class Lock(NamedTuple):
    """A subject that nobody is let in for until then."""

    subject: LockoutSubject
    until: int


class LockTable:
    """The locks that hold, as a worker knows them: at most `limit`, those that were set first make room.

    Ids of keys and addresses have no spelling in common, so a name is enough to find one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._until: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def __len__(self) -> int:
        return len(self._until)

    def hold(self, name: str, until: int, now: int) -> None:
        """One whose time is over, or that is 0, is a lock no more."""
        self._until.pop(name, None)
        if not remaining_ms(until, now):
            return
        if len(self._until) >= self._limit:
            del self._until[next(iter(self._until))]
        self._until[name] = until

    def remaining_ms(self, name: str, now: int) -> int:
        """How long nobody is let in for that name; 0 when somebody is."""
        until = self._until.get(name)
        if until is None:
            return 0
        left = remaining_ms(until, now)
        if not left:
            del self._until[name]
        return left

    def clear(self) -> None:
        self._until.clear()
