"""When a listener is given up."""

from hypothesis import given
from hypothesis import strategies as st

from discue.domain.listener_health import NO_FAILURES, FailureStreak, after_failure, should_disable
from discue.domain.retry import DEFAULT_RETRY_POLICY
from tests.support.clocks import NOON

HOUR, DAY = 3_600_000, 86_400_000
FIVE_DAYS = 5 * 86_400

waits = st.lists(st.integers(0, 3 * DAY), min_size=1, max_size=30)


def _after(*instants: int) -> FailureStreak:
    failing = NO_FAILURES
    for instant in instants:
        failing = after_failure(failing, instant)
    return failing


def _instants(waits: list[int]) -> list[int]:
    instants = [NOON]
    for wait in waits:
        instants.append(instants[-1] + wait)
    return instants


def _disabled_at(instants: list[int], after_seconds: int = FIVE_DAYS) -> int | None:
    failing = NO_FAILURES
    for instant in instants:
        failing = after_failure(failing, instant)
        if should_disable(failing, instant, after_seconds):
            return instant
    return None


@given(waits)
def test_listener_is_not_disabled_within_five_days_of_the_first_failure(waits: list[int]) -> None:
    disabled_at = _disabled_at(_instants(waits))
    assert disabled_at is None or disabled_at - NOON >= 5 * DAY


@given(waits)
def test_listener_is_disabled_only_after_failures_12_to_24_hours_apart(waits: list[int]) -> None:
    instants = _instants(waits)
    if not any(12 * HOUR <= later - sooner <= 24 * HOUR for sooner in instants for later in instants):
        assert _disabled_at(instants) is None


@given(waits)
def test_listener_that_fails_every_few_hours_for_five_days_is_disabled(waits: list[int]) -> None:
    instants = _instants([wait % (6 * HOUR) for wait in waits])
    while instants[-1] - NOON < 6 * DAY + 6 * HOUR:
        instants.append(instants[-1] + 6 * HOUR)
    disabled_at = _disabled_at(instants)
    assert disabled_at is not None
    assert disabled_at - NOON <= 6 * DAY + 6 * HOUR


def test_two_bursts_of_failures_a_week_apart_disable_no_listener() -> None:
    burst = [NOON + second * 1_000 for second in range(100)]
    assert _disabled_at([*burst, NOON + 7 * DAY, NOON + 14 * DAY]) is None


def test_time_runs_from_the_first_of_the_failures_that_are_far_enough_apart() -> None:
    failing = _after(NOON, NOON + 11 * HOUR, NOON + 12 * HOUR)
    assert failing == FailureStreak(NOON, NOON)
    assert not should_disable(failing, NOON + 5 * DAY - 1, FIVE_DAYS)
    assert should_disable(failing, NOON + 5 * DAY, FIVE_DAYS)


def test_the_attempts_of_a_single_message_start_the_clock() -> None:
    instants = _instants([delay * 1_200 for delay in DEFAULT_RETRY_POLICY.delays_seconds])
    assert _after(*instants).since == NOON


@given(waits)
def test_with_a_limit_of_zero_nobody_is_ever_disabled(waits: list[int]) -> None:
    assert _disabled_at(_instants(waits), 0) is None


@given(st.integers(1, 10 * DAY))
def test_clock_set_back_restarts_the_period(back: int) -> None:
    assert after_failure(FailureStreak(NOON), NOON - back) == FailureStreak(NOON - back)
