"""How a minute is shared out: any number of workers, asked in any order, with a store that only adds up."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.rate import MINUTE_MS, MinuteWindow, granted_share, refill_size, refill_threshold, reserve_size
from tests.support.clocks import NOON


@dataclass
class _World:
    """Workers with what each holds, and the one count that they share."""

    limit: int
    workers: int
    taken: int = 0
    writes: int = 0
    admitted: int = 0
    refused: int = 0
    held: dict[int, int] = field(default_factory=dict)

    def ask(self, worker: int) -> None:
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


worlds = st.builds(_World, limit=st.integers(1, 5_000), workers=st.integers(1, 8))


@given(worlds, st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3_000)), max_size=40))
def test_never_more_than_the_limit_is_admitted_and_little_is_lost_in_any_order(
    world: _World, asking: list[tuple[int, int]]
) -> None:
    for worker, requests in asking:
        for _ in range(requests):
            world.ask(worker % world.workers)
        if world.refused:
            break
    assert world.admitted <= world.limit
    if world.refused:
        assert world.admitted >= 0.95 * world.limit


@given(st.integers(1, 2_000_000), st.integers(1, 1_000))
def test_all_workers_but_one_hold_a_twentieth_together(limit: int, workers: int) -> None:
    assert (workers - 1) * reserve_size(limit, workers) <= limit / 20


@pytest.mark.parametrize("limit", [1, 5, 60, 139])
def test_a_small_limit_is_counted_one_by_one(limit: int) -> None:
    assert reserve_size(limit, 1) == 0
    assert refill_size(1, 0, reserve_size(limit, 1)) == 1


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_a_busy_key_costs_few_writes(workers: int) -> None:
    world = _World(60_000, workers)
    while not world.refused:
        world.ask(world.admitted % workers)
    assert world.writes < 155
    assert world.admitted >= 57_000


@given(st.integers(1, 100), st.lists(st.integers(1, 30)))
def test_grants_add_up_to_the_limit(limit: int, wishes: list[int]) -> None:
    taken = granted = 0
    for wanted in wishes:
        taken += wanted
        granted += granted_share(wanted, limit, taken)
    assert granted == min(limit, sum(wishes))


def test_a_minute_begins_on_the_minute_of_utc() -> None:
    minutes = MinuteWindow()
    now = NOON // MINUTE_MS * MINUTE_MS + 20_000
    assert minutes.advance(now, 100.0)
    assert minutes.reset_at * 1_000 == now + 40_000
    assert not minutes.advance(now + 39_999, 140.0)
    assert minutes.advance(now + 40_000, 140.0)
    assert minutes.number == now // MINUTE_MS + 1


def test_a_clock_that_is_set_back_opens_no_second_minute_within_one() -> None:
    minutes = MinuteWindow()
    now = NOON // MINUTE_MS * MINUTE_MS + 20_000
    minutes.advance(now, 100.0)
    assert not minutes.advance(now - 600_000, 100.1)
    assert not minutes.advance(now - 570_000, 139.9)
    assert minutes.advance(now - 560_000, 140.0)
    assert minutes.number == (now - 560_000) // MINUTE_MS
