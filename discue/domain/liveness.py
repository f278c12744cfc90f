"""What probing a listener says, when to probe again, and what may be sent meanwhile. Pure."""

from typing import Final, Literal

import msgspec

from discue.domain.model import FailureKind, Liveness, LivenessState

PROBE_SECONDS: Final = 5.0
"""What one probe may take, the body of the answer included."""

INTERVAL_MS: Final = 30_000
DOUBT_MS: Final = 5_000
"""From a success to the next probe, while another one is wanted to call the listener stable."""
QUIET_MS: Final = 300_000
"""The same for a stable listener of which nothing was heard or wanted for as long."""
FIRST_MS: Final = 2_000
"""So long after its creation, or a change, a listener is probed first: whoever made it may read it back before."""

_INACTIVE_AFTER: Final = 3
_STABLE_AFTER: Final = 2
_JITTER: Final = 0.2

BreakerState = Literal["open", "careful", "closed"]
"""What may be sent: everything; a little, and more as that succeeds; nothing."""

_REASONS: Final[dict[FailureKind, str]] = {
    "resolve": "name not found",
    "refused_address": "address not allowed",
    "tls": "TLS failed",
    "timeout": "no answer in time",
    "connect": "no connection",
    "connect_timeout": "no connection",
}


def error_of(failure: FailureKind, status: int) -> str:
    """What is wrong with the answer to a probe; "" if nothing is. It tells no more of it than its status."""
    if failure:
        return _REASONS.get(failure, "no answer")
    return "" if 200 <= status < 300 else f"answered {status}"


def counts(failure: FailureKind) -> bool:
    """Whether a probe says anything of the listener: one that could not be made for reasons of ours does not."""
    return failure != "internal"


def after_probe(before: Liveness, error: str, status: int, now: int) -> Liveness:
    """What follows from a probe. A failure never betters the state: only two successes in a row do."""
    if not error:
        in_a_row = min(max(before.in_a_row, 0) + 1, _STABLE_AFTER)
        return msgspec.structs.replace(
            before,
            state="stable" if in_a_row == _STABLE_AFTER else before.state,
            success_count=before.success_count + 1,
            last_success_at=now,
            in_a_row=in_a_row,
        )
    in_a_row = max(min(before.in_a_row, 0) - 1, -_INACTIVE_AFTER)
    return msgspec.structs.replace(
        before,
        state=_state_after_failures(before.state, -in_a_row),
        failure_count=before.failure_count + 1,
        last_failure_at=now,
        last_failure_status=status,
        last_failure_msg=error,
        in_a_row=in_a_row,
    )


def restarted(before: Liveness) -> Liveness:
    """Of another liveness URL nothing is known. What was counted stays counted."""
    return msgspec.structs.replace(before, state="unknown", in_a_row=0)


def breaker_state(liveness: Liveness) -> BreakerState:
    """What the listener's state lets through. Only `inactive` holds anything back."""
    if liveness.state != "inactive":
        return "open"
    return "careful" if liveness.in_a_row > 0 else "closed"


def needs_notification(before: Liveness, after: Liveness) -> bool:
    """Whether more follows from a probe than another count: whoever goes on from here must know it."""
    return (before.state, before.in_a_row) != (after.state, after.in_a_row)


def interval_ms(liveness: Liveness, *, is_quiet: bool) -> int:
    """From a probe to the next one. `is_quiet` when nothing is to be sent, nothing failed and nothing was changed."""
    if liveness.state == "stable":
        return QUIET_MS if is_quiet else INTERVAL_MS
    return DOUBT_MS if liveness.in_a_row > 0 else INTERVAL_MS


def jittered(interval: int, random: float) -> int:
    """The interval, up to a tenth shorter or longer: listeners that began together drift apart. `random` is from
    [0, 1).
    """
    return int(interval * (1 - _JITTER / 2 + _JITTER * random))


def _state_after_failures(state: LivenessState, in_a_row: int) -> LivenessState:
    return "inactive" if state == "inactive" or in_a_row >= _INACTIVE_AFTER else "unstable"
