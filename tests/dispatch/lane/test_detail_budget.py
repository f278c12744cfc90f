"""The budget of attempt details, and how much of each response body they keep."""

import os

import pytest

from discue.dispatch.lane.context import SHORT_BODY_BYTES, DetailBudget
from discue.domain.attempts import decode_detail
from tests.dispatch.stage import badly, well, with_trace
from tests.support.clocks import StandingClock

HOUR_MS = 3_600_000
BODY = os.urandom(16_384)


@pytest.mark.parametrize(
    ("number", "next_attempt_at", "kept"),
    [(1, 9, len(BODY)), (2, 9, SHORT_BODY_BYTES), (11, 9, SHORT_BODY_BYTES), (12, 0, len(BODY)), (1, 0, len(BODY))],
)
def test_first_and_last_failure_keep_the_whole_body(number: int, next_attempt_at: int, kept: int) -> None:
    details = DetailBudget(StandingClock(), 1 << 20, lambda: 1)
    detail = decode_detail(details.encode(1, number, with_trace(badly(), BODY), next_attempt_at))
    assert (detail.body, detail.body_bytes, detail.next_attempt_at) == (BODY[:kept], len(BODY), next_attempt_at)


def test_acknowledged_attempt_keeps_the_whole_body() -> None:
    details = DetailBudget(StandingClock(), 1 << 20, lambda: 1)
    assert decode_detail(details.encode(1, 5, with_trace(well(), BODY), 0)).body == BODY


def test_attempt_without_a_trace_keeps_nothing() -> None:
    assert DetailBudget(StandingClock(), 1 << 20, lambda: 1).encode(1, 1, badly(), 0) == b""


def used(details: DetailBudget, organization: int, *, fails: bool = True, count: int = 200) -> int:
    outcome = with_trace(badly() if fails else well(), BODY)
    return sum(len(details.encode(organization, 1, outcome, 9)) for _ in range(count))


def test_budget_is_of_one_organization_and_one_hour() -> None:
    clock = StandingClock()
    details = DetailBudget(clock, 1 << 20, lambda: 1)
    for _ in range(2):
        for organization in (1, 2):
            assert 1_000_000 < used(details, organization) <= 1 << 20
            assert used(details, organization) == 0
        clock.advance(HOUR_MS)


def test_workers_share_the_budget() -> None:
    assert used(DetailBudget(StandingClock(), 1 << 20, lambda: 4), 1) <= 1 << 18


def test_acknowledged_attempts_leave_half_of_the_budget_for_failures() -> None:
    details = DetailBudget(StandingClock(), 1 << 20, lambda: 1)
    assert 500_000 < used(details, 1, fails=False) <= 1 << 19
    assert 500_000 < used(details, 1) <= 1 << 19


def test_budget_of_nothing_keeps_nothing() -> None:
    assert used(DetailBudget(StandingClock(), 0, lambda: 1), 1, count=1) == 0
