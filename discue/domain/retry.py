"""Retries: the policy, the delay before the next attempt, and the settlement that follows from an outcome."""

from functools import reduce
from typing import Literal

import msgspec

from discue.domain.attempts import Outcome

_MAX_RETRY_AFTER_SECONDS = 24 * 3_600
_GONE = 410
_COMPLETE_RESPONSES = frozenset({"status", "redirect"})


class RetryOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Retry options of a message, listener, queue or organization. None means the option of the next of these."""

    schedule: tuple[int, ...] | None = None
    """Delays between attempts, in seconds."""
    jitter: float | None = None
    """Fraction by which a delay may be longer; it is never shorter."""
    attempts: int | None = None
    """Maximum number of attempts, the first included."""
    final_statuses: tuple[int | str, ...] | None = None
    """Statuses and classes of statuses (`"4xx"`) that are not retried."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """A complete retry policy."""

    delays_seconds: tuple[int, ...]
    jitter: float = 0.2
    """Fraction by which a delay may be longer; it is never shorter."""
    final: frozenset[str] = frozenset()
    """Statuses (`"422"`) and classes of statuses (`"4xx"`) that are not retried."""

    @property
    def attempts(self) -> int:
        """Maximum number of attempts, the first included."""
        return len(self.delays_seconds) + 1

    def is_final(self, status: int) -> bool:
        """Return whether a response with this status is not retried."""
        return bool(self.final) and (str(status) in self.final or f"{status // 100}xx" in self.final)


DEFAULT_RETRY_POLICY = RetryPolicy((5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400))
"""Applies where organization, queue, listener and message say nothing else."""


def with_options(policy: RetryPolicy, options: RetryOptions | None) -> RetryPolicy:
    """Return the policy with the options applied.

    If there are fewer `attempts` than the schedule allows, it is cut; if there are more, its last delay is repeated.
    """
    if options is None:
        return policy
    delays = policy.delays_seconds if options.schedule is None else options.schedule
    if options.attempts is not None:
        last = delays[-1] if delays else DEFAULT_RETRY_POLICY.delays_seconds[0]
        missing = options.attempts - 1 - len(delays)
        delays = (*delays[: options.attempts - 1], *[last] * missing)
    return RetryPolicy(
        delays,
        policy.jitter if options.jitter is None else options.jitter,
        policy.final if options.final_statuses is None else frozenset(map(str, options.final_statuses)),
    )


def effective_policy(*options: RetryOptions | None) -> RetryPolicy:
    """Return the default policy with the options applied, the least specific first.

    These are the options of an organization, a queue and a listener.
    """
    return reduce(with_options, options, DEFAULT_RETRY_POLICY)


def delay_ms(policy: RetryPolicy, attempts_made: int, retry_after_seconds: int | None, random: float) -> int | None:
    """Return the time from the end of the failed attempt `attempts_made` to the next one; None if it was the last.

    `random` is from [0, 1). Retry-After lengthens the delay, to at most 24 hours, and never shortens it. It gets the
    same jitter, so that requests that were refused together do not come back together.
    """
    if attempts_made < 1:
        raise ValueError(f"a delay follows an attempt; attempts_made is {attempts_made}")
    if attempts_made >= policy.attempts:
        return None
    # One factor for both delays: requests that were refused together must not come back together.
    factor = 1.0 + policy.jitter * random
    requested_seconds = min(retry_after_seconds or 0, _MAX_RETRY_AFTER_SECONDS)
    scheduled_ms = int(policy.delays_seconds[attempts_made - 1] * 1_000 * factor)
    requested_ms = min(int(requested_seconds * 1_000 * factor), _MAX_RETRY_AFTER_SECONDS * 1_000)
    return max(scheduled_ms, requested_ms)


Reason = Literal["", "failed", "gone", "no_retry", "final_status", "attempts_used_up", "egress_proxy"]


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """The consequence of an attempt."""

    state: Literal["acknowledged", "retry", "missed"]
    due_at: int
    """Earliest time of the next attempt, in milliseconds since the epoch; 0 if there is none."""
    disable_listener: bool
    reason: Reason
    """"" if the delivery is acknowledged."""


_ACKNOWLEDGED = Settlement("acknowledged", 0, False, "")


def settle(attempts_made: int, outcome: Outcome, policy: RetryPolicy, now: int, *, random: float) -> Settlement:
    """Return the settlement of an attempt.

    `attempts_made` includes this attempt, `now` is its end, `random` is from [0, 1).

    A complete response with status 410 disables the listener. The delivery then waits like all others of a disabled
    listener: it is due at once, which takes effect when the listener is enabled again. `webhook-no-retry`, a final
    status, and the last attempt of the policy make the delivery missed.
    """
    if outcome.acknowledged:
        return _ACKNOWLEDGED
    gone = outcome.status == _GONE and outcome.error == "status"
    # An explicit request of the endpoint precedes the policy.
    if outcome.no_retry:
        return Settlement("missed", 0, gone, "no_retry")
    if outcome.error in _COMPLETE_RESPONSES and policy.is_final(outcome.status):
        return Settlement("missed", 0, gone, "final_status")
    delay = delay_ms(policy, attempts_made, outcome.retry_after_seconds, random)
    if delay is None:
        return Settlement("missed", 0, gone, "attempts_used_up")
    # Due at once, but the listener is disabled: the retry waits until it is enabled, however long that takes.
    if gone:
        return Settlement("retry", now, True, "gone")
    return Settlement("retry", now + delay, False, "failed")
