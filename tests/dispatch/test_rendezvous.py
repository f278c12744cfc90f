import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.dispatch.ownership import Rendezvous
from discue.domain.ids import row_id_at
from tests.support.clocks import NOON

members = st.lists(st.integers(1, 2**62), min_size=2, max_size=6, unique=True)
things = st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 9)), max_size=30)


def row_id(number: int) -> int:
    return row_id_at(NOON + number)


def owners(members: list[int], things: list[tuple[int, int, int]]) -> list[int]:
    shares = Rendezvous(members)
    return [shares.owner_of(thing) for thing in things]


@given(members, things)
def test_owner_does_not_depend_on_the_order_of_members(members: list[int], things: list[tuple[int, int, int]]) -> None:
    assert owners(members, things) == owners(members[::-1], things)
    assert set(owners(members, things)) <= set(members)


@given(members, things)
def test_leaving_member_moves_only_its_items(members: list[int], things: list[tuple[int, int, int]]) -> None:
    gone, rest = members[0], members[1:]
    for before, after in zip(owners(members, things), owners(rest, things), strict=True):
        assert after == before or before == gone


@given(members, things)
def test_joining_member_moves_only_its_items(members: list[int], things: list[tuple[int, int, int]]) -> None:
    come, rest = members[0], members[1:]
    for before, after in zip(owners(rest, things), owners(members, things), strict=True):
        assert after in (before, come)


def cursors(count: int) -> list[tuple[int, int, int]]:
    """Return realistic cursors: of one organization, with similar ids."""
    return [(row_id(1), row_id(100 + number), 0) for number in range(count)]


@pytest.mark.parametrize("count", [2, 3, 5, 16])
def test_shares_are_even(count: int) -> None:
    """Members and cursors have similar ids. The bounds leave room for chance."""
    made = [row_id(number) for number in range(count)]
    found = owners(made, cursors(10_000))
    fair = 10_000 / count
    assert all(0.85 * fair < found.count(member) < 1.15 * fair for member in made)


def test_owner_is_stable_across_processes_and_versions() -> None:
    """Workers of two versions must agree during an upgrade, or they would take cursors from each other forever."""
    shares = Rendezvous([row_id(1), row_id(2), row_id(3)])
    assert [shares.owner_of(cursor) for cursor in cursors(12)] == [
        row_id(number) for number in (1, 3, 2, 1, 3, 2, 2, 2, 3, 2, 3, 2)
    ]


def test_empty_membership_is_rejected() -> None:
    with pytest.raises(ValueError, match="no members"):
        Rendezvous([])
