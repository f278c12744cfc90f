"""Pages that continue at an id: the place of the id, the page, and whether others precede it, in one statement."""

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple, Protocol, runtime_checkable

from discue.store.engine import Row, Transaction


class Neighbours(NamedTuple):
    """The rows on one side of an anchor: the id that a page continues at."""

    rows: Sequence[Row]
    """From the anchor on, without its own row."""
    has_others: bool
    """Whether there are rows on the other side, or that of the anchor."""


@runtime_checkable
class AnchoredSource(Protocol):
    """A source that reads the neighbours of an anchor in one statement."""

    async def beyond(self, tx: Transaction, public_id: str, limit: int, *, newest_first: bool) -> Neighbours | None:
        """Read the rows older than an id, newest first, or else the newer ones, oldest first.

        Returns None if the place of the id must be found first.
        """


def row_anchor(table: str, first: int) -> str:
    """Return the SQL of the anchor whose public id is the parameter with the number `first`, in a table with row ids.

    The parameter after it stands for a row that was deleted.
    """
    place = f"SELECT anchor.id FROM {table} anchor WHERE anchor.organization = $1 AND anchor.public_id = ${first}"
    return f"coalesce(({place}), CAST(${first + 1} AS BIGINT))"


def around_anchor(sql: str, column: str, anchor: str, first: int, *, newest_first: bool) -> str:
    """Return the statement for the rows on both sides of an anchor, each with its side: 0 for the wanted one.

    `first` is the number of the first of three parameters: two keys, between which all rows are, and the limit.
    """
    low, high, limit = (f"${first + place}" for place in range(3))
    # SQLite numbers parameters as they appear. Adding 0 leaves the anchor as the bound of the index: from the end of
    # the table, the way to it may be long.
    older = f"{sql} AND {column} < {anchor} AND {column} > {low} AND {column} + 0 < {high} ORDER BY {column} DESC"
    newer = f"{sql} AND {column} > {anchor} AND {column} + 0 > {low} AND {column} < {high} ORDER BY {column} ASC"
    if newest_first:
        wanted, other = older, newer.replace(f"{column} > {anchor}", f"{column} >= {anchor}")
    else:
        wanted, other = newer, older.replace(f"{column} < {anchor}", f"{column} <= {anchor}")
    return f"""
        SELECT looked_at.*, 0 FROM ({wanted} LIMIT {limit}) AS looked_at
        UNION ALL
        SELECT looked_at.*, 1 FROM ({other} LIMIT 1) AS looked_at"""


def neighbours_of(rows: Sequence[Row], *, newest_first: bool) -> Neighbours:
    """Return the neighbours that a statement of `around_anchor` has found, in the order of their keys."""
    wanted = sorted((row[:-1] for row in rows if not row[-1]), key=itemgetter(0), reverse=newest_first)
    return Neighbours(wanted, any(row[-1] for row in rows))
