"""The delays between attempts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.backoff import DEFAULT_RETRY_POLICY, RetryPolicy, delay_ms

DAY_MS = 24 * 3_600_000
randoms = st.floats(0, 1, exclude_max=True)
failed_attempts = st.integers(1, DEFAULT_RETRY_POLICY.attempts - 1)


def test_the_default_policy_has_twelve_attempts_over_the_documented_delays() -> None:
    minute, hour = 60_000, 3_600_000
    documented = [5_000, 30_000, 2 * minute, 10 * minute, 30 * minute]
    documented += [2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour]
    assert [delay_ms(DEFAULT_RETRY_POLICY, made, None, 0.0) for made in range(1, 12)] == documented
    assert DEFAULT_RETRY_POLICY.attempts == 12


@pytest.mark.parametrize("made", [12, 13, 500])
def test_after_the_last_attempt_there_is_none(made: int) -> None:
    assert delay_ms(DEFAULT_RETRY_POLICY, made, 60, 0.5) is None


def test_a_policy_without_delays_has_one_attempt() -> None:
    once = RetryPolicy(())
    assert once.attempts == 1
    assert delay_ms(once, 1, None, 0.0) is None


@pytest.mark.parametrize("made", [0, -1])
def test_a_delay_follows_an_attempt(made: int) -> None:
    with pytest.raises(ValueError, match="follows an attempt"):
        delay_ms(DEFAULT_RETRY_POLICY, made, None, 0.0)


@given(made=failed_attempts, random=randoms)
def test_jitter_makes_it_later_by_a_fifth_at_most_and_never_earlier(made: int, random: float) -> None:
    scheduled = DEFAULT_RETRY_POLICY.delays_seconds[made - 1] * 1_000
    delay = delay_ms(DEFAULT_RETRY_POLICY, made, None, random)
    assert delay is not None
    assert scheduled <= delay <= scheduled * 1.2


def test_jitter_spreads_over_its_whole_range() -> None:
    assert delay_ms(DEFAULT_RETRY_POLICY, 1, None, 0.5) == 5_500
    assert delay_ms(RetryPolicy((10,), jitter=0.0), 1, None, 0.9) == 10_000


@given(made=failed_attempts, random=randoms, asked=st.integers(-(10**12), 10**30))
def test_retry_after_only_lengthens_and_to_a_day_at_most(made: int, random: float, asked: int) -> None:
    plain = delay_ms(DEFAULT_RETRY_POLICY, made, None, random)
    delay = delay_ms(DEFAULT_RETRY_POLICY, made, asked, random)
    assert plain is not None
    assert delay is not None
    assert plain <= delay <= max(plain, DAY_MS)
    assert delay >= min(asked * 1_000, DAY_MS)


def test_those_who_were_refused_together_do_not_come_back_together() -> None:
    waits = {delay_ms(DEFAULT_RETRY_POLICY, 1, 600, step / 50) for step in range(50)}
    assert len(waits) == 50
