"""The pure rules of reservations."""

from hypothesis import given
from hypothesis import strategies as st

from discue.domain.reservations import (
    PAGE,
    SMALL_READ_BYTES,
    ReadBound,
    ReadingAccount,
    counted_size,
    may_hold,
    share_of_time,
)

_CAP = 1_000


def _holding(held: int) -> ReadingAccount:
    account = ReadingAccount(0.0)
    account.held = held
    return account


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 400)), max_size=60))
def test_organizations_hold_at_most_as_much_memory_as_is_free(wishes: list[tuple[int, int]]) -> None:
    accounts = {number: _holding(0) for number in range(6)}
    held = 0
    for number, size in wishes:
        account = accounts[number]
        if may_hold(_CAP, held, account, size):
            was_first = not account.held
            account.held += size
            held += size
            assert was_first or account.held <= _CAP - held + size
    assert held <= _CAP


def test_single_organization_holds_at_most_half_of_the_memory_in_parts() -> None:
    account, held = _holding(0), 0
    while may_hold(_CAP, held, account, 10):
        account.held += 10
        held += 10
    assert held == _CAP // 2


def test_reservation_of_any_size_fits_into_an_empty_memory() -> None:
    assert counted_size(_CAP, 10 * _CAP) == _CAP // 4
    assert may_hold(_CAP, 0, _holding(0), counted_size(_CAP, 10 * _CAP))


def test_organization_reads_a_limited_number_of_rows_at_once() -> None:
    account = _holding(0)
    assert account.may_read(100_000)
    account.reading, account.rows = 1, 400
    assert account.may_read(112)
    assert not account.may_read(113)


def test_organization_rests_for_the_time_beyond_its_share() -> None:
    account = ReadingAccount(0.0)
    account.reading = 1
    account.count_time(0.3, share_of_time(1))
    # A tenth of a second was left to it. It has used 0.3 s, and earned half of that.
    assert round(account.credit, 6) == -0.05
    assert round(account.rest_seconds(share_of_time(1)), 6) == 0.1
    account.reading = 0
    account.count_time(0.41, share_of_time(1))
    assert account.rest_seconds(1.0) == 0.0


def test_share_of_time_is_never_less_than_a_quarter() -> None:
    assert [share_of_time(others) for others in (0, 1, 2, 3, 50)] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 4]


def test_bound_of_data_covers_the_response() -> None:
    assert ReadBound.of_data(8_388_608, 8_388_608) == (4_097, 16_777_216)
    assert PAGE.of(100).bytes > 100 * SMALL_READ_BYTES
