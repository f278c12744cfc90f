import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain import ids
from discue.domain.ids import (
    ALPHABET,
    COMMAND_SLOTS,
    LENGTH,
    SLOTS,
    WORKER_SLOTS,
    PublicIds,
    RandomText,
    RowIds,
    decode,
    encode,
    event_id_of,
    is_public_id,
    last_id_of,
    millisecond_in,
    millisecond_of,
    row_id_at,
    row_id_up_to,
)
from tests.support.clocks import StandingClock

MOMENTS = st.integers(1, 100_000_000_000_000)
SLOT = st.integers(0, SLOTS - 1)


@given(st.lists(MOMENTS, min_size=2, max_size=50))
def test_public_ids_increase_with_any_clock(moments: list[int]) -> None:
    clock = StandingClock()
    generator = PublicIds(clock, os.urandom)
    made = []
    for clock.instant in moments:
        made.append(generator.next())

    assert made == sorted(set(made))
    assert all(is_public_id(text) for text in made)


def test_public_ids_increase_when_the_counter_overflows() -> None:
    generator = PublicIds(StandingClock(), os.urandom)
    made = [generator.next() for _ in range(10_000)]

    assert made == sorted(set(made))


@given(MOMENTS, MOMENTS)
def test_public_ids_of_different_generators_sort_by_time(one: int, other: int) -> None:
    first, second = (PublicIds(StandingClock(moment), os.urandom).next() for moment in (one, other))

    assert one == other or (first < second) == (one < other)


def test_generators_produce_different_public_ids_at_one_moment() -> None:
    clock = StandingClock()

    assert len({PublicIds(clock, os.urandom).next() for _ in range(1_000)}) == 1_000


@given(st.lists(st.tuples(st.integers(0, 1 << 40), SLOT), min_size=1, max_size=50))
def test_row_ids_increase_with_any_clock_and_slot(steps: list[tuple[int, int]]) -> None:
    clock = StandingClock()
    generator = RowIds(clock)
    made = []
    for clock.instant, generator.slot in steps:
        made.append(generator.next())

    assert made == sorted(set(made))
    assert made[0] >= 0
    assert made[-1] < 1 << 63
    assert [number % SLOTS for number in made] == [slot for _, slot in steps]


@given(st.integers(0, 1 << 40), SLOT)
def test_row_id_bounds_of_a_millisecond(moment: int, slot: int) -> None:
    generator = RowIds(StandingClock(moment), slot)
    made = [generator.next() for _ in range(4_096)]

    assert row_id_at(moment) <= made[0]
    assert made[-1] < row_id_at(moment + 1)


@given(st.sets(SLOT, min_size=2, max_size=5), st.lists(st.integers(0, 1 << 40), min_size=1, max_size=30))
def test_slots_keep_row_ids_distinct(slots: set[int], moments: list[int]) -> None:
    clock = StandingClock()
    generators = [RowIds(clock, slot) for slot in slots]
    made = []
    for clock.instant in moments:
        made += [generator.next() for generator in generators]

    assert len(set(made)) == len(made)


def test_slots_of_workers_and_commands_are_disjoint() -> None:
    assert sorted([*WORKER_SLOTS, *COMMAND_SLOTS]) == list(range(SLOTS))


@given(st.integers(0, 62**8 - 1), st.integers(0, 62**8 - 1))
def test_encoding_preserves_order(one: int, other: int) -> None:
    assert (encode(one, 8) < encode(other, 8)) == (one < other)


@given(st.integers(0, 62**8 - 1))
def test_encoded_number_is_decoded_unchanged(number: int) -> None:
    assert decode(encode(number, 8)) == number


def test_random_characters_are_equally_likely() -> None:
    # Each possible byte once: equal counts of all 62 characters show that the remainder favors none.
    text = RandomText(lambda _: bytes(range(256))).take(248)

    assert set(Counter(text).values()) == {4}
    assert set(text) == set(ALPHABET)


@given(st.lists(st.integers(1, 9_000), max_size=6))
def test_random_text_has_the_requested_length(lengths: list[int]) -> None:
    served = []

    def source(count: int) -> bytes:
        served.append(count)
        return os.urandom(count)

    text = RandomText(source)
    taken = [text.take(length) for length in lengths]

    assert [len(part) for part in taken] == lengths
    assert sum(served) >= sum(lengths)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("0" * LENGTH, True),
        ("z" * LENGTH, True),
        ("", False),
        ("0" * 20, False),
        ("0" * 22, False),
        ("0" * 20 + "-", False),
        ("0" * 20 + "é", False),
        ("0" * 20 + "٣", False),
        ("0" * 20 + "\n", False),
    ],
)
def test_public_id_format(text: str, verdict: bool) -> None:  # noqa: FBT001
    assert is_public_id(text) is verdict


ROW_ID = st.integers(0, (1 << 63) - 1)
PUBLIC_ID = st.text(ids.ALPHABET, min_size=LENGTH, max_size=LENGTH)


@given(ROW_ID)
def test_event_id_preserves_row_id_and_time(row_id: int) -> None:
    event_id = event_id_of(row_id)

    assert is_public_id(event_id)
    assert row_id_up_to(event_id) == row_id
    assert millisecond_in(event_id) == millisecond_of(row_id)


@given(ROW_ID, ROW_ID)
def test_event_ids_sort_like_row_ids(one: int, other: int) -> None:
    assert (event_id_of(one) < event_id_of(other)) == (one < other)


@given(PUBLIC_ID, ROW_ID)
def test_row_id_bound_equals_public_id_bound(public_id: str, row_id: int) -> None:
    """Ids that sort after a public id as text do so as numbers."""
    assert (event_id_of(row_id) > public_id) == (row_id > row_id_up_to(public_id))


@given(st.integers(0, (1 << 41) - 1), st.integers(0, (1 << 22) - 1), st.text(ids.ALPHABET, min_size=13, max_size=13))
def test_row_id_bound_holds_within_a_millisecond(millisecond: int, low: int, rest: str) -> None:
    row_id, public_id = row_id_at(millisecond) | low, encode(millisecond, 8) + rest

    assert (event_id_of(row_id) > public_id) == (row_id > row_id_up_to(public_id))


@given(st.integers(-5, 62**8 + 5), PUBLIC_ID)
def test_last_id_separates_milliseconds(millisecond: int, public_id: str) -> None:
    bounded = min(max(millisecond, 0), 62**8 - 1)

    assert (public_id > last_id_of(millisecond)) == (millisecond_in(public_id) > bounded)
