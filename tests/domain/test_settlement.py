"""What follows from an attempt."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.attempts import FailureKind, Outcome
from discue.domain.model import MISSED_REASONS
from discue.domain.retry import DEFAULT_RETRY_POLICY, Settlement, delay_ms, settle

NOW = 1_800_000_000_000
FAILURES: list[FailureKind] = ["status", "redirect", "connect", "tls", "timeout", "reset", "refused_address"]

failures = st.builds(
    Outcome,
    status=st.sampled_from([0, 301, 404, 410, 429, 500, 503]),
    error=st.sampled_from(FAILURES),
    detail=st.just(""),
    duration_ms=st.integers(0, 15_000),
    retry_after_seconds=st.none() | st.integers(0, 10**6),
    no_retry=st.booleans(),
)
randoms = st.floats(0, 1, exclude_max=True)


def answered(status: int, *, no_retry: bool = False, error: FailureKind = "status") -> Outcome:
    return Outcome(status, error, "", 5, no_retry=no_retry)


def settled(made: int, outcome: Outcome, random: float = 0.0) -> Settlement:
    return settle(made, outcome, DEFAULT_RETRY_POLICY, NOW, random)


@given(made=st.integers(1, 20), no_retry=st.booleans(), random=randoms)
def test_an_acknowledged_attempt_settles_the_delivery(made: int, random: float, *, no_retry: bool) -> None:
    outcome = answered(204, no_retry=no_retry, error="")
    assert settled(made, outcome, random) == Settlement("acknowledged", 0, disable_listener=False, reason="")


def test_a_failed_attempt_is_retried_after_the_delay_of_its_number() -> None:
    assert settled(1, answered(500)) == Settlement("retry", NOW + 5_000, disable_listener=False, reason="failed")
    assert settled(2, answered(500), 0.5).due_at == NOW + 33_000


def test_retry_after_lengthens_the_wait() -> None:
    outcome = Outcome(503, "status", "", 5, retry_after_seconds=90)
    assert settled(1, outcome).due_at == NOW + 90_000


def test_the_last_attempt_makes_it_missed() -> None:
    assert settled(12, answered(500)) == Settlement("missed", 0, disable_listener=False, reason="attempts_used_up")


def test_webhook_no_retry_makes_it_missed_at_once() -> None:
    assert settled(1, answered(400, no_retry=True)) == Settlement(
        "missed", 0, disable_listener=False, reason="no_retry"
    )


def test_410_disables_the_listener_and_the_delivery_waits_for_it() -> None:
    assert settled(3, answered(410)) == Settlement("retry", NOW, disable_listener=True, reason="gone")


@pytest.mark.parametrize(("made", "no_retry"), [(12, False), (1, True)])
def test_410_disables_the_listener_of_a_missed_delivery_too(made: int, *, no_retry: bool) -> None:
    settlement = settled(made, answered(410, no_retry=no_retry))
    assert (settlement.state, settlement.disable_listener) == ("missed", True)


@pytest.mark.parametrize("error", ["timeout", "reset", "protocol"])
def test_half_an_answer_of_410_disables_nothing(error: FailureKind) -> None:
    settlement = settled(1, answered(410, error=error))
    assert (settlement.disable_listener, settlement.due_at) == (False, NOW + 5_000)


@given(made=st.integers(1, 20), outcome=failures, random=randoms, final=st.frozensets(st.sampled_from(["404", "5xx"])))
def test_every_missed_reason_can_be_filtered_by(
    made: int, outcome: Outcome, random: float, final: frozenset[str]
) -> None:
    settlement = settle(made, outcome, msgspec.structs.replace(DEFAULT_RETRY_POLICY, final=final), NOW, random)
    assert (settlement.reason in MISSED_REASONS) == (settlement.state == "missed")


@given(made=st.integers(1, 20), outcome=failures, random=randoms)
def test_a_failure_is_retried_or_missed_and_never_before_its_delay(made: int, outcome: Outcome, random: float) -> None:
    settlement = settled(made, outcome, random)
    delay = delay_ms(DEFAULT_RETRY_POLICY, made, outcome.retry_after_seconds, random)
    assert settlement.disable_listener == (outcome.status == 410 and outcome.error == "status")
    if outcome.no_retry or delay is None:
        assert (settlement.state, settlement.due_at) == ("missed", 0)
    else:
        waits_for_the_listener = settlement.disable_listener
        assert settlement.state == "retry"
        assert settlement.due_at == NOW + (0 if waits_for_the_listener else delay)
