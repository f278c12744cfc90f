"""The window of a cursor: everything up to `position` is settled, and some messages ahead of it; intervals of seqs."""

from collections.abc import Iterable, Sequence

SPAN = 4_096
"""How far ahead of its position a cursor may settle messages."""


class Window:
    """The set of settled seqs of one cursor, whose messages it does not read again.

    A delivery with a row counts as settled here, even if it continues.

    `ahead` is a bitmap: bit i stands for seq `position + 1 + i`. Bit 0 is never set, because settling that message
    moves the position.
    """

    __slots__ = ("ahead", "position")

    def __init__(self, position: int, ahead: int = 0) -> None:
        """Raises ValueError if `ahead` is wider than the span."""
        if ahead < 0 or ahead.bit_length() > SPAN:
            raise ValueError(f"a window is at most {SPAN} bits wide")
        self.position = position
        self.ahead = ahead
        self._advance()

    def __repr__(self) -> str:
        return f"Window(position={self.position}, ahead={self.ahead:#x})"

    def fits(self, seq: int) -> bool:
        """Return whether `seq` can be settled now."""
        return seq <= self.position + SPAN

    def is_settled(self, seq: int) -> bool:
        offset = seq - self.position - 1
        return offset < 0 or bool(self.ahead >> offset & 1)

    @property
    def settled_count_beyond(self) -> int:
        return self.ahead.bit_count()

    @property
    def last_settled(self) -> int:
        return self.position + self.ahead.bit_length()

    @property
    def first_settled_beyond(self) -> int:
        """Lowest settled seq ahead of the position; the first seq beyond the span if there is none."""
        # x & -x isolates the lowest set bit.
        lowest = self.ahead & -self.ahead
        return self.position + (lowest.bit_length() if lowest else SPAN + 1)

    def settle(self, seq: int) -> None:
        """Settle one message; idempotent. Raises ValueError if it does not fit."""
        offset = seq - self.position - 1
        # The common case, messages settled in order, changes one integer.
        if offset == 0:
            self.position = seq
            if self.ahead:
                self.ahead >>= 1
                self._advance()
        elif offset > 0:
            if offset >= SPAN:
                raise ValueError(f"seq {seq} is more than {SPAN} beyond position {self.position}")
            self.ahead |= 1 << offset

    def settle_range(self, first: int, last: int) -> None:
        """Settle all of `first` to `last`, both included: a gap in the log, or a range of missed messages.

        Raises ValueError if `last` does not fit. A range that starts at the position may have any length.
        """
        offset = first - self.position - 1
        if offset <= 0:
            self.settle_through(last)
        elif not self.fits(last):
            raise ValueError(f"seq {last} is more than {SPAN} beyond position {self.position}")
        elif last >= first:
            # All bits at once: a range may have thousands of seqs.
            self.ahead |= ((1 << (last - first + 1)) - 1) << offset

    def settle_through(self, seq: int) -> None:
        """Settle everything up to `seq`, at any distance. The position never moves back."""
        step = seq - self.position
        if step > 0:
            self.position = seq
            self.ahead >>= step
            self._advance()

    def encode(self) -> bytes | None:
        """Return `ahead` in little-endian order, at most 512 bytes; None if it is 0."""
        if not self.ahead:
            return None
        return self.ahead.to_bytes((self.ahead.bit_length() + 7) // 8, "little")

    @classmethod
    def decode(cls, position: int, blob: bytes | None) -> "Window":
        """Return the window from its position and the result of `encode`. Raises ValueError if it is too wide."""
        return cls(position, int.from_bytes(blob or b"", "little"))

    def _advance(self) -> None:
        """Move the position over the run of settled messages that follows it."""
        if self.ahead & 1:
            # Adding 1 to a run of ones carries into the first zero, which gives the length of the run without a loop.
            run = (~self.ahead & (self.ahead + 1)).bit_length() - 1
            self.position += run
            self.ahead >>= run


# Closed intervals of seqs

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
    return sum(last - first + 1 for first, last in intervals)
