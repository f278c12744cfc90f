"""Who should do what among several: everybody who sees the same members comes to the same answer, without a word.

When a member goes, only what it had moves; when one comes, only what it gets.
"""

from collections.abc import Sequence

_MASK = (1 << 64) - 1
# Odd numbers with well mixed bits: multiplying by them spreads whatever differs into the high bits.
_FIRST = 0x9E3779B97F4A7C15
_SECOND = 0xBF58476D1CE4E5B9


class Rendezvous:
    """Among some members, which one each thing belongs to. A thing is named by a few whole numbers."""

    def __init__(self, members: Sequence[int]) -> None:
        if not members:
            raise ValueError("nobody is there")
        # Of two equal weights the first counts: the order must not be the caller's.
        self._members = [(member, _mixed(member)) for member in sorted(members)]

    def preferred(self, thing: tuple[int, ...]) -> int:
        """The member that the thing belongs to."""
        number = 0
        for part in thing:
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
