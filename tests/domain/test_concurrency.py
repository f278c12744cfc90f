"""Limits of requests in flight, in simulations of lanes that take every slot they may."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.attempts import FailureKind, Outcome
from discue.domain.concurrency import AdaptiveLimit, Claim, fair_share, may_send, may_take_slot, signals_overload

# The global cap

Lane = tuple[int, int]


class Simulation:
    """Requests in flight under one cap, by organization and lane."""

    def __init__(self, cap: int, lane_limit: int) -> None:
        self.cap = cap
        self.lane_limit = lane_limit
        self.lanes: Counter[Lane] = Counter()

    @property
    def in_flight(self) -> int:
        return self.lanes.total()

    def allows(self, lane: Lane) -> bool:
        organization_in_flight = sum(held for other, held in self.lanes.items() if other[0] == lane[0])
        return may_send(self.cap, self.in_flight, organization_in_flight, self.lanes[lane], lane_limit=self.lane_limit)

    def send(self, lane: Lane) -> bool:
        allowed = self.allows(lane)
        if allowed:
            self.lanes[lane] += 1
        return allowed

    def end(self, lane: Lane) -> None:
        self.lanes[lane] = max(0, self.lanes[lane] - 1)

    def fill(self, lane: Lane) -> None:
        while self.send(lane):
            pass


organizations = st.integers(0, 3)
lanes = st.tuples(organizations, st.integers(0, 9))
steps = st.lists(st.tuples(st.sampled_from(["fill", "send", "end"]), lanes), max_size=30)


def run(simulation: Simulation, actions: list[tuple[str, Lane]]) -> None:
    for step, lane in actions:
        {"fill": simulation.fill, "send": simulation.send, "end": simulation.end}[step](lane)


@given(cap=st.integers(0, 200), limit=st.integers(1, 60), actions=steps)
def test_cap_and_lane_limit_are_never_exceeded(cap: int, limit: int, actions: list[tuple[str, Lane]]) -> None:
    simulation = Simulation(cap, limit)
    run(simulation, actions)
    assert simulation.in_flight <= cap
    assert all(held <= limit for held in simulation.lanes.values())


@given(cap=st.integers(16, 400), limit=st.integers(1, 400), actions=steps)
def test_new_organization_can_always_send(cap: int, limit: int, actions: list[tuple[str, Lane]]) -> None:
    simulation = Simulation(cap, limit)
    run(simulation, actions)
    assert simulation.allows((99, 0))
    assert cap - simulation.in_flight + 1 >= (cap + 1) / 2**4


@given(cap=st.integers(2, 1_000), others=st.integers(1, 50))
def test_organization_has_at_most_half_of_the_cap(cap: int, others: int) -> None:
    simulation = Simulation(cap, cap)
    for listener in range(others):
        simulation.fill((0, listener))
    assert simulation.in_flight <= cap // 2 + 1


@given(cap=st.integers(1, 1_000), limit=st.integers(1, 1_000))
def test_single_lane_gets_its_limit_or_a_third_of_the_cap(cap: int, limit: int) -> None:
    simulation = Simulation(cap, limit)
    simulation.fill((0, 0))
    assert simulation.in_flight == min(limit, (cap + 2) // 3)


def test_hanging_organizations_converge_to_equal_shares() -> None:
    simulation = Simulation(120, 120)
    hanging: list[Lane] = [(organization, listener) for organization in range(3) for listener in range(10)]
    for lane in hanging:
        simulation.fill(lane)
    for turn in range(300):
        simulation.end(hanging[turn % len(hanging)])
        for lane in hanging:
            simulation.send(lane)
    shares = Counter[int]()
    for (organization, _), held in simulation.lanes.items():
        shares[organization] += held
    assert all(abs(share - 120 // 4) <= 4 for share in shares.values())


# The fair share of the slots of one listener

SEVERAL = st.integers(2, 5)
SLOTS = st.integers(1, 30)


class Claimants:
    """Lanes that share slots. Lanes in `eager` always want one more."""

    def __init__(self, slots: int, claimants: int) -> None:
        self.slots = slots
        self.taken: Counter[int] = Counter()
        self.all_taken: Counter[int] = Counter()
        self.turns = dict(enumerate(range(claimants)))
        self.eager = set(self.turns)

    def may(self, lane: int) -> bool:
        waiting = [self.claim(each) for each in self.eager if each != lane]
        return may_take_slot(self.slots, self.taken.total(), self.claim(lane), waiting)

    def claim(self, lane: int) -> Claim:
        return Claim(self.taken[lane], self.turns[lane])

    def take(self, lane: int) -> None:
        self.taken[lane] += 1
        self.all_taken[lane] += 1
        self.turns[lane] = max(self.turns.values()) + 1

    def fill(self) -> None:
        while free := [each for each in sorted(self.eager) if self.may(each)]:
            self.take(free[0])

    def end(self, lane: int) -> None:
        self.taken[lane] = max(0, self.taken[lane] - 1)


@given(SLOTS, SEVERAL, st.data())
def test_slots_are_never_exceeded_nor_left_unused(slots: int, claimants: int, data: st.DataObject) -> None:
    sharing = Claimants(slots, claimants)
    for _ in range(40):
        sharing.eager = data.draw(st.sets(st.integers(0, claimants - 1)))
        sharing.fill()
        assert sharing.taken.total() <= slots
        assert sharing.taken.total() == slots or not sharing.eager
        sharing.end(data.draw(st.integers(0, claimants - 1)))


@given(SLOTS, SEVERAL, st.integers(0, 4), st.lists(st.integers(0, 4), min_size=80, max_size=160))
def test_claimant_with_all_slots_falls_to_its_share(slots: int, claimants: int, first: int, ends: list[int]) -> None:
    sharing = Claimants(slots, claimants)
    sharing.eager = {first % claimants}
    sharing.fill()
    assert sharing.taken[first % claimants] == slots
    sharing.eager = set(range(claimants))
    for _ in range(slots):
        sharing.end(first % claimants)
        sharing.fill()
    for lane in ends:
        sharing.end(lane % claimants)
        sharing.fill()
        assert max(sharing.taken.values()) <= fair_share(slots, claimants)


@given(SLOTS, SEVERAL)
def test_equal_claimants_get_equal_counts(slots: int, claimants: int) -> None:
    sharing = Claimants(slots, claimants)
    order: list[int] = []
    for _ in range(200):
        before = sharing.all_taken.copy()
        sharing.fill()
        order += (sharing.all_taken - before).elements()
        sharing.end(order.pop(0))
    counts = [sharing.all_taken[lane] for lane in range(claimants)]
    assert max(counts) - min(counts) <= slots + claimants


# The adaptive limit of an endpoint

ACKNOWLEDGED = Outcome(200, "", "", 1)
TOO_MANY = Outcome(429, "status", "", 1)
outcomes = st.sampled_from([ACKNOWLEDGED, TOO_MANY, Outcome(0, "timeout", "", 1), Outcome(500, "status", "", 1)])


@pytest.mark.parametrize(
    ("status", "error", "expected"),
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
def test_timeouts_429_and_503_signal_overload(status: int, error: FailureKind, expected: bool) -> None:  # noqa: FBT001
    assert signals_overload(Outcome(status, error, "", 1)) == expected


@given(ceiling=st.integers(1, 1_000), history=st.lists(outcomes, max_size=100))
def test_adaptive_limit_is_between_1_and_the_ceiling(ceiling: int, history: list[Outcome]) -> None:
    limit = AdaptiveLimit(ceiling)
    for outcome in history:
        limit.ended(outcome, limit.epoch)
        assert 1 <= limit.allowed <= ceiling


def test_requests_of_one_epoch_halve_the_limit_once() -> None:
    limit = AdaptiveLimit(40)
    epoch = limit.epoch
    for _ in range(40):
        limit.ended(TOO_MANY, epoch)
    assert limit.allowed == 20
    limit.ended(TOO_MANY, limit.epoch)
    assert limit.allowed == 10


def test_limit_rises_by_one_after_as_many_successes() -> None:
    limit = AdaptiveLimit(40)
    limit.ended(TOO_MANY, limit.epoch)
    for _ in range(21):
        limit.ended(ACKNOWLEDGED, limit.epoch)
    assert limit.allowed == 21


@given(ceiling=st.integers(1, 300), falls=st.integers(0, 12))
def test_recovered_listener_gets_its_full_limit(ceiling: int, falls: int) -> None:
    limit = AdaptiveLimit(ceiling)
    for _ in range(falls):
        limit.ended(TOO_MANY, limit.epoch)
    for _ in range(ceiling * (ceiling + 1) // 2 + ceiling):
        limit.ended(ACKNOWLEDGED, limit.epoch)
    assert limit.allowed == ceiling


def test_changed_ceiling_applies_at_once() -> None:
    limit = AdaptiveLimit(40)
    limit.limit_to(100)
    assert limit.allowed == 100
    limit.ended(TOO_MANY, limit.epoch)
    limit.limit_to(80)
    assert limit.allowed == 50
    limit.limit_to(10)
    assert limit.allowed == 10
