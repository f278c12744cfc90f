"""Token buckets, and budget slices in simulations of workers that share one limit."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.rate import (
    MINUTE_MS,
    MinuteWindow,
    RateLimit,
    TokenBucket,
    granted_share,
    refill_size,
    refill_threshold,
    reserve_size,
)
from tests.support.clocks import NOON

# The token bucket

rates = st.builds(RateLimit, per_second=st.floats(0.01, 1_000), burst=st.integers(1, 50))
steps = st.lists(st.floats(0, 5), min_size=1, max_size=200)


def start_all(bucket: TokenBucket, limit: RateLimit, pauses: list[float], start: float) -> list[float]:
    """Send as soon as possible after each pause. Return when the requests started."""
    now = start
    started: list[float] = []
    for pause in pauses:
        now += pause
        while bucket.wait_seconds(now) == 0 and len(started) < 2_000:
            bucket.take(now)
            started.append(now)
    return started


@given(limit=rates, pauses=steps, is_full=st.booleans())
def test_token_bucket_bounds_every_interval(limit: RateLimit, pauses: list[float], *, is_full: bool) -> None:
    started = start_all(TokenBucket(limit, 100.0, is_full=is_full), limit, pauses, 100.0)
    for first in range(0, len(started), 7):
        for last in range(first, len(started), 5):
            seconds = started[last] - started[first]
            assert last - first + 1 <= limit.per_second * seconds + limit.burst + 1e-3


@given(limit=rates)
def test_full_bucket_allows_exactly_one_burst(limit: RateLimit) -> None:
    bucket = TokenBucket(limit, 0.0, is_full=True)
    assert len(start_all(bucket, limit, [0.0], 0.0)) == limit.burst
    assert 0 < bucket.wait_seconds(0.0) <= 1 / limit.per_second + 1e-5


@given(limit=rates)
def test_bucket_after_a_handover_is_empty(limit: RateLimit) -> None:
    bucket = TokenBucket(limit, 0.0, is_full=False)
    assert bucket.wait_seconds(0.0) > 0
    assert bucket.wait_seconds(1 / limit.per_second + 1e-5) == 0


@given(limit=rates, idle=st.floats(0, 10_000))
def test_idle_bucket_is_never_more_than_full(limit: RateLimit, idle: float) -> None:
    bucket = TokenBucket(limit, 0.0, is_full=True)
    assert len(start_all(bucket, limit, [idle], 0.0)) <= limit.burst


@given(limit=rates)
def test_eager_sender_reaches_the_rate(limit: RateLimit) -> None:
    bucket, now, count = TokenBucket(limit, 0.0, is_full=False), 0.0, 100
    for _ in range(count):
        while (wait := bucket.wait_seconds(now)) > 0:
            now += wait
        bucket.take(now)
    assert now <= count / limit.per_second * 1.001 + 0.001


def test_bucket_without_a_limit_never_waits() -> None:
    bucket = TokenBucket(None, 0.0, is_full=False)
    for _ in range(1_000):
        assert bucket.wait_seconds(0.0) == 0
        bucket.take(0.0)


# Budget slices


@dataclass
class _Workers:
    """Workers with their reserves, and the count in the store."""

    limit: int
    workers: int
    taken: int = 0
    writes: int = 0
    admitted: int = 0
    refused: int = 0
    held: dict[int, int] = field(default_factory=dict)

    def request(self, worker: int) -> None:
        held = self.held.get(worker, 0) or self._take(worker, asked=1)
        if held == 0:
            self.refused += 1
            return
        self.admitted += 1
        self.held[worker] = held - 1
        if held - 1 <= refill_threshold(reserve_size(self.limit, self.workers)):
            self._take(worker, asked=0)

    def _take(self, worker: int, asked: int) -> int:
        held = self.held.get(worker, 0)
        wanted = refill_size(asked, held, reserve_size(self.limit, self.workers))
        if self.taken < self.limit:
            self.writes += 1
            self.taken += wanted
            held += granted_share(wanted, self.limit, self.taken)
        self.held[worker] = held
        return held


simulations = st.builds(_Workers, limit=st.integers(1, 5_000), workers=st.integers(1, 8))


@given(simulations, st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3_000)), max_size=40))
def test_rate_limit_is_never_exceeded_and_little_is_lost(simulation: _Workers, bursts: list[tuple[int, int]]) -> None:
    for worker, requests in bursts:
        for _ in range(requests):
            simulation.request(worker % simulation.workers)
        if simulation.refused:
            break
    assert simulation.admitted <= simulation.limit
    if simulation.refused:
        assert simulation.admitted >= 0.95 * simulation.limit


@given(st.integers(1, 2_000_000), st.integers(1, 1_000))
def test_reserves_are_at_most_a_twentieth_together(limit: int, workers: int) -> None:
    assert (workers - 1) * reserve_size(limit, workers) <= limit / 20


@pytest.mark.parametrize("limit", [1, 5, 60, 139])
def test_small_limit_has_no_reserve(limit: int) -> None:
    assert reserve_size(limit, 1) == 0
    assert refill_size(1, 0, reserve_size(limit, 1)) == 1


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_busy_key_needs_few_writes(workers: int) -> None:
    simulation = _Workers(60_000, workers)
    while not simulation.refused:
        simulation.request(simulation.admitted % workers)
    assert simulation.writes < 155
    assert simulation.admitted >= 57_000


@given(st.integers(1, 100), st.lists(st.integers(1, 30)))
def test_granted_shares_add_up_to_the_limit(limit: int, requests: list[int]) -> None:
    taken = granted = 0
    for wanted in requests:
        taken += wanted
        granted += granted_share(wanted, limit, taken)
    assert granted == min(limit, sum(requests))


def test_minute_starts_on_a_utc_minute() -> None:
    minutes = MinuteWindow()
    now = NOON // MINUTE_MS * MINUTE_MS + 20_000
    assert minutes.advance(now, 100.0)
    assert minutes.reset_at * 1_000 == now + 40_000
    assert not minutes.advance(now + 39_999, 140.0)
    assert minutes.advance(now + 40_000, 140.0)
    assert minutes.number == now // MINUTE_MS + 1


def test_minute_does_not_restart_when_the_clock_is_set_back() -> None:
    minutes = MinuteWindow()
    now = NOON // MINUTE_MS * MINUTE_MS + 20_000
    minutes.advance(now, 100.0)
    assert not minutes.advance(now - 600_000, 100.1)
    assert not minutes.advance(now - 570_000, 139.9)
    assert minutes.advance(now - 560_000, 140.0)
    assert minutes.number == (now - 560_000) // MINUTE_MS
