"""How fast requests may follow each other."""

from hypothesis import given
from hypothesis import strategies as st

from discue.domain.rate import RateLimit, TokenBucket

rates = st.builds(RateLimit, per_second=st.floats(0.01, 1_000), burst=st.integers(1, 50))
steps = st.lists(st.floats(0, 5), min_size=1, max_size=200)


def begin_all(pace: TokenBucket, limit: RateLimit, pauses: list[float], start: float) -> list[float]:
    """Whoever sends as soon as it may, and looks after each pause: when requests began."""
    now = start
    begun: list[float] = []
    for pause in pauses:
        now += pause
        while pace.wait_seconds(now) == 0 and len(begun) < 2_000:
            pace.take(now)
            begun.append(now)
    return begun


@given(limit=rates, pauses=steps, is_full=st.booleans())
def test_in_no_stretch_of_time_more_begin_than_rate_times_time_and_burst(
    limit: RateLimit, pauses: list[float], *, is_full: bool
) -> None:
    begun = begin_all(TokenBucket(limit, 100.0, is_full=is_full), limit, pauses, 100.0)
    for first in range(0, len(begun), 7):
        for last in range(first, len(begun), 5):
            seconds = begun[last] - begun[first]
            assert last - first + 1 <= limit.per_second * seconds + limit.burst + 1e-3


@given(limit=rates)
def test_a_full_bucket_lets_a_burst_begin_at_once_and_no_more(limit: RateLimit) -> None:
    pace = TokenBucket(limit, 0.0, is_full=True)
    assert len(begin_all(pace, limit, [0.0], 0.0)) == limit.burst
    assert 0 < pace.wait_seconds(0.0) <= 1 / limit.per_second + 1e-5


@given(limit=rates)
def test_successor_starts_with_an_empty_bucket(limit: RateLimit) -> None:
    pace = TokenBucket(limit, 0.0, is_full=False)
    assert pace.wait_seconds(0.0) > 0
    assert pace.wait_seconds(1 / limit.per_second + 1e-5) == 0


@given(limit=rates, idle=st.floats(0, 10_000))
def test_however_long_it_was_idle_it_is_full_at_most(limit: RateLimit, idle: float) -> None:
    pace = TokenBucket(limit, 0.0, is_full=True)
    assert len(begin_all(pace, limit, [idle], 0.0)) <= limit.burst


@given(limit=rates)
def test_sender_without_pauses_reaches_the_rate(limit: RateLimit) -> None:
    pace, now, count = TokenBucket(limit, 0.0, is_full=False), 0.0, 100
    for _ in range(count):
        while (wait := pace.wait_seconds(now)) > 0:
            now += wait
        pace.take(now)
    assert now <= count / limit.per_second * 1.001 + 0.001


def test_without_a_limit_nothing_waits() -> None:
    pace = TokenBucket(None, 0.0, is_full=False)
    for _ in range(1_000):
        assert pace.wait_seconds(0.0) == 0
        pace.take(0.0)
