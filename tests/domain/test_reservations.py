"""The pure rules of reservations."""

from discue.domain.reservations import (
    PAGE,
    SMALL_READ_BYTES,
    ReadBound,
    ReadingAccount,
    share_of_time,
)


def test_organization_reads_a_limited_number_of_rows_at_once() -> None:
    account = ReadingAccount(0.0)
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
