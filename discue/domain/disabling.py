"""When a listener whose attempts all fail is disabled. Pure."""

from typing import Final

import msgspec

_APART_MS: Final = 12 * 3_600_000
_WITHIN_MS: Final = 24 * 3_600_000


class FailureStreak(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of attempts that failed, with no success between them; nothing but zeros when none did.

    `first_at` is a failure that others are measured from. `since` is set once another one came at least 12 and at most
    24 hours after it: only then does time run, so that a listener that is sent to once a week is not given up for two
    bad moments.
    """

    first_at: int = 0
    since: int = 0


NO_FAILURES: Final = FailureStreak()


def after_failure(before: FailureStreak, now: int) -> FailureStreak:
    """What is remembered after one more failure. A success, or another configuration, begins with `NOT_FAILING`."""
    if before.since:
        return before
    passed = now - before.first_at
    if not before.first_at or not 0 <= passed <= _WITHIN_MS:
        return FailureStreak(now)
    return FailureStreak(before.first_at, before.first_at) if passed >= _APART_MS else before


def should_disable(failing: FailureStreak, now: int, after_seconds: int) -> bool:
    """Whether a listener that has just failed is to be disabled; never when `after_seconds` is 0."""
    return bool(after_seconds and failing.since) and now - failing.since >= after_seconds * 1_000
