"""The shares of a cap, in simulations of lanes that take whatever they are given."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from discue.domain.concurrency import may_send

Lane = tuple[int, int]


class Load:
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
        return may_send(self.cap, self.in_flight, organization_in_flight, self.lanes[lane], self.lane_limit)

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


def run(load: Load, taken: list[tuple[str, Lane]]) -> None:
    for step, lane in taken:
        {"fill": load.fill, "send": load.send, "end": load.end}[step](lane)


@given(cap=st.integers(0, 200), limit=st.integers(1, 60), taken=steps)
def test_the_cap_and_the_limit_of_a_lane_are_never_passed(cap: int, limit: int, taken: list[tuple[str, Lane]]) -> None:
    load = Load(cap, limit)
    run(load, taken)
    assert load.in_flight <= cap
    assert all(held <= limit for held in load.lanes.values())


@given(cap=st.integers(16, 400), limit=st.integers(1, 400), taken=steps)
def test_a_new_organization_can_always_send(cap: int, limit: int, taken: list[tuple[str, Lane]]) -> None:
    load = Load(cap, limit)
    run(load, taken)
    assert load.allows((99, 0))
    assert cap - load.in_flight + 1 >= (cap + 1) / 2**4


@given(cap=st.integers(2, 1_000), others=st.integers(1, 50))
def test_one_organization_never_has_more_than_half_of_the_cap(cap: int, others: int) -> None:
    load = Load(cap, cap)
    for listener in range(others):
        load.fill((0, listener))
    assert load.in_flight <= cap // 2 + 1


@given(cap=st.integers(1, 1_000), limit=st.integers(1, 1_000))
def test_a_lane_alone_gets_its_limit_or_a_third_of_the_cap(cap: int, limit: int) -> None:
    load = Load(cap, limit)
    load.fill((0, 0))
    assert load.in_flight == min(limit, (cap + 2) // 3)


def test_hanging_listeners_settle_at_equal_shares_as_their_requests_end() -> None:
    load = Load(120, 120)
    hanging: list[Lane] = [(organization, listener) for organization in range(3) for listener in range(10)]
    for lane in hanging:
        load.fill(lane)
    for turn in range(300):
        load.end(hanging[turn % len(hanging)])
        for lane in hanging:
            load.send(lane)
    shares = Counter[int]()
    for (organization, _), held in load.lanes.items():
        shares[organization] += held
    assert all(abs(share - 120 // 4) <= 4 for share in shares.values())


def test_a_full_cap_stops_everybody() -> None:
    assert not may_send(10, 10, 0, 0, 50)


def test_a_single_place_is_usable() -> None:
    assert may_send(1, 0, 0, 0, 1)
