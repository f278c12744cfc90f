"""Sentences that say why a listener receives nothing, and what a delivery waits for."""

import msgspec
import pytest

from discue.domain import waiting
from discue.domain.listener_health import Liveness
from discue.domain.model import DisabledBy
from discue.domain.rate import RateLimit
from discue.domain.waiting import ListenerCondition, waits_for

AT = 1_782_907_200_000
"""2026-07-01, noon."""
OPEN = ListenerCondition("push", "enabled", "", is_verified=True, liveness=Liveness())
PULLED = msgspec.structs.replace(OPEN, mode="pull")
DISABLED = msgspec.structs.replace(OPEN, status="disabled", disabled_by="gone")
UNVERIFIED = msgspec.structs.replace(OPEN, is_verified=False)
INACTIVE = msgspec.structs.replace(
    OPEN, liveness=Liveness("inactive", 0, 3, last_failure_msg="answered 503", in_a_row=-3)
)
RECOVERING = msgspec.structs.replace(OPEN, liveness=Liveness("inactive", 1, 3, in_a_row=1))
LIMITED = msgspec.structs.replace(OPEN, rate_limit=RateLimit(0.5, 1))


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (OPEN, ""),
        (PULLED, ""),
        (LIMITED, ""),
        (DISABLED, "It is disabled because it answered 410 Gone."),
        (UNVERIFIED, "It is not sent to because the domain of its `notify_url` is not verified."),
        (INACTIVE, "It is inactive because its liveness probes fail: answered 503."),
        (RECOVERING, "It is sent few messages at once because it was inactive."),
    ],
)
def test_listener_says_why_it_receives_nothing(condition: ListenerCondition, reason: str) -> None:
    assert condition.reason == reason


@pytest.mark.parametrize("disabled_by", ["", "request", "gone", "failing"])
def test_disabled_listener_says_so_whatever_else_holds_it_back(disabled_by: DisabledBy) -> None:
    found = msgspec.structs.replace(INACTIVE, status="disabled", disabled_by=disabled_by, is_verified=False)
    assert found.reason.startswith("It is disabled")


@pytest.mark.parametrize(
    ("condition", "row", "sentence"),
    [
        (OPEN, "", "In flight, or among the next to be sent."),
        (OPEN, "sending", "In flight: the listener has not answered yet."),
        (OPEN, "retry", "Retry at 2026-07-01T12:00:00.000Z, or soon after."),
        (LIMITED, "", "In flight, or among the next to be sent."),
        (DISABLED, "", "The listener is disabled because it answered 410 Gone."),
        (DISABLED, "retry", "The listener is disabled because it answered 410 Gone."),
        (DISABLED, "sending", "In flight: the listener has not answered yet."),
        (UNVERIFIED, "", "The listener is not sent to because the domain of its `notify_url` is not verified."),
        (INACTIVE, "retry", "The listener is inactive because its liveness probes fail: answered 503."),
        (RECOVERING, "", "Waits for its turn: the listener is sent few messages at once because it was inactive."),
        (PULLED, "", "Waits for a consumer to pull it."),
        (PULLED, "retry", "Can be pulled at 2026-07-01T12:00:00.000Z, or soon after."),
        (PULLED, "leased", "Leased to a consumer until 2026-07-01T12:00:00.000Z."),
    ],
)
def test_waiting_delivery_names_the_cause(condition: ListenerCondition, row: str, sentence: str) -> None:
    assert waits_for(condition, row, AT if row else 0) == sentence


@pytest.mark.parametrize(
    ("condition", "before", "sentence"),
    [
        (OPEN, 49, "In flight, or among the next to be sent."),
        (OPEN, 50, "Waits for a free request slot: the listener has 50."),
        # One request at once, and one every two seconds as long as the first lasts.
        (LIMITED, 8, "In flight, or among the next to be sent."),
        (LIMITED, 9, "Waits for the rate limit of 0.5 requests per second."),
        (LIMITED, 500, "Waits for the rate limit of 0.5 requests per second."),
        (msgspec.structs.replace(LIMITED, max_in_flight=3), 3, "Waits for a free request slot: the listener has 3."),
        (
            msgspec.structs.replace(LIMITED, timeout_seconds=1),
            2,
            "Waits for the rate limit of 0.5 requests per second.",
        ),
        (PULLED, 500, "Waits for a consumer to pull it."),
        (DISABLED, 500, "The listener is disabled because it answered 410 Gone."),
    ],
)
def test_delivery_behind_others_names_the_limit_that_it_waits_for(
    condition: ListenerCondition, before: int, sentence: str
) -> None:
    assert waits_for(condition, before=before) == sentence


def test_delivery_whose_key_was_freed_waits_for_its_turn() -> None:
    assert waits_for(OPEN, "retry", waiting.DUE_NOW) == waits_for(OPEN)
    assert waits_for(PULLED, "retry", waiting.DUE_NOW) == "Waits for a consumer to pull it."


def test_message_that_waits_for_its_time_or_for_another_message_says_so() -> None:
    assert waiting.not_due(AT) == "Not due until 2026-07-01T12:00:00.000Z."
    assert waiting.blocked("m" * 21) == f"Blocked by message {'m' * 21}, which has the same key."
    assert waiting.blocked("") == "Blocked by an earlier message, which has the same key."


def test_reason_names_the_proxy_that_failed() -> None:
    sentence = waits_for(OPEN, "retry", AT, "egress_proxy")
    assert sentence == "The egress proxy has failed. Retry at 2026-07-01T12:00:00.000Z, or soon after."
