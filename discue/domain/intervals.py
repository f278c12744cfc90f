"""Closed intervals of seqs."""

from collections.abc import Iterable, Sequence

Interval = tuple[int, int]
"""First and last seq, both included."""


def to_intervals(seqs: Iterable[int]) -> list[Interval]:
    """Return ascending seqs as the smallest number of intervals."""
    intervals: list[Interval] = []
    for seq in seqs:
        if intervals and intervals[-1][1] == seq - 1:
            intervals[-1] = (intervals[-1][0], seq)
        else:
            intervals.append((seq, seq))
    return intervals


def subtract(whole: Interval, taken: Sequence[Interval]) -> list[Interval]:
    """Return what remains of an interval without others, which must be inside it, disjoint and ascending."""
    left: list[Interval] = []
    first, last = whole
    for taken_first, taken_last in taken:
        if first < taken_first:
            left.append((first, taken_first - 1))
        first = taken_last + 1
    if first <= last:
        left.append((first, last))
    return left


def total_length(intervals: Iterable[Interval]) -> int:
    """Return the number of seqs in disjoint intervals."""
    return sum(last - first + 1 for first, last in intervals)
