"""What follows from an attempt: outcome in, settlement out. Nothing is sent or stored here."""

from typing import Literal

import msgspec

from discue.domain.model import Outcome
from discue.domain.retry import RetryPolicy, delay_ms

_GONE = 410
_WHOLE_ANSWERS = frozenset({"status", "redirect"})

Reason = Literal["", "failed", "gone", "no_retry", "final_status", "attempts_used_up"]


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What is to be recorded.

    `due_at` (milliseconds since the epoch) is when the next attempt may start, 0 when there is none.
    `reason` is "" for an acknowledged delivery.
    """

    state: Literal["acknowledged", "retry", "missed"]
    due_at: int
    disable_listener: bool
    reason: Reason


_ACKNOWLEDGED = Settlement("acknowledged", 0, False, "")


def settle(attempts_made: int, outcome: Outcome, policy: RetryPolicy, now: int, random: float) -> Settlement:
    """Decide what follows. `attempts_made` includes this attempt, `now` is its end, `random` is from [0, 1).

    A whole answer of 410 disables the listener. Its delivery then waits like all others of a disabled
    listener: it is due at once, which takes effect when the listener is enabled again. `webhook-no-retry`,
    a status that the policy calls final, and the last attempt that it allows, make it missed.
    """
    if outcome.acknowledged:
        return _ACKNOWLEDGED
    gone = outcome.status == _GONE and outcome.error == "status"
    if outcome.no_retry:
        return Settlement("missed", 0, gone, "no_retry")
    if outcome.error in _WHOLE_ANSWERS and policy.is_final(outcome.status):
        return Settlement("missed", 0, gone, "final_status")
    delay = delay_ms(policy, attempts_made, outcome.retry_after_seconds, random)
    if delay is None:
        return Settlement("missed", 0, gone, "attempts_used_up")
    if gone:
        return Settlement("retry", now, True, "gone")
    return Settlement("retry", now + delay, False, "failed")
