import asyncio
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.dispatch.lane.context import STARTS_PER_TURN
from discue.dispatch.lane.limits import ConcurrencyLimiter, Slots, Turns
from discue.domain.concurrency import AdaptiveLimit
from discue.store.time_slice import SLICE_SECONDS


class Limiter(ConcurrencyLimiter):
    """A limiter on an event loop whose turns the test begins."""

    def __init__(self, cap: int) -> None:
        self._next: list[Callable[[], None]] = []
        super().__init__(cap, Turns(time.monotonic, most=STARTS_PER_TURN, call_soon=self._in_next_turn))

    def _in_next_turn(self, function: Callable[[], None]) -> None:
        self._next.append(function)

    def begin_turn(self) -> bool:
        """Begin the next turn. False if there is nothing to do in it."""
        functions, self._next = self._next, []
        for function in functions:
            function()
        return bool(functions)

    def end_turns(self) -> None:
        while self.begin_turn():
            pass


class Lane:
    """A lane that sends as many requests as it may."""

    def __init__(self, limiter: Limiter, organization: int, waiting: int, max_in_flight: int = 50) -> None:
        self.limiter = limiter
        self.slots = Slots(organization, AdaptiveLimit(max_in_flight), self.pump)
        self.waiting = waiting
        self.sent = 0
        self.calls = 0

    def pump(self) -> None:
        self.calls += 1
        while self.waiting and self.limiter.acquire(self.slots):
            self.waiting -= 1
            self.sent += 1
        if self.waiting:
            self.limiter.wait(self.slots)

    def end(self) -> None:
        self.limiter.release(self.slots)
        self.limiter.pump_waiting()
        self.pump()
        self.limiter.end_turns()


def pumped(limiter: Limiter, organizations: list[int], waiting: int, max_in_flight: int = 50) -> list[Lane]:
    lanes = [Lane(limiter, organization, waiting, max_in_flight) for organization in organizations]
    for lane in lanes:
        lane.pump()
        limiter.end_turns()
    return lanes


def test_an_organization_with_many_lanes_does_not_keep_the_others_waiting() -> None:
    """The lanes of an organization take turns together: one of the others comes after each of them at the latest."""
    limiter = Limiter(30)
    many = pumped(limiter, [1] * 40, 1_000, 3)
    few = pumped(limiter, [2, 3], 1_000, 3)
    for turn in range(200):
        busy = [lane for lane in (*many, *few) if lane.slots.in_flight]
        busy[turn % len(busy)].end()
        assert [lane.slots.in_flight for lane in few] == [3, 3]
        assert sum(lane.slots.in_flight for lane in many) <= 15
    assert min(lane.sent for lane in few) > 3


def test_lanes_of_one_organization_take_turns() -> None:
    limiter = Limiter(8)
    lanes = pumped(limiter, [1] * 20, 100, 2)
    for _ in range(100):
        next(lane for lane in lanes if lane.slots.in_flight).end()
    assert min(lane.sent for lane in lanes) > 0


def test_lane_that_needs_no_slot_passes_its_turn_on() -> None:
    """Closed or disabled since: they were many, and the last request has just ended."""
    limiter = Limiter(2)
    [running] = pumped(limiter, [1], 1)
    gone = pumped(limiter, [1] * 10, 1)
    waiting = pumped(limiter, [1], 1)[0]
    assert waiting.slots.is_queued
    for lane in gone:
        lane.waiting = 0
    running.end()
    assert waiting.sent == 1


def test_lane_at_its_own_limit_is_not_queued() -> None:
    limiter = Limiter(100)
    [lane] = pumped(limiter, [1], 10, 2)
    assert (lane.slots.in_flight, lane.slots.is_queued) == (2, False)


def test_few_requests_start_in_one_turn_of_the_event_loop() -> None:
    limiter = Limiter(100)
    lane = Lane(limiter, 1, 30)
    lane.pump()
    started = [lane.sent]
    while limiter.begin_turn():
        started.append(lane.sent)
    assert started == [8, 16, 24, 30, 30]
    assert STARTS_PER_TURN == 8


def test_organizations_share_a_turn() -> None:
    """An organization with hundreds of listeners that fail at once leaves the next start to another one."""
    limiter = Limiter(1_000)
    many = [Lane(limiter, 1, 10) for _ in range(100)]
    for lane in many:
        lane.pump()
    other = Lane(limiter, 2, 1)
    other.pump()
    assert other.sent == 0
    limiter.begin_turn()
    assert other.sent == 1
    assert sum(lane.sent for lane in many) > STARTS_PER_TURN


def test_outcomes_start_no_more_than_a_turn_allows() -> None:
    limiter = Limiter(1_000)
    lanes = [Lane(limiter, 1, 10, 1) for _ in range(50)]
    for lane in lanes:
        lane.pump()
    limiter.end_turns()
    for lane in lanes:
        limiter.release(lane.slots)
        limiter.pump_waiting()
        lane.pump()
    assert sum(lane.sent for lane in lanes) == 50 + STARTS_PER_TURN
    limiter.end_turns()
    assert sum(lane.sent for lane in lanes) == 100


def test_requests_that_take_long_to_start_leave_as_much_time_to_others() -> None:
    async def start_three() -> list[float]:
        loop, started, ended = asyncio.get_running_loop(), list[float](), asyncio.Event()
        limiter = ConcurrencyLimiter(100, Turns(time.monotonic, most=STARTS_PER_TURN))

        def pump() -> None:
            while len(started) < 3 and limiter.acquire(slots):
                started.append(loop.time())
                limiter.turns.spend_since(time.monotonic() - SLICE_SECONDS)
            if len(started) == 3:
                ended.set()
            else:
                limiter.wait(slots)

        slots = Slots(1, AdaptiveLimit(50), pump)
        pump()
        await ended.wait()
        return started

    first, second, third = asyncio.run(start_three())
    assert second - first >= SLICE_SECONDS * 0.9
    assert third - second >= SLICE_SECONDS * 0.9


def test_organizations_without_a_free_slot_hold_up_nobody_else() -> None:
    """No outcome comes that would pump the next one: all their requests hang."""
    limiter = Limiter(1_000)
    hanging = [Lane(limiter, organization, 100, 4) for organization in range(1, 200)]
    for lane in hanging:
        lane.pump()
    limiter.end_turns()
    assert limiter.in_flight < 1_000
    # The next turn begins with all of these, which get no slot.
    for lane in hanging:
        lane.slots.adaptive.limit_to(50)
    started = [lane for lane in hanging if lane.waiting]
    limiter.turns.left = 0
    for lane in started:
        lane.pump()
    other = Lane(limiter, 1_000, 1)
    other.pump()
    assert other.sent == 0
    limiter.turns.enter()
    limiter.end_turns()
    assert other.sent == 1


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
    limiter = Limiter(cap)
    lanes = pumped(limiter, organizations, waiting, limit)
    total = len(lanes) * waiting
    for _ in range(total):
        busy = [index for index, lane in enumerate(lanes) if lane.slots.in_flight]
        assert limiter.in_flight == sum(lane.slots.in_flight for lane in lanes) <= cap
        assert all(lane.slots.in_flight <= limit for lane in lanes)
        lanes[pick(busy)].end()
    assert [lane.sent for lane in lanes] == [waiting] * len(lanes)
    assert limiter.in_flight == 0
    assert limiter._by_organization == {}
