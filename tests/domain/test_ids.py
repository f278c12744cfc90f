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
    encode,
    event_id_of,
    is_public_id,
    last_id_of,
    millisecond_in,
    millisecond_of,
    row_id_at,
    row_id_up_to,
)

MOMENTS = st.integers(1, 100_000_000_000_000)
SLOT = st.integers(0, SLOTS - 1)


class MovedClock:
    """Shows what it was last set to, whichever direction that is."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.time = now

    def now(self) -> int:
        return self.time

    def monotonic(self) -> float:
        return self.time / 1000


@given(st.lists(MOMENTS, min_size=2, max_size=50))
def test_public_ids_increase_whatever_the_clock_does(moments: list[int]) -> None:
    clock = MovedClock()
    generator = PublicIds(clock, os.urandom)
    made = []
    for clock.time in moments:
        made.append(generator.next())

    assert made == sorted(set(made))
    assert all(is_public_id(text) for text in made)


def test_public_ids_of_one_millisecond_increase_beyond_the_counter() -> None:
    generator = PublicIds(MovedClock(), os.urandom)
    made = [generator.next() for _ in range(10_000)]

    assert made == sorted(set(made))


@given(MOMENTS, MOMENTS)
def test_public_ids_of_different_generators_sort_by_time(one: int, other: int) -> None:
    first, second = (PublicIds(MovedClock(moment), os.urandom).next() for moment in (one, other))

    assert one == other or (first < second) == (one < other)


def test_public_ids_of_the_same_moment_differ_between_generators() -> None:
    clock = MovedClock()

    assert len({PublicIds(clock, os.urandom).next() for _ in range(1_000)}) == 1_000


@given(st.lists(st.tuples(st.integers(0, 1 << 40), SLOT), min_size=1, max_size=50))
def test_row_ids_increase_and_fit_a_signed_column_whatever_clock_and_slot_do(steps: list[tuple[int, int]]) -> None:
    clock = MovedClock()
    generator = RowIds(clock)
    made = []
    for clock.time, generator.slot in steps:
        made.append(generator.next())

    assert made == sorted(set(made))
    assert made[0] >= 0
    assert made[-1] < 1 << 63
    assert [number % SLOTS for number in made] == [slot for _, slot in steps]


def test_row_ids_increase_when_the_clock_goes_back() -> None:
    clock = MovedClock()
    generator = RowIds(clock)
    before = generator.next()
    clock.time -= 1_000_000

    assert generator.next() > before


@given(st.integers(0, 1 << 40), SLOT)
def test_a_millisecond_bounds_the_row_ids_made_in_it(moment: int, slot: int) -> None:
    generator = RowIds(MovedClock(moment), slot)
    made = [generator.next() for _ in range(4_096)]

    assert row_id_at(moment) <= made[0]
    assert made[-1] < row_id_at(moment + 1)


@given(st.sets(SLOT, min_size=2, max_size=5), st.lists(st.integers(0, 1 << 40), min_size=1, max_size=30))
def test_generators_of_different_slots_never_make_the_same_row_id(slots: set[int], moments: list[int]) -> None:
    clock = MovedClock()
    generators = [RowIds(clock, slot) for slot in slots]
    made = []
    for clock.time in moments:
        made += [generator.next() for generator in generators]

    assert len(set(made)) == len(made)


@pytest.mark.parametrize("slot", [-1, SLOTS])
def test_a_slot_that_does_not_fit_is_refused(slot: int) -> None:
    generator = RowIds(MovedClock())
    with pytest.raises(ValueError, match=str(slot)):
        generator.slot = slot


def test_workers_and_commands_share_no_slot() -> None:
    assert sorted([*WORKER_SLOTS, *COMMAND_SLOTS]) == list(range(SLOTS))


@given(st.integers(0, 62**8 - 1), st.integers(0, 62**8 - 1))
def test_the_order_of_encoded_numbers_is_that_of_the_numbers(one: int, other: int) -> None:
    assert (encode(one, 8) < encode(other, 8)) == (one < other)


@given(st.integers(0, 62**8 - 1))
def test_encoding_keeps_the_number(number: int) -> None:
    decoded = 0
    for character in encode(number, 8):
        decoded = decoded * len(ALPHABET) + ALPHABET.index(character)

    assert decoded == number


def test_every_character_is_equally_likely() -> None:
    # Each possible byte once: an even count of all 62 shows that none is favoured by the remainder.
    text = RandomText(lambda _: bytes(range(256))).take(248)

    assert set(Counter(text).values()) == {4}
    assert set(text) == set(ALPHABET)


@given(st.lists(st.integers(1, 9_000), max_size=6))
def test_random_text_is_as_long_as_asked_and_never_repeats_its_source(lengths: list[int]) -> None:
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
def test_public_id_has_21_letters_and_digits(text: str, verdict: bool) -> None:  # noqa: FBT001
    assert is_public_id(text) is verdict


def test_the_alphabet_sorts_as_its_characters_do() -> None:
    assert "".join(sorted(ids.ALPHABET)) == ids.ALPHABET


ROW_ID = st.integers(0, (1 << 63) - 1)
PUBLIC_ID = st.text(ids.ALPHABET, min_size=LENGTH, max_size=LENGTH)


@given(ROW_ID)
def test_an_event_id_has_the_form_of_a_public_id_and_keeps_row_id_and_time(row_id: int) -> None:
    event_id = event_id_of(row_id)

    assert is_public_id(event_id)
    assert row_id_up_to(event_id) == row_id
    assert millisecond_in(event_id) == millisecond_of(row_id)


@given(ROW_ID, ROW_ID)
def test_event_ids_are_in_the_order_of_row_ids(one: int, other: int) -> None:
    assert (event_id_of(one) < event_id_of(other)) == (one < other)


@given(PUBLIC_ID, ROW_ID)
def test_a_bound_by_row_id_is_one_by_public_id(public_id: str, row_id: int) -> None:
    """What stands behind a public id by text does so by number."""
    assert (event_id_of(row_id) > public_id) == (row_id > row_id_up_to(public_id))


@given(st.integers(0, (1 << 41) - 1), st.integers(0, (1 << 22) - 1), st.text(ids.ALPHABET, min_size=13, max_size=13))
def test_a_bound_within_one_millisecond_is_one_too(millisecond: int, low: int, rest: str) -> None:
    row_id, public_id = row_id_at(millisecond) | low, encode(millisecond, 8) + rest

    assert (event_id_of(row_id) > public_id) == (row_id > row_id_up_to(public_id))


@given(st.integers(-5, 62**8 + 5), PUBLIC_ID)
def test_the_last_id_of_a_millisecond_parts_it_from_the_next(millisecond: int, public_id: str) -> None:
    bounded = min(max(millisecond, 0), 62**8 - 1)

    assert (public_id > last_id_of(millisecond)) == (millisecond_in(public_id) > bounded)
