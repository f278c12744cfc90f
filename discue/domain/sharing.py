"""Who may have the next place among several that share some: no more are taken than there are, and all take turns."""

from collections.abc import Collection
from typing import NamedTuple


class Claim(NamedTuple):
    """One that wants a place: how many it has, and its turn: the lowest comes first.

    No two have the same turn, and whoever takes a place has the last.
    """

    taken: int
    turn: int


def fair_share(places: int, claims: int) -> int:
    """As many as each may have at once while so many want them. Together that may be a little more than there are."""
    return -(-places // claims)


def may_take_slot(places: int, taken: int, asking: Claim, waiting: Collection[Claim]) -> bool:
    """Whether whoever asks may take a place now, of which so many are taken by all, while these wait for one.

    While a place is free, there is always one among those who want it who may take it.
    """
    if taken >= places:
        return False
    if not waiting:
        return True
    share = fair_share(places, 1 + len(waiting))
    return asking.taken < share and all(each.taken >= share or asking.turn < each.turn for each in waiting)
