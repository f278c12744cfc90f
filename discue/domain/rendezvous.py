"""Rendezvous hashing: workers that see the same members agree on the owner of each item without communication.

If a member leaves, only its items move; if one joins, only the items that it gets move.
"""

from collections.abc import Sequence

_MASK = (1 << 64) - 1
# Odd 64-bit constants with well-mixed bits (SplitMix64): multiplying by them spreads differences into the high bits.
_FIRST = 0x9E3779B97F4A7C15
_SECOND = 0xBF58476D1CE4E5B9


class Rendezvous:
    """The assignment of items to a set of members. An item is identified by a tuple of integers."""

    def __init__(self, members: Sequence[int]) -> None:
        """Raises ValueError without members."""
        if not members:
            raise ValueError("there are no members")
        # Sorted: of two equal weights the first wins, and that must not depend on the caller's order.
        self._members = [(member, _mixed(member)) for member in sorted(members)]

    def owner_of(self, item: tuple[int, ...]) -> int:
        """Return the member that owns an item."""
        number = 0
        for part in item:
            number = _mixed(number ^ part)
        best, chosen = -1, 0
        for member, salt in self._members:
            weight = ((number ^ salt) * _SECOND) & _MASK
            weight = ((weight ^ (weight >> 32)) * _FIRST) & _MASK
            if weight > best:
                best, chosen = weight, member
        return chosen


def _mixed(number: int) -> int:
    number = (number * _FIRST) & _MASK
    number = ((number ^ (number >> 30)) * _SECOND) & _MASK
    return number ^ (number >> 31)
