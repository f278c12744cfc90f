"""Sentences that say why a listener receives nothing, and why a delivery waits."""

from math import inf
from typing import Final, NamedTuple

import msgspec

from discue.domain.clock import rfc3339
from discue.domain.listener_health import Liveness, breaker_state
from discue.domain.model import DisabledBy, ListenerMode, ListenerStatus
from discue.domain.rate import RateLimit

_DISABLED: Final[dict[DisabledBy, str]] = {
    "": "disabled",
    "request": "disabled by a request",
    "gone": "disabled because it answered 410 Gone",
    "failing": "disabled because all attempts failed for the time that `disable_after_seconds` sets",
    "transform": "disabled because its transform failed for 20 messages in a row",
}
_UNVERIFIED: Final = "not sent to because the domain of its `notify_url` is not verified"
_RECOVERING: Final = "sent few messages at once because it was inactive"

DAMAGED: Final = "Data of its queue is damaged. Messages wait until the database is restored from a backup."

_GRACE_SECONDS: Final = 1

DUE_NOW: Final = 1
"""The due time of a delivery that waits for nothing any more. It has passed by any clock."""


class SendingDefaults(NamedTuple):
    """The settings for listeners that do not set these options."""

    max_in_flight: int = 50
    timeout_seconds: int = 15


class ListenerCondition(msgspec.Struct, frozen=True):
    """The facts that decide whether a listener receives messages."""

    mode: ListenerMode
    status: ListenerStatus
    disabled_by: DisabledBy
    is_verified: bool
    """False if its domain must be verified and is not."""
    liveness: Liveness
    rate_limit: RateLimit | None = None
    max_in_flight: int = SendingDefaults().max_in_flight
    timeout_seconds: int = SendingDefaults().timeout_seconds

    @property
    def most_started(self) -> float:
        """The largest number of requests in flight that the rate limit lets start before the first of them ends."""
        limit = self.rate_limit
        # A request can last a little longer than its timeout.
        return inf if limit is None else limit.burst + limit.per_second * (self.timeout_seconds + _GRACE_SECONDS)

    @property
    def held_by(self) -> str:
        """The cause for which nothing is sent to the listener, to follow "is"; "" if nothing prevents it."""
        if self.status == "disabled":
            return _DISABLED[self.disabled_by]
        if not self.is_verified:
            return _UNVERIFIED
        if breaker_state(self.liveness) == "open":
            return f"inactive because its liveness probes fail: {self.liveness.last_failure_msg}"
        return ""

    @property
    def is_recovering(self) -> bool:
        """Whether the listener was inactive, and is sent only a few messages at once."""
        return breaker_state(self.liveness) == "half_open"

    @property
    def reason(self) -> str:
        """A sentence that says why the listener receives nothing, or little; "" if neither is true."""
        reason = self.held_by or (_RECOVERING if self.is_recovering else "")
        return f"It is {reason}." if reason else ""


def not_due(deliver_at: int) -> str:
    """Return what a delayed message waits for."""
    return f"Not due until {rfc3339(deliver_at)}."


def blocked(message_id: str) -> str:
    """Return what a message waits for whose key is held. The id is "" if the message was just deleted."""
    return f"Blocked by {f'message {message_id}' if message_id else 'an earlier message'}, which has the same key."


def waits_for(
    condition: ListenerCondition, row: str = "", due_at: int = 0, reason: str = "", *, before: int = 0
) -> str:
    """Return what a delivery waits for if it is due or being retried.

    `row` is the state of its delivery state row, "" without one; `due_at` and `reason` are those of that row. `before`
    is the number of messages that come first and are not settled.
    """
    if row == "sending":
        return "In flight: the listener has not answered yet."
    if row == "leased":
        return f"Leased to a consumer until {rfc3339(due_at)}."
    if condition.held_by:
        return f"The listener is {condition.held_by}."
    if row and due_at > DUE_NOW:
        what = "Can be pulled" if condition.mode == "pull" else "Retry"
        cause = "The egress proxy has failed. " if reason == "egress_proxy" else ""
        return f"{cause}{what} at {rfc3339(due_at)}, or soon after."
    return "Waits for a consumer to pull it." if condition.mode == "pull" else _turn(condition, before)


def _turn(condition: ListenerCondition, before: int) -> str:
    if condition.is_recovering:
        return f"Waits for its turn: the listener is {_RECOVERING}."
    limit = condition.rate_limit
    if limit is not None and before >= condition.most_started and condition.most_started <= condition.max_in_flight:
        return f"Waits for the rate limit of {limit.per_second:g} requests per second."
    if before >= condition.max_in_flight:
        return f"Waits for a free request slot: the listener has {condition.max_in_flight}."
    return "In flight, or among the next to be sent."
