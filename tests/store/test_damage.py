"""Damage that a worker has found: each part is new once, and forgotten ten minutes after the last failed read."""

from discue.store.engine import QueueKey
from discue.store.store import RecentFaults
from tests.support.clocks import StandingClock

QUEUE = (1, 2)
MINUTE_MS = 60_000


def test_part_is_new_once_while_its_reads_fail() -> None:
    clock = StandingClock()
    damage = RecentFaults[QueueKey](clock.monotonic)
    for _ in range(3):
        damage.note(QUEUE)
        clock.advance(9 * MINUTE_MS)
    assert damage.parts() == {QUEUE}
    assert damage.take_new() == [QUEUE]
    assert damage.take_new() == []


def test_part_is_forgotten_after_ten_minutes_and_is_new_again() -> None:
    clock = StandingClock()
    damage = RecentFaults[QueueKey](clock.monotonic)
    damage.note(QUEUE)
    clock.advance(5 * MINUTE_MS)
    damage.note(None)
    clock.advance(5 * MINUTE_MS)
    assert damage.parts() == {None}
    damage.note(QUEUE)
    assert damage.parts() == {None, QUEUE}
    assert damage.take_new() == [QUEUE, None, QUEUE]


def test_damaged_queues_beyond_a_thousand_count_as_one_part() -> None:
    damage = RecentFaults[QueueKey](StandingClock().monotonic)
    for queue in range(1_500):
        damage.note((1, queue))
    assert len(damage.parts()) == 1_001
    assert None in damage.parts()
