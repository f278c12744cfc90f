from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.dispatch.lane.gate import ConcurrencyLimiter


class Lane:
    """A lane that sends as many requests as it may, and remembers how many are under way."""

    def __init__(self, gate: ConcurrencyLimiter, organization: int, waiting: int, max_in_flight: int = 50) -> None:
        self.gate = gate
        self.organization = organization
        self.max_in_flight = max_in_flight
        self.in_flight_count = 0
        self.is_queued = False
        self.waiting = waiting
        self.sent = 0
        self.calls = 0

    def pump(self) -> None:
        self.calls += 1
        while self.waiting and self.gate.enter(self):
            self.waiting -= 1
            self.sent += 1
            self.in_flight_count += 1

    def end(self) -> None:
        self.in_flight_count -= 1
        self.gate.leave(self.organization)
        self.gate.call_waiting()
        self.pump()


def pumped(gate: ConcurrencyLimiter, organizations: list[int], waiting: int, max_in_flight: int = 50) -> list[Lane]:
    lanes = [Lane(gate, organization, waiting, max_in_flight) for organization in organizations]
    for lane in lanes:
        lane.pump()
    return lanes


def test_one_lane_alone_stops_at_a_third_and_one_organization_at_half() -> None:
    gate = ConcurrencyLimiter(90)
    [lane] = pumped(gate, [1], 1_000, 1_000)
    assert lane.in_flight_count == 30
    gate = ConcurrencyLimiter(90)
    pumped(gate, [1] * 30, 1_000, 1_000)
    assert gate.in_flight == 45


def test_a_place_that_comes_free_goes_to_whoever_waits() -> None:
    gate = ConcurrencyLimiter(12)
    first, second = pumped(gate, [1, 2], 100, 4)
    blocked = Lane(gate, 3, 5, 4)
    blocked.pump()
    sent = blocked.sent
    while blocked.sent == sent:
        (first if first.in_flight_count else second).end()
    assert blocked.sent > sent


def test_an_organization_with_many_lanes_does_not_keep_the_others_waiting() -> None:
    """Its lanes take their turns together: one of the others comes after each of them at the latest."""
    gate = ConcurrencyLimiter(30)
    many = pumped(gate, [1] * 40, 1_000, 3)
    few = pumped(gate, [2, 3], 1_000, 3)
    for turn in range(200):
        busy = [lane for lane in (*many, *few) if lane.in_flight_count]
        busy[turn % len(busy)].end()
        assert [lane.in_flight_count for lane in few] == [3, 3]
        assert sum(lane.in_flight_count for lane in many) <= 15
    assert min(lane.sent for lane in few) > 3


def test_lanes_of_one_organization_take_turns() -> None:
    gate = ConcurrencyLimiter(8)
    lanes = pumped(gate, [1] * 20, 100, 2)
    for _ in range(100):
        next(lane for lane in lanes if lane.in_flight_count).end()
    assert min(lane.sent for lane in lanes) > 0


def test_lanes_that_need_no_place_any_more_do_not_use_up_the_turn_of_those_that_do() -> None:
    """Closed or disabled since: they were many, and the last request has just ended."""
    gate = ConcurrencyLimiter(2)
    [running] = pumped(gate, [1], 1)
    gone = pumped(gate, [1] * 10, 1)
    waiting = pumped(gate, [1], 1)[0]
    assert waiting.is_queued
    for lane in gone:
        lane.waiting = 0
    running.end()
    assert waiting.sent == 1


def test_a_lane_at_its_own_limit_does_not_wait_at_the_gate() -> None:
    gate = ConcurrencyLimiter(100)
    [lane] = pumped(gate, [1], 10, 2)
    assert (lane.in_flight_count, lane.is_queued) == (2, False)


@pytest.mark.parametrize("pick", [min, max])
@given(
    cap=st.integers(1, 40),
    limit=st.integers(1, 10),
    organizations=st.lists(st.integers(0, 4), min_size=1, max_size=25),
    waiting=st.integers(1, 6),
)
def test_no_cap_is_ever_exceeded_and_everybody_is_served(
    pick: Callable[[list[int]], int], cap: int, limit: int, organizations: list[int], waiting: int
) -> None:
    gate = ConcurrencyLimiter(cap)
    lanes = pumped(gate, organizations, waiting, limit)
    total = len(lanes) * waiting
    for _ in range(total):
        busy = [index for index, lane in enumerate(lanes) if lane.in_flight_count]
        assert gate.in_flight == sum(lane.in_flight_count for lane in lanes) <= cap
        assert all(lane.in_flight_count <= limit for lane in lanes)
        lanes[pick(busy)].end()
    assert [lane.sent for lane in lanes] == [waiting] * len(lanes)
    assert gate.in_flight == 0
    assert gate._by_organization == {}
