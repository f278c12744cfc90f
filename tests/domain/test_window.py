"""The window of a cursor, compared with a plain set of settled seqs."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from discue.domain.window import SPAN, Window, subtract, to_intervals, total_length


def test_seq_beyond_the_span_is_rejected() -> None:
    window = Window(100)
    window.settle(100 + SPAN)
    with pytest.raises(ValueError, match="beyond position 100"):
        window.settle(100 + SPAN + 1)
    with pytest.raises(ValueError, match="beyond position 100"):
        window.settle_range(200, 100 + SPAN + 1)
    assert not window.fits(100 + SPAN + 1)
    assert (window.position, window.settled_count_beyond) == (100, 1)


def test_range_at_the_position_may_exceed_the_span() -> None:
    window = Window(0)
    window.settle(2)
    window.settle_range(1, 10_000_000)
    assert (window.position, window.ahead) == (10_000_000, 0)


def test_empty_window_is_encoded_as_none() -> None:
    assert Window(7).encode() is None
    assert Window.decode(7, None).position == 7


def test_full_window_is_encoded_in_512_bytes() -> None:
    window = Window(0)
    window.settle_range(2, SPAN)
    blob = window.encode()
    assert blob is not None
    assert len(blob) == 512


@pytest.mark.parametrize("blob", [bytes(512) + b"\x01", b"\xff" * 600])
def test_window_beyond_the_span_is_rejected(blob: bytes) -> None:
    with pytest.raises(ValueError, match="4096 bits"):
        Window.decode(0, blob)


def test_negative_bitmap_is_rejected() -> None:
    with pytest.raises(ValueError, match="4096 bits"):
        Window(0, -1)


def test_leading_bits_move_the_position() -> None:
    window = Window.decode(10, b"\x0b")
    assert (window.position, window.ahead) == (12, 0b10)


@given(position=st.integers(0, 2**62), ahead=st.integers(0, 2**SPAN - 1))
def test_encoded_window_is_decoded_unchanged(position: int, ahead: int) -> None:
    window = Window(position, ahead)
    blob = window.encode()
    read = Window.decode(window.position, blob)
    assert (read.position, read.ahead) == (window.position, window.ahead)
    assert blob is None or 1 <= len(blob) <= 512


class WindowBesideASet(RuleBasedStateMachine):
    """A state machine that applies every step to a window and to a set of settled seqs."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(0)
        self.settled: set[int] = set()

    @rule(ahead=st.one_of(st.integers(-3, 12), st.integers(-10, SPAN)))
    def settle(self, ahead: int) -> None:
        seq = max(1, self.window.position + ahead)
        self.window.settle(seq)
        self.settled.add(seq)

    @rule(ahead=st.integers(-5, 40), length=st.integers(1, 20))
    def settle_range(self, ahead: int, length: int) -> None:
        first = max(1, self.window.position + ahead)
        self.window.settle_range(first, first + length - 1)
        self.settled.update(range(first, first + length))

    @rule(ahead=st.integers(-5, 60))
    def settle_through(self, ahead: int) -> None:
        seq = self.window.position + ahead
        self.window.settle_through(seq)
        self.settled.update(range(1, seq + 1))

    @rule()
    def store_and_load(self) -> None:
        self.window = Window.decode(self.window.position, self.window.encode())

    @invariant()
    def the_position_is_the_end_of_the_first_run(self) -> None:
        position = self.window.position
        assert position + 1 not in self.settled
        assert all(seq in self.settled for seq in range(max(1, position - 80), position + 1))

    @invariant()
    def both_know_the_same_messages(self) -> None:
        beyond = {seq for seq in self.settled if seq > self.window.position}
        assert self.window.settled_count_beyond == len(beyond)
        assert all(self.window.is_settled(seq) for seq in beyond)
        assert self.window.first_settled_beyond == min(beyond, default=self.window.position + SPAN + 1)

    @invariant()
    def everything_ahead_is_within_the_span(self) -> None:
        assert self.window.ahead.bit_length() <= SPAN


TestWindowBesideASet = WindowBesideASet.TestCase


# Intervals

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
