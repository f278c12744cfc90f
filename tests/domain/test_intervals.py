from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from discue.domain.intervals import subtract, to_intervals, total_length

seqs = st.sets(st.integers(1, 60), max_size=40).map(sorted)


def _members(stretches: list[tuple[int, int]]) -> list[int]:
    return [seq for first, last in stretches for seq in range(first, last + 1)]


@given(seqs)
def test_intervals_are_minimal_and_complete(chosen: list[int]) -> None:
    runs = to_intervals(chosen)
    assert _members(runs) == chosen
    assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(runs))


@given(st.integers(1, 30), st.integers(0, 30), seqs)
def test_remainder_and_taken_partition_the_whole(first: int, length: int, chosen: list[int]) -> None:
    whole = (first, first + length)
    taken = to_intervals(seq for seq in chosen if whole[0] <= seq <= whole[1])
    left = subtract(whole, taken)
    assert sorted([*_members(left), *_members(taken)]) == list(range(whole[0], whole[1] + 1))
    assert all(first <= last for first, last in left)
    assert total_length(left) + total_length(taken) == total_length([whole])
