"""Lockouts: which subjects failed authentication attempts count against, and how long a subject is locked out."""

import hashlib
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec

LockoutKind = Literal["api_key", "unknown_key", "user", "sign_in", "device"]
"""The kind of a subject.

`api_key`: an existing key at one client address. A stranger who knows the id of a key cannot lock out its owner at
another address. `unknown_key`: all keys that do not exist, at one client address. A deleted key that a client still
uses cannot lock out other keys at its address. `user`: an email at the sign-in of users. `sign_in`: a client address
at the sign-in of users. `device`: a browser in which a user has signed in before. Strangers cannot lock it out.
"""

FAILURES: Final = 5
"""Failures within `WINDOW_MS` that start a lockout."""
FAILURES_OF: Final[Mapping[LockoutKind, int]] = {"sign_in": 25}
"""Failures that start a lockout of subjects for which it is not `FAILURES`. Colleagues often share one address."""
WINDOW_MS: Final = 60_000
FIRST_LOCK_MS: Final = 60_000
MAX_LOCK_MS: Final = 15 * 60_000
QUIET_MS: Final = 15 * 60_000
"""Time without a failure or a lockout after which the next lockout is a first one again."""

WRONG_CODES: Final = 10
"""Wrong codes of a second factor in a row after which codes are refused. They count over any time: a code has few
digits, and guesses below the limit of a minute would hit it within weeks.
"""
FIRST_REFUSAL_MS: Final = 15 * 60_000
MAX_REFUSAL_MS: Final = 86_400_000

HISTORY_MS: Final = MAX_LOCK_MS + QUIET_MS
"""Time after the last failure when the history may be deleted."""

_MAX_LOCKS: Final = 1 + (MAX_LOCK_MS // FIRST_LOCK_MS).bit_length()
_MAX_REFUSALS: Final = 1 + (MAX_REFUSAL_MS // FIRST_REFUSAL_MS).bit_length()


class LockoutSubject(NamedTuple):
    """A subject that failures count against, and that a lockout refuses."""

    kind: LockoutKind
    name: str
    """Public id of the key, or email of the user; empty for other kinds."""
    address: str
    """The client address (IPv6: its /64 network; `sign_in`: its /48), or the id of the device; empty for a user."""

    @classmethod
    def api_key(cls, public_id: str, network: str) -> "LockoutSubject":
        """Return the subject for an existing key at an address."""
        return cls("api_key", public_id, network)

    @classmethod
    def unknown_key(cls, network: str) -> "LockoutSubject":
        """Return the subject for all keys that do not exist, at an address."""
        return cls("unknown_key", "", network)

    @classmethod
    def user(cls, email: str) -> "LockoutSubject":
        """Return the subject for all users with an email, known or not, ignoring case."""
        return cls("user", email.casefold(), "")

    @classmethod
    def sign_in(cls, network: str) -> "LockoutSubject":
        """Return the subject for sign-ins from an address (IPv6: its /48)."""
        return cls("sign_in", "", network)

    @property
    def label(self) -> str:
        labels: Mapping[LockoutKind, str] = {
            "api_key": f"key {self.name} from {self.address}",
            "unknown_key": f"unknown keys from {self.address}",
            "user": f"user {self.name}",
            "sign_in": f"sign-in from {self.address}",
            "device": f"browser {self.address} of {self.name}",
        }
        return labels[self.kind]

    @classmethod
    def device(cls, device: str, email: str) -> "LockoutSubject":
        """Return the subject for a browser in which the user with an email has signed in before."""
        return cls("device", email.casefold(), device)

    @property
    def number(self) -> int:
        """A 63-bit hash, the same on every worker."""
        digest = hashlib.sha256(" ".join(self).encode(errors="surrogatepass")).digest()
        # 63 bits fit a signed column.
        return int.from_bytes(digest[:8]) >> 1


class FailureHistory(msgspec.Struct, frozen=True):
    """Failures and lockouts of a subject. Times are in milliseconds since the epoch."""

    failed_at: tuple[int, ...] = ()
    """Failures since the last lockout began, oldest first."""
    locks: int = 0
    """Lockouts in a row."""
    locked_until: int = 0
    """0: never locked out."""


NO_HISTORY: Final = FailureHistory()


def remaining_ms(locked_until: int, now: int, most: int = MAX_LOCK_MS) -> int:
    """Return the remaining time of a lockout, 0 if it has ended.

    A lockout that would last longer than the maximum is ignored: the clock that set it was wrong.
    """
    left = locked_until - now
    return left if 0 < left <= most else 0


def after_failure(before: FailureHistory, now: int, limit: int = FAILURES) -> FailureHistory:
    """Return the history after a failed attempt, of which `limit` start a lockout.

    During a lockout it does not change: such attempts do not count.
    """
    if remaining_ms(before.locked_until, now):
        return before
    # Only consecutive lockouts double: an occasional typo must not lead to long ones.
    last = max(before.locked_until, *before.failed_at, 0)
    locks = 0 if abs(now - last) >= QUIET_MS else before.locks
    # abs: if the clock was set back, failures lie in the future. They must not count forever.
    recent = [at for at in before.failed_at if abs(now - at) < WINDOW_MS]
    failed_at = tuple(sorted([*recent, now]))
    if len(failed_at) < limit:
        return FailureHistory(failed_at, locks, before.locked_until)
    # One minute, doubled for each earlier lockout, up to 15 minutes.
    duration = min(FIRST_LOCK_MS << min(locks, _MAX_LOCKS), MAX_LOCK_MS)
    return FailureHistory((), min(locks + 1, _MAX_LOCKS), now + duration)


def code_refusal_ms(wrong: int) -> int:
    """Return how long codes are refused after this many wrong ones in a row; 0: the next one is read.

    After each tenth it is a quarter of an hour, doubled for each time before it, at most a day.
    """
    refusals, rest = divmod(wrong, WRONG_CODES)
    if rest or not refusals:
        return 0
    return min(FIRST_REFUSAL_MS << min(refusals - 1, _MAX_REFUSALS), MAX_REFUSAL_MS)


class Lockout(NamedTuple):
    """A subject that is locked out until a time, in milliseconds since the epoch."""

    subject: LockoutSubject
    until: int


class LockoutTable:
    """The lockouts that a worker knows: at most `limit`, of which the oldest is evicted first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.until: dict[LockoutSubject, int] = {}
        """The end of each lockout, in milliseconds since the epoch. Some may have ended."""

    def set(self, subject: LockoutSubject, until: int, now: int) -> None:
        """Lock a subject out, or end its lockout if `until` is past or 0."""
        # Removed first, so that it moves to the end: the beginning is evicted.
        self.until.pop(subject, None)
        if not remaining_ms(until, now):
            return
        if len(self.until) >= self._limit:
            del self.until[next(iter(self.until))]
        self.until[subject] = until

    def remaining_ms(self, subject: LockoutSubject, now: int) -> int:
        """Return the remaining time of the subject's lockout; 0 if there is none."""
        until = self.until.get(subject)
        if until is None:
            return 0
        left = remaining_ms(until, now)
        if not left:
            del self.until[subject]
        return left
