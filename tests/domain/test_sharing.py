"""Places shared by turns, in simulations of claimants that take whatever they may."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from discue.domain.concurrency import Claim, fair_share, may_take_slot

SEVERAL = st.integers(2, 5)
PLACES = st.integers(1, 30)


class Taking:
    """Some that share places. Those in `eager` want one at any time."""

    def __init__(self, places: int, claimants: int) -> None:
        self.places = places
        self.taken: Counter[int] = Counter()
        self.all_taken: Counter[int] = Counter()
        self.turns = dict(enumerate(range(claimants)))
        self.eager = set(self.turns)

    def may(self, one: int) -> bool:
        waiting = [self.claim(each) for each in self.eager if each != one]
        return may_take_slot(self.places, self.taken.total(), self.claim(one), waiting)

    def claim(self, one: int) -> Claim:
        return Claim(self.taken[one], self.turns[one])

    def take(self, one: int) -> None:
        self.taken[one] += 1
        self.all_taken[one] += 1
        self.turns[one] = max(self.turns.values()) + 1

    def fill(self) -> None:
        while free := [each for each in sorted(self.eager) if self.may(each)]:
            self.take(free[0])

    def end(self, one: int) -> None:
        self.taken[one] = max(0, self.taken[one] - 1)


@given(PLACES, SEVERAL, st.data())
def test_never_more_are_taken_than_there_are_and_never_fewer_than_are_wanted(
    places: int, claimants: int, data: st.DataObject
) -> None:
    taking = Taking(places, claimants)
    for _ in range(40):
        taking.eager = data.draw(st.sets(st.integers(0, claimants - 1)))
        taking.fill()
        assert taking.taken.total() <= places
        assert taking.taken.total() == places or not taking.eager
        taking.end(data.draw(st.integers(0, claimants - 1)))


@given(PLACES, SEVERAL, st.integers(0, 4), st.lists(st.integers(0, 4), min_size=80, max_size=160))
def test_sole_user_gives_up_all_but_its_share(places: int, claimants: int, first: int, ends: list[int]) -> None:
    taking = Taking(places, claimants)
    taking.eager = {first % claimants}
    taking.fill()
    assert taking.taken[first % claimants] == places
    taking.eager = set(range(claimants))
    for _ in range(places):
        taking.end(first % claimants)
        taking.fill()
    for one in ends:
        taking.end(one % claimants)
        taking.fill()
        assert max(taking.taken.values()) <= fair_share(places, claimants)


@given(PLACES, SEVERAL)
def test_lanes_with_equal_durations_have_equal_shares(places: int, claimants: int) -> None:
    taking = Taking(places, claimants)
    order: list[int] = []
    for _ in range(200):
        before = taking.all_taken.copy()
        taking.fill()
        order += (taking.all_taken - before).elements()
        taking.end(order.pop(0))
    counts = [taking.all_taken[one] for one in range(claimants)]
    assert max(counts) - min(counts) <= places + claimants
