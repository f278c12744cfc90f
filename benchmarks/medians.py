"""What is made of repeated measurements: medians, pairs, quantiles, and how much of it is noise."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

__all__ = ["differences", "median", "noise", "quantile", "ratio"]


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of what each interleaved pair says. Raises ValueError when they are not pairs."""
    return median(one / other for one, other in zip(above, below, strict=True))


def differences(more: Sequence[float], less: Sequence[float]) -> list[float]:
    """What each interleaved pair differs by."""
    return [one - other for one, other in zip(more, less, strict=True)]


def noise(values: Sequence[float]) -> float:
    """How far a thing is from itself: the median relative difference of neighbouring runs of the same thing."""
    if len(values) < 2:
        return 0.0
    return median(abs(later / earlier - 1) for earlier, later in pairwise(values))


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least `part` of all values do not exceed (nearest rank)."""
    if not values:
        raise ValueError("a quantile needs values")
    ordered = sorted(values)
    rank = -(-len(ordered) * part // 1)
    return ordered[max(0, int(rank) - 1)]
