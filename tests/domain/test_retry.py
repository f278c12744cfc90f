"""The delays between attempts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.retry import DEFAULT_RETRY_POLICY, RetryOptions, RetryPolicy, delay_ms, with_options

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


def test_retries_of_requests_refused_together_are_spread() -> None:
    waits = {delay_ms(DEFAULT_RETRY_POLICY, 1, 600, step / 50) for step in range(50)}
    assert len(waits) == 50


options = st.builds(
    RetryOptions,
    schedule=st.none() | st.lists(st.integers(1, 90_000), max_size=6).map(tuple),
    jitter=st.none() | st.floats(0, 1),
    attempts=st.none() | st.integers(1, 12),
    final_statuses=st.none() | st.lists(st.integers(300, 599) | st.sampled_from(["4xx", "5xx"]), max_size=3).map(tuple),
)


def test_without_options_a_policy_is_as_it_was() -> None:
    assert with_options(DEFAULT_RETRY_POLICY, None) is DEFAULT_RETRY_POLICY
    assert with_options(DEFAULT_RETRY_POLICY, RetryOptions()) == DEFAULT_RETRY_POLICY


@given(chosen=options)
def test_chosen_fields_of_a_retry_policy_override_the_defaults(chosen: RetryOptions) -> None:
    policy = with_options(DEFAULT_RETRY_POLICY, chosen)
    assert policy.jitter == (DEFAULT_RETRY_POLICY.jitter if chosen.jitter is None else chosen.jitter)
    schedule = DEFAULT_RETRY_POLICY.delays_seconds if chosen.schedule is None else chosen.schedule
    shared = min(len(schedule), len(policy.delays_seconds))
    assert policy.delays_seconds[:shared] == schedule[:shared]
    assert policy.attempts == (len(schedule) + 1 if chosen.attempts is None else chosen.attempts)


@given(attempts=st.integers(1, 100))
def test_more_attempts_than_the_schedule_has_wait_as_long_as_its_last(attempts: int) -> None:
    policy = with_options(DEFAULT_RETRY_POLICY, RetryOptions(schedule=(1, 7), attempts=attempts))
    assert policy.delays_seconds == (1, *[7] * 98)[: attempts - 1]


@given(status=st.integers(100, 599))
def test_a_status_is_final_by_itself_or_by_its_class(status: int) -> None:
    policy = with_options(DEFAULT_RETRY_POLICY, RetryOptions(final_statuses=(404, "5xx")))
    assert policy.is_final(status) == (status == 404 or status >= 500)
    assert not DEFAULT_RETRY_POLICY.is_final(status)
