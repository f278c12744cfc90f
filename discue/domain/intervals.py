"""Stretches of a log that were missed, and what is left of one when some of it is taken out."""

from collections.abc import Iterable, Sequence

Interval = tuple[int, int]
"""The first and the last of consecutive seqs."""


def to_intervals(seqs: Iterable[int]) -> list[Interval]:
    """Seqs in rising order as stretches, as few as there can be."""
    runs: list[Interval] = []
    for seq in seqs:
        if runs and runs[-1][1] == seq - 1:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return runs


def subtract(whole: Interval, taken: Sequence[Interval]) -> list[Interval]:
    """What is left of a stretch without others, which lie within it, apart from each other and in rising order."""
    left: list[Interval] = []
    first, last = whole
    for taken_first, taken_last in taken:
        if first < taken_first:
            left.append((first, taken_first - 1))
        first = taken_last + 1
    if first <= last:
        left.append((first, last))
    return left


def total_length(stretches: Iterable[Interval]) -> int:
    """How many seqs they have."""
    return sum(last - first + 1 for first, last in stretches)
