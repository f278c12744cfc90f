"""Retry delays, retry options, and the settlement of attempts."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.attempts import FailureKind, Outcome
from discue.domain.model import MISSED_REASONS
from discue.domain.retry import (
    DEFAULT_RETRY_POLICY,
    RetryOptions,
    RetryPolicy,
    Settlement,
    delay_ms,
    effective_policy,
    settle,
    with_options,
)

# Delays and options

DAY_MS = 24 * 3_600_000
randoms = st.floats(0, 1, exclude_max=True)
failed_attempts = st.integers(1, DEFAULT_RETRY_POLICY.attempts - 1)


def test_default_policy_has_the_documented_delays() -> None:
    minute, hour = 60_000, 3_600_000
    documented = [5_000, 30_000, 2 * minute, 10 * minute, 30 * minute]
    documented += [2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour]
    assert [delay_ms(DEFAULT_RETRY_POLICY, made, None, 0.0) for made in range(1, 12)] == documented
    assert DEFAULT_RETRY_POLICY.attempts == 12


@pytest.mark.parametrize("made", [12, 13, 500])
def test_last_attempt_is_not_retried(made: int) -> None:
    assert delay_ms(DEFAULT_RETRY_POLICY, made, 60, 0.5) is None


def test_policy_without_delays_has_one_attempt() -> None:
    once = RetryPolicy(())
    assert once.attempts == 1
    assert delay_ms(once, 1, None, 0.0) is None


@pytest.mark.parametrize("made", [0, -1])
def test_delay_requires_an_attempt(made: int) -> None:
    with pytest.raises(ValueError, match="follows an attempt"):
        delay_ms(DEFAULT_RETRY_POLICY, made, None, 0.0)


@given(made=failed_attempts, random=randoms)
def test_jitter_lengthens_a_delay_by_at_most_a_fifth(made: int, random: float) -> None:
    scheduled = DEFAULT_RETRY_POLICY.delays_seconds[made - 1] * 1_000
    delay = delay_ms(DEFAULT_RETRY_POLICY, made, None, random)
    assert delay is not None
    assert scheduled <= delay <= scheduled * 1.2


def test_jitter_covers_its_whole_range() -> None:
    assert delay_ms(DEFAULT_RETRY_POLICY, 1, None, 0.5) == 5_500
    assert delay_ms(RetryPolicy((10,), jitter=0.0), 1, None, 0.9) == 10_000


@given(made=failed_attempts, random=randoms, asked=st.integers(-(10**12), 10**30))
def test_retry_after_lengthens_a_delay_up_to_a_day(made: int, random: float, asked: int) -> None:
    plain = delay_ms(DEFAULT_RETRY_POLICY, made, None, random)
    delay = delay_ms(DEFAULT_RETRY_POLICY, made, asked, random)
    assert plain is not None
    assert delay is not None
    assert plain <= delay <= max(plain, DAY_MS)
    assert delay >= min(asked * 1_000, DAY_MS)


def test_retry_after_gets_jitter() -> None:
    waits = {delay_ms(DEFAULT_RETRY_POLICY, 1, 600, step / 50) for step in range(50)}
    assert len(waits) == 50


options = st.builds(
    RetryOptions,
    schedule=st.none() | st.lists(st.integers(1, 90_000), max_size=6).map(tuple),
    jitter=st.none() | st.floats(0, 1),
    attempts=st.none() | st.integers(1, 12),
    final_statuses=st.none() | st.lists(st.integers(300, 599) | st.sampled_from(["4xx", "5xx"]), max_size=3).map(tuple),
)


def test_policy_without_options_is_unchanged() -> None:
    assert with_options(DEFAULT_RETRY_POLICY, None) is DEFAULT_RETRY_POLICY
    assert with_options(DEFAULT_RETRY_POLICY, RetryOptions()) == DEFAULT_RETRY_POLICY


@given(chosen=options)
def test_options_override_only_their_own_fields(chosen: RetryOptions) -> None:
    policy = with_options(DEFAULT_RETRY_POLICY, chosen)
    assert policy.jitter == (DEFAULT_RETRY_POLICY.jitter if chosen.jitter is None else chosen.jitter)
    schedule = DEFAULT_RETRY_POLICY.delays_seconds if chosen.schedule is None else chosen.schedule
    shared = min(len(schedule), len(policy.delays_seconds))
    assert policy.delays_seconds[:shared] == schedule[:shared]
    assert policy.attempts == (len(schedule) + 1 if chosen.attempts is None else chosen.attempts)


def test_options_of_a_listener_precede_those_of_its_queue() -> None:
    queue, listener = RetryOptions(schedule=(1, 2, 3), jitter=0.5), RetryOptions(schedule=(7,))

    assert effective_policy(queue, listener) == RetryPolicy((7,), jitter=0.5)
    assert effective_policy(queue, None) == RetryPolicy((1, 2, 3), jitter=0.5)
    assert effective_policy() == DEFAULT_RETRY_POLICY


@given(attempts=st.integers(1, 100))
def test_last_delay_repeats_for_additional_attempts(attempts: int) -> None:
    policy = with_options(DEFAULT_RETRY_POLICY, RetryOptions(schedule=(1, 7), attempts=attempts))
    assert policy.delays_seconds == (1, *[7] * 98)[: attempts - 1]


@given(status=st.integers(100, 599))
def test_status_is_final_by_itself_or_by_its_class(status: int) -> None:
    policy = with_options(DEFAULT_RETRY_POLICY, RetryOptions(final_statuses=(404, "5xx")))
    assert policy.is_final(status) == (status == 404 or status >= 500)
    assert not DEFAULT_RETRY_POLICY.is_final(status)


# Settlement

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


def responded(status: int, *, no_retry: bool = False, error: FailureKind = "status") -> Outcome:
    return Outcome(status, error, "", 5, no_retry=no_retry)


def settled(made: int, outcome: Outcome, random: float = 0.0) -> Settlement:
    return settle(made, outcome, DEFAULT_RETRY_POLICY, NOW, random=random)


@given(made=st.integers(1, 20), no_retry=st.booleans(), random=randoms)
def test_acknowledged_attempt_settles_the_delivery(made: int, random: float, *, no_retry: bool) -> None:
    outcome = responded(204, no_retry=no_retry, error="")
    assert settled(made, outcome, random) == Settlement("acknowledged", 0, disable_listener=False, reason="")


@pytest.mark.parametrize(
    ("made", "outcome", "expected"),
    [
        (1, responded(500), ("retry", NOW + 5_000, False, "failed")),
        (1, Outcome(503, "status", "", 5, retry_after_seconds=90), ("retry", NOW + 90_000, False, "failed")),
        (12, responded(500), ("missed", 0, False, "attempts_used_up")),
        (1, responded(400, no_retry=True), ("missed", 0, False, "no_retry")),
        (3, responded(410), ("retry", NOW, True, "gone")),
        (12, responded(410), ("missed", 0, True, "attempts_used_up")),
        (1, responded(410, no_retry=True), ("missed", 0, True, "no_retry")),
        (1, responded(410, error="timeout"), ("retry", NOW + 5_000, False, "failed")),
        (1, responded(410, error="reset"), ("retry", NOW + 5_000, False, "failed")),
        (1, responded(410, error="protocol"), ("retry", NOW + 5_000, False, "failed")),
    ],
)
def test_settlement_follows_from_the_outcome(made: int, outcome: Outcome, expected: tuple[str, int, bool, str]) -> None:
    assert msgspec.structs.astuple(settled(made, outcome)) == expected


def test_final_status_makes_the_delivery_missed() -> None:
    policy = RetryPolicy((5,), final=frozenset({"4xx"}))
    assert settle(1, responded(422), policy, NOW, random=0.0) == Settlement(
        "missed", 0, disable_listener=False, reason="final_status"
    )
    assert settle(1, responded(422, error="timeout"), policy, NOW, random=0.0).reason == "failed"


@given(made=st.integers(1, 20), outcome=failures, random=randoms, final=st.frozensets(st.sampled_from(["404", "5xx"])))
def test_missed_reason_is_a_filter_value(made: int, outcome: Outcome, random: float, final: frozenset[str]) -> None:
    settlement = settle(made, outcome, msgspec.structs.replace(DEFAULT_RETRY_POLICY, final=final), NOW, random=random)
    assert (settlement.reason in MISSED_REASONS) == (settlement.state == "missed")


@given(made=st.integers(1, 20), outcome=failures, random=randoms)
def test_failure_is_missed_or_retried_after_its_delay(made: int, outcome: Outcome, random: float) -> None:
    settlement = settled(made, outcome, random)
    delay = delay_ms(DEFAULT_RETRY_POLICY, made, outcome.retry_after_seconds, random)
    assert settlement.disable_listener == (outcome.status == 410 and outcome.error == "status")
    if outcome.no_retry or delay is None:
        assert (settlement.state, settlement.due_at) == ("missed", 0)
    else:
        waits_for_the_listener = settlement.disable_listener
        assert settlement.state == "retry"
        assert settlement.due_at == NOW + (0 if waits_for_the_listener else delay)
