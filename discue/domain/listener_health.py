"""Health of listeners: liveness probes, what an inactive listener may receive, and disabling after long failure."""

from typing import Final, Literal

import msgspec

from discue.domain.attempts import FailureKind, describe_failure

# Liveness

PROBE_TIMEOUT_SECONDS: Final = 5.0
"""Timeout of one probe, response body included."""

PROBE_INTERVAL_MS: Final = 30_000
RECOVERY_INTERVAL_MS: Final = 5_000
"""Interval after a success, while another one is needed to call the listener stable."""
IDLE_INTERVAL_MS: Final = 300_000
"""Interval for a stable listener that has been idle for as long."""
FIRST_PROBE_MS: Final = 2_000
"""Delay of the first probe after a listener is created or changed, so that its client can first read it back."""

_NO_ENDPOINT: Final = frozenset({404, 405, 501})
"""Statuses that say that the URL is no liveness endpoint."""

_INACTIVE_AFTER: Final = 3
_STABLE_AFTER: Final = 2
_JITTER: Final = 0.2

LivenessState = Literal["unknown", "stable", "unstable", "inactive"]


class Liveness(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Results of the probes of a listener's liveness URL. Times are in milliseconds since the epoch; 0: never."""

    state: LivenessState = "unknown"
    success_count: int = 0
    failure_count: int = 0
    last_success_at: int = 0
    last_failure_at: int = 0
    last_failure_status: int = 0
    """HTTP status; 0 if no response was read."""
    last_failure_msg: str = ""
    in_a_row: int = 0
    """Successes (positive) or failures (negative) in a row, counted only as far as the state depends on it."""
    changed_at: int = 0
    """When the listener last became inactive, or stopped to be; 0: never."""


BreakerState = Literal["closed", "half_open", "open"]
"""State of a listener's circuit breaker: everything is sent; a little, and more as it succeeds; nothing is sent."""


def probe_error(failure: FailureKind, status: int, detail: str = "") -> str:
    """Return a description of a failed probe, "" if it succeeded. It reveals only the status of the response.

    `detail` is a sentence about a failure of TLS.
    """
    if failure:
        return f"{detail[0].lower()}{detail[1:].removesuffix('.')}" if detail else describe_failure(failure)
    if 200 <= status < 300:
        return ""
    return f"answered {status}: not a liveness endpoint" if status in _NO_ENDPOINT else f"answered {status}"


def is_conclusive(failure: FailureKind) -> bool:
    """Return whether a probe shows the state of the listener: not if the service or the egress proxy failed."""
    return failure not in {"internal", "egress_proxy"}


def after_probe(before: Liveness, error: str, status: int, now: int, *, acknowledges: bool = False) -> Liveness:
    """Return the liveness after a probe. `acknowledges`: a message was acknowledged since the probe before.

    A failure counts towards `inactive` only if the URL is a liveness endpoint, and the listener does not acknowledge
    messages. Two successes in a row make any listener stable.
    """
    if not error:
        # Capped at the threshold, so that further successes are no change (see `needs_notification`).
        in_a_row = min(max(before.in_a_row, 0) + 1, _STABLE_AFTER)
        after = msgspec.structs.replace(
            before,
            state="stable" if in_a_row == _STABLE_AFTER else before.state,
            success_count=before.success_count + 1,
            last_success_at=now,
            in_a_row=in_a_row,
        )
        return _dated(before, after, now)
    state: LivenessState = "unstable"
    in_a_row = 0
    if status in _NO_ENDPOINT:
        # An inactive listener answers again. Whether messages arrive, too, is for trials to show.
        state = "inactive" if before.state == "inactive" and not acknowledges else "unknown"
    elif acknowledges:
        state = "inactive" if before.state == "inactive" else "unstable"
    else:
        in_a_row = max(min(before.in_a_row, 0) - 1, -_INACTIVE_AFTER)
        if before.state == "inactive" or in_a_row == -_INACTIVE_AFTER:
            state = "inactive"
    after = msgspec.structs.replace(
        before,
        state=state,
        failure_count=before.failure_count + 1,
        last_failure_at=now,
        last_failure_status=status,
        last_failure_msg=error,
        in_a_row=in_a_row,
    )
    return _dated(before, after, now)


def acknowledged_since_probe(stored: Liveness, acknowledged_at: int) -> bool:
    """Return whether a message was acknowledged since the last probe, as far as stored times can tell.

    `acknowledged_at`: when the listener last acknowledged a message; 0: never. False while the circuit breaker is
    open: nothing is sent then, and after a change of the wall clock an old acknowledgement could look new.
    """
    probed_at = max(stored.last_success_at, stored.last_failure_at, 1)
    return breaker_state(stored) != "open" and acknowledged_at >= probed_at


def with_new_url(before: Liveness) -> Liveness:
    """Return the liveness after the liveness URL was changed or removed: the state is unknown, the totals stay."""
    return msgspec.structs.replace(before, state="unknown", in_a_row=0)


def after_trials(before: Liveness, now: int) -> Liveness:
    """Return the liveness of an inactive listener that has acknowledged enough messages, whatever its probes said."""
    return msgspec.structs.replace(before, state="unstable", in_a_row=max(before.in_a_row, 0), changed_at=now)


def _dated(before: Liveness, after: Liveness, now: int) -> Liveness:
    if (before.state == "inactive") == (after.state == "inactive"):
        return after
    return msgspec.structs.replace(after, changed_at=now)


def breaker_state(liveness: Liveness) -> BreakerState:
    """Return the state of the circuit breaker. It opens only for an `inactive` listener.

    It is half open after a success, and after a probe that did not count.
    """
    if liveness.state != "inactive":
        return "closed"
    return "open" if liveness.in_a_row < 0 else "half_open"


def needs_notification(before: Liveness, after: Liveness) -> bool:
    """Return whether a probe changed more than a total, so that a later owner of the listener must know it."""
    return (before.state, before.in_a_row) != (after.state, after.in_a_row)


def probe_interval_ms(liveness: Liveness, *, is_idle: bool) -> int:
    """Return the time until the next probe. `is_idle`: nothing to send, no failure, no change of the listener."""
    if liveness.state == "stable":
        return IDLE_INTERVAL_MS if is_idle else PROBE_INTERVAL_MS
    return RECOVERY_INTERVAL_MS if liveness.in_a_row > 0 else PROBE_INTERVAL_MS


def with_jitter(interval: int, random: float) -> int:
    """Return the interval, up to 10 % shorter or longer, so that probes spread out. `random` is from [0, 1)."""
    return int(interval * (1 - _JITTER / 2 + _JITTER * random))


# Disabling after long failure. The time runs only from a failure that is followed by another one 12 to 24 hours later.
# So a listener that gets a message once a week is not disabled for two isolated failures.

_MIN_GAP_MS: Final = 12 * 3_600_000
_MAX_GAP_MS: Final = 24 * 3_600_000


class FailureStreak(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Failed attempts since the last success. Times are in milliseconds since the epoch; 0: none."""

    first_at: int = 0
    """The failure that the gap to the next one is measured from."""
    since: int = 0
    """When the time until disabling started: `first_at`, once another failure came 12 to 24 hours after it."""


NO_FAILURES: Final = FailureStreak()


def after_failure(before: FailureStreak, now: int) -> FailureStreak:
    """Return the streak after one more failure. A success or a changed configuration resets it to `NO_FAILURES`."""
    if before.since:
        return before
    # A negative gap means that the clock was set back: start over, as for a gap that is too long.
    passed = now - before.first_at
    if not before.first_at or not 0 <= passed <= _MAX_GAP_MS:
        return FailureStreak(now)
    return FailureStreak(before.first_at, before.first_at) if passed >= _MIN_GAP_MS else before


def should_disable(streak: FailureStreak, now: int, after_seconds: int) -> bool:
    """Return whether to disable a listener that has just failed; never if `after_seconds` is 0."""
    return bool(after_seconds and streak.since) and now - streak.since >= after_seconds * 1_000
