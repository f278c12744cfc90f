"""How many requests may be under way to a listener that has too much to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.attempts import FailureKind, Outcome
from discue.domain.concurrency import AdaptiveLimit, signals_overload

WELL = Outcome(200, "", "", 1)
TOO_MANY = Outcome(429, "status", "", 1)
outcomes = st.sampled_from([WELL, TOO_MANY, Outcome(0, "timeout", "", 1), Outcome(500, "status", "", 1)])


@pytest.mark.parametrize(
    ("status", "error", "says_so"),
    [
        (429, "status", True),
        (503, "status", True),
        (0, "timeout", True),
        (0, "connect_timeout", True),
        (500, "status", False),
        (0, "reset", False),
        (200, "", False),
        (503, "reset", False),
    ],
)
def test_being_late_and_saying_so_are_signs_of_congestion(status: int, error: FailureKind, says_so: bool) -> None:  # noqa: FBT001
    assert signals_overload(Outcome(status, error, "", 1)) == says_so


@given(ceiling=st.integers(1, 1_000), ends=st.lists(outcomes, max_size=100))
def test_limit_stays_between_one_and_its_maximum(ceiling: int, ends: list[Outcome]) -> None:
    congestion = AdaptiveLimit(ceiling)
    for outcome in ends:
        congestion.ended(outcome, congestion.epoch)
        assert 1 <= congestion.allowed <= ceiling


def test_failures_of_requests_in_flight_together_halve_the_limit_once() -> None:
    congestion = AdaptiveLimit(40)
    epoch = congestion.epoch
    for _ in range(40):
        congestion.ended(TOO_MANY, epoch)
    assert congestion.allowed == 20
    congestion.ended(TOO_MANY, congestion.epoch)
    assert congestion.allowed == 10


def test_limit_grows_by_one_after_as_many_successes() -> None:
    congestion = AdaptiveLimit(40)
    congestion.ended(TOO_MANY, congestion.epoch)
    for _ in range(21):
        congestion.ended(WELL, congestion.epoch)
    assert congestion.allowed == 21


@given(ceiling=st.integers(1, 300), falls=st.integers(0, 12))
def test_a_listener_that_recovers_gets_all_of_its_limit_back(ceiling: int, falls: int) -> None:
    congestion = AdaptiveLimit(ceiling)
    for _ in range(falls):
        congestion.ended(TOO_MANY, congestion.epoch)
    for _ in range(ceiling * (ceiling + 1) // 2 + ceiling):
        congestion.ended(WELL, congestion.epoch)
    assert congestion.allowed == ceiling


def test_another_limit_counts_at_once_and_forgets_no_congestion() -> None:
    congestion = AdaptiveLimit(40)
    congestion.limit_to(100)
    assert congestion.allowed == 100
    congestion.ended(TOO_MANY, congestion.epoch)
    congestion.limit_to(80)
    assert congestion.allowed == 50
    congestion.limit_to(10)
    assert congestion.allowed == 10
