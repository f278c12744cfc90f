"""Pages of lists, newest first: by keyset, so that later pages cost no more than the first, or by number.

Filters become bounds or index keys where possible, so that what they exclude is not read. `filtered_pages` scans for
the others.
"""

from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from discue.domain.attempts import AttemptState
from discue.domain.errors import BadRequest, Fault
from discue.domain.ids import ALPHABET, encode, row_id_at
from discue.domain.messages import MessageState
from discue.domain.model import DeliveryState
from discue.store.anchors import AnchoredSource, Neighbours, around_anchor, neighbours_of, row_anchor
from discue.store.engine import Row, Transaction, Value
from discue.store.tables import placeholders

LARGEST = 9_223_372_036_854_775_807
"""Above every row id and seq."""

DEEPEST_ITEM = 10_000
"""Numbered pages end here: one reads all that comes before it, on an event loop that it blocks meanwhile."""

MERGED_ROWS = 10_000
"""The largest number of rows of several sources that are read to reach a numbered page."""

_TIME_CHARACTERS = 8
_LAST_MILLISECOND = (LARGEST >> 22) - 1
_LAST_MILLISECOND_OF_IDS = len(ALPHABET) ** _TIME_CHARACTERS - 1

CLOCKS_APART_MS = 60_000
"""Tolerated clock skew between workers; apart from it, a row's id and its `created_at` are of one moment."""

Span = tuple[int, int]
"""The keys between two keys, both excluded."""

Bounds = tuple[Any, Any]
"""A span of keys of any kind."""

Locate = Callable[[Transaction, str], Coroutine[Any, Any, Any]]
"""See `Source.locate`."""

Item = TypeVar("Item")
Shown = TypeVar("Shown")


class Selection(msgspec.Struct, frozen=True):
    """A page and the filters of a list. `after` takes precedence over `before`, and both over `page`."""

    per_page: int = 10
    page: int = 1
    after: str | None = None
    """Items older than this id, which need not exist."""
    before: str | None = None
    """Items newer than this id, which need not exist."""
    alias: str | None = None
    created_after: int | None = None
    """Milliseconds since the epoch, excluded, like `created_before`."""
    created_before: int | None = None
    listener: str | None = None
    """The public id of the listener that messages were stored for, attempts were made to, or that missed messages."""
    queue: str | None = None
    """The public id of the queue of missed messages."""
    state: DeliveryState | MessageState | None = None
    """The state of messages, for the listener if there is one."""
    key: str | None = None
    """The key of messages."""
    header: str | None = None
    """A header of messages: its name, or name and value as in `name:value`."""
    outcome: AttemptState | None = None
    """The outcome of attempts."""
    status: str | None = None
    """The status of attempts: `503`, a class such as `5xx`, or `0`."""
    reason: str | None = None
    """The reason of missed messages."""
    customer: str | None = None
    """The customer that queues or listeners belong to."""
    topic: str = "all"
    """The kind of usage events."""
    data: str = "false"
    """Whether to read the data of messages: `true` or `false`."""

    def admits(self, created_at: int) -> bool:
        """Return whether something created at that time passes the time filters."""
        is_late = self.created_after is None or created_at > self.created_after
        return is_late and (self.created_before is None or created_at < self.created_before)


FIRST_PAGE = Selection()


class Listing(msgspec.Struct, Generic[Item], frozen=True):
    """A page of a list, newest first."""

    items: tuple[Item, ...]
    has_next: bool
    """Whether there are older items."""
    has_previous: bool
    """Whether there are newer items."""
    resumes_after: str | None = None
    """The id after which the next page continues if the scan for this one stopped early; None: its last item."""
    resumes_before: str | None = None
    """The id before which the previous page continues if the scan stopped early; None: its first item."""

    def with_items(self, items: Iterable[Shown]) -> "Listing[Shown]":
        """Return the page with its rows converted to items."""
        return Listing(tuple(items), self.has_next, self.has_previous, self.resumes_after, self.resumes_before)


class Source(Protocol):
    """Rows in an order. A row starts with its key, and keys compare as the rows are ordered."""

    async def locate(self, tx: Transaction, public_id: str) -> Any:
        """Return the key of a public id, or where it would be if it was deleted."""

    async def older(self, tx: Transaction, bound: Any, limit: int, offset: int = 0) -> Sequence[Row]:
        """Read rows below the bound (None: all), newest first. An offset is allowed only without a bound."""

    async def newer(self, tx: Transaction, bound: Any, limit: int) -> Sequence[Row]:
        """Read rows above the bound, oldest first."""


async def browse(tx: Transaction, source: Source, selection: Selection) -> Listing[Row]:
    """Read the selected page of the source."""
    size = selection.per_page
    # One row more than is shown tells whether there is a next page.
    if selection.after is not None:
        found = await _neighbours(tx, source, selection.after, size + 1, newest_first=True)
        return Listing(tuple(found.rows[:size]), len(found.rows) > size, bool(found.rows) and found.has_others)
    if selection.before is not None:
        found = await _neighbours(tx, source, selection.before, size + 1, newest_first=False)
        return Listing(tuple(found.rows[:size][::-1]), bool(found.rows) and found.has_others, len(found.rows) > size)
    # An offset reads all rows that it skips: `next` links have ids, so that only jumps to a page pay for it.
    rows = await source.older(tx, None, size + 1, (selection.page - 1) * size)
    shown = rows[:size]
    has_previous = bool(shown) and selection.page > 1 and bool(await source.newer(tx, shown[0][0], 1))
    return Listing(tuple(shown), len(rows) > size, has_previous)


async def _neighbours(tx: Transaction, source: Source, public_id: str, limit: int, *, newest_first: bool) -> Neighbours:
    if isinstance(source, AnchoredSource):
        found = await source.beyond(tx, public_id, limit, newest_first=newest_first)
        if found is not None:
            return found
    bound = await source.locate(tx, public_id)
    first, second = (source.older, source.newer) if newest_first else (source.newer, source.older)
    rows = await first(tx, bound, limit)
    return Neighbours(rows, bool(rows) and bool(await second(tx, rows[0][0], 1)))


class Table(msgspec.Struct, frozen=True):
    """The rows of a table by their row id."""

    name: str
    sql: str
    """A query of `values` that selects the id first and ends in a WHERE clause."""
    values: tuple[Value, ...]
    """The organization first, except in the table of organizations."""
    id_column: str = "id"
    prefix: str = ""
    """The prefix of other columns if several tables are joined."""
    alias_column: str = "alias"
    """An alias is unique among the rows."""
    floor: int = -1
    ceiling: int = LARGEST

    async def locate(self, tx: Transaction, public_id: str) -> int:
        organization = () if self.name == "organization" else self.values[:1]
        owner = "organization = $1 AND " if organization else ""
        sql = f"SELECT id FROM {self.name} WHERE {owner}public_id = ${len(organization) + 1}"
        found = await tx.row(sql, *organization, public_id)
        return found[0] if found else _end_of(public_id)

    async def older(self, tx: Transaction, bound: int | None, limit: int, offset: int = 0) -> Sequence[Row]:
        ceiling = self.ceiling if bound is None else min(bound, self.ceiling)
        return await self._between(tx, (self.floor, ceiling), "DESC", limit, offset=offset)

    async def newer(self, tx: Transaction, bound: int, limit: int) -> Sequence[Row]:
        return await self._between(tx, (max(bound, self.floor), self.ceiling), "ASC", limit)

    async def beyond(self, tx: Transaction, public_id: str, limit: int, *, newest_first: bool) -> Neighbours | None:
        if self.name == "organization":
            return None
        taken = len(self.values)
        anchor = row_anchor(self.name, taken + 1)
        sql = around_anchor(self.sql, self.id_column, anchor, taken + 3, newest_first=newest_first)
        values = (*self.values, public_id, _end_of(public_id), self.floor, self.ceiling, limit)
        return neighbours_of(await tx.rows(sql, *values), newest_first=newest_first)

    def matching(self, selection: Selection) -> "Table":
        """Return the table restricted by the selection's filters."""
        earliest, latest = selection.created_after, selection.created_before
        filters = (
            (self.alias_column, "=", selection.alias),
            ("created_at", ">", earliest),
            ("created_at", "<", latest),
        )
        sql, values = self.sql, self.values
        for column, comparison, value in filters:
            if value is not None:
                sql += f" AND {self.prefix}{column} {comparison} ${len(values) + 1}"
                values = (*values, value)
        # Row ids begin with a time, so bounds by time are bounds of the key, within the skew of clocks. Between these,
        # the conditions on `created_at` decide.
        floor = self.floor if earliest is None else nearest_row_id(earliest - CLOCKS_APART_MS) - 1
        ceiling = self.ceiling if latest is None else nearest_row_id(latest + CLOCKS_APART_MS)
        return msgspec.structs.replace(self, sql=sql, values=values, floor=floor, ceiling=ceiling)

    async def chosen(self, tx: Transaction, column: str, among: Collection[str]) -> list[Row]:
        """Read the rows that have one of these texts in a column, in any order."""
        if not among:
            return []
        sql = f"{self.sql} AND {self.prefix}{column} IN ({placeholders(len(self.values) + 1, len(among))})"
        return await tx.rows(sql, *self.values, *among)

    async def _between(
        self, tx: Transaction, bounds: tuple[int, int], order: str, limit: int, *, offset: int = 0
    ) -> Sequence[Row]:
        column, taken = self.id_column, len(self.values)
        condition = f"{column} > ${taken + 1} AND {column} < ${taken + 2}"
        order = f"ORDER BY {column} {order} LIMIT ${taken + 3} OFFSET ${taken + 4}"
        return await tx.rows(f"{self.sql} AND {condition} {order}", *self.values, *bounds, limit, offset)


async def listed(
    tx: Transaction,
    table: Table,
    selection: Selection,
    read: Callable[[Row], Item],
    *,
    only: Collection[str] | None = None,
) -> Listing[Item]:
    """Read the selected page of the table, or of its rows whose public id is in `only`, as `read` converts them."""
    found = await browse(tx, await narrowed(tx, table, selection, only), selection)
    return found.with_items(map(read, found.items))


def of_customer(table: Table, selection: Selection) -> Table:
    """Restrict a table of queues or listeners to those of the selection's customer, if it has one."""
    if selection.customer is None:
        return table
    sql = f"{table.sql} AND {table.prefix}customer = ${len(table.values) + 1}"
    return msgspec.structs.replace(table, sql=sql, values=(*table.values, selection.customer))


async def narrowed(tx: Transaction, table: Table, selection: Selection, only: Collection[str] | None = None) -> Source:
    """Restrict the table by the selection's filters, and by `only`."""
    if only is not None:
        return InMemoryRows(await table.matching(selection).chosen(tx, "public_id", only), table.locate)
    if selection.alias is None:
        return table.matching(selection)
    # The index of aliases finds the one row. In the order of ids, the planner would walk all rows to find it.
    by_time = table.matching(msgspec.structs.replace(selection, alias=None))
    return InMemoryRows(await by_time.chosen(tx, table.alias_column, (selection.alias,)), table.locate)


class InMemoryRows:
    """A few rows in memory, in any order."""

    def __init__(self, rows: Sequence[Row], locate: Locate) -> None:
        self._rows = sorted(rows, key=itemgetter(0), reverse=True)
        self.locate = locate

    async def older(self, tx: Transaction, bound: Any, limit: int, offset: int = 0) -> Sequence[Row]:
        del tx
        below = [row for row in self._rows if bound is None or row[0] < bound]
        return below[offset : offset + limit]

    async def newer(self, tx: Transaction, bound: Any, limit: int) -> Sequence[Row]:
        del tx
        return [row for row in reversed(self._rows) if row[0] > bound][:limit]


_ReadPart = Callable[[int], Coroutine[Any, Any, Sequence[Row]]]
"""Reads the first rows of a part of a list, up to a limit."""


class Merged:
    """Several sources as one, without duplicates. A page costs a few rows of each source, and a few pages.

    A numbered page also costs what comes before it: beyond a limit it is refused with BadRequest.
    """

    def __init__(self, parts: Sequence[Source], locate: Locate) -> None:
        self._parts = parts
        self.locate = locate

    async def older(self, tx: Transaction, bound: Any, limit: int, offset: int = 0) -> Sequence[Row]:
        if offset * len(self._parts) > MERGED_ROWS:
            raise too_far()
        parts = [partial(part.older, tx, bound) for part in self._parts]
        return (await _merged(parts, offset + limit, newest_first=True))[offset:]

    async def newer(self, tx: Transaction, bound: Any, limit: int) -> Sequence[Row]:
        return await _merged([partial(part.newer, tx, bound) for part in self._parts], limit, newest_first=False)


async def _merged(parts: Sequence[_ReadPart], limit: int, *, newest_first: bool) -> list[Row]:
    """Return the first rows of all parts together, without duplicates.

    Most parts have few of them: twice the average is read of each, and more of those that have more.
    """
    share = min(limit, 2 * limit // len(parts) + 2)
    found = [await read(share) for read in parts]
    rows = _distinct([row for part in found for row in part], newest_first=newest_first)[:limit]
    if share == limit:
        return rows
    shown = {row[0] for row in rows}
    # Further rows of a part can only be among the first ones if all that was read of it is.
    more = [read for read, part in zip(parts, found, strict=True) if len(part) == share and part[-1][0] in shown]
    rows += [row for read in more for row in await read(limit)]
    return _distinct(rows, newest_first=newest_first)[:limit]


def too_far() -> BadRequest:
    """Return the error for a numbered page that can only be reached by reading all that comes before it."""
    rule = "is too far from the first in this list: follow the `next` links, or use `after` and `before`, instead"
    return BadRequest(f"The page {rule}.", code="invalid_parameter", faults=(Fault("?page", rule),))


def _end_of(public_id: str) -> int:
    """Return the last row id that a deleted row can have had: its public id begins with the time of its creation."""
    return row_id_at(created_at(public_id) + 1) - 1


def created_at(public_id: str) -> int:
    """Return the millisecond at which a public id was made; some time for a text that is none."""
    milliseconds = 0
    for character in public_id[:_TIME_CHARACTERS]:
        milliseconds = milliseconds * len(ALPHABET) + max(0, ALPHABET.find(character))
    return min(milliseconds, _LAST_MILLISECOND)


def first_id_at(millisecond: int) -> str:
    """Return a text below all public ids of that moment and later, and above all earlier ones."""
    return encode(max(0, min(millisecond, _LAST_MILLISECOND_OF_IDS)), _TIME_CHARACTERS)


def nearest_row_id(millisecond: int) -> int:
    """Return the first row id of a millisecond, or the nearest possible one."""
    return row_id_at(max(0, min(millisecond, _LAST_MILLISECOND)))


def _distinct(rows: Sequence[Row], *, newest_first: bool) -> list[Row]:
    by_key = {row[0]: row for row in rows}
    return [by_key[key] for key in sorted(by_key, reverse=newest_first)]


def intersect(one: Bounds, other: Bounds) -> Bounds:
    """Return what lies in both spans."""
    return max(one[0], other[0]), min(one[1], other[1])
