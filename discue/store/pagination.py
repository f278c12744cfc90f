"""Pages of lists, newest first: by keyset, so that later pages cost no more than the first, or by number.

Filters become bounds or index keys where possible, so that what they exclude is not read. For the others, a page scans
a limited number of rows: if that cuts it short, it says at which id its neighbour continues.
"""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

import msgspec

from discue.domain.attempts import AttemptState
from discue.domain.errors import BadRequest, Fault
from discue.domain.ids import ALPHABET, encode, row_id_at
from discue.domain.messages import MessageState
from discue.domain.model import DeliveryState
from discue.store.engine import Row, Transaction, Value
from discue.store.tables import placeholders

LARGEST = 9_223_372_036_854_775_807
"""Above every row id and seq."""

DEEPEST_ITEM = 10_000
"""Numbered pages end here: one reads all that comes before it, on an event loop that it blocks meanwhile."""

_TIME_CHARACTERS = 8
_LAST_MILLISECOND = (LARGEST >> 22) - 1
_LAST_MILLISECOND_OF_IDS = len(ALPHABET) ** _TIME_CHARACTERS - 1

CLOCKS_APART_MS = 60_000
"""Tolerated clock skew between workers; apart from it, a row's id and its `created_at` are of one moment."""

Span = tuple[int, int]
"""The keys between two keys, both excluded."""

Bounds = tuple[Any, Any]
"""A span of keys of any kind. None leaves an end open."""

Locate = Callable[[Transaction, str], Coroutine[Any, Any, Bounds]]
"""See `Source.locate`."""

Item = TypeVar("Item")
Shown = TypeVar("Shown")
R = TypeVar("R", bound=Row)
R_co = TypeVar("R_co", bound=Row, covariant=True)


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
    group: str | None = None
    """The group of missed messages."""
    customer: str | None = None
    """The customer that queues or listeners belong to."""
    topic: str = "all"
    """The kind of usage events."""
    data: str = "false"
    """Whether to read the data of messages: `true` or `false`."""
    is_linked: bool = False
    """Whether a link of the neighbouring page led here. If so, that page is assumed to have items, without a read."""

    def admits(self, created_at: int) -> bool:
        """Return whether something created at that time passes the time filters."""
        is_late = self.created_after is None or created_at > self.created_after
        return is_late and (self.created_before is None or created_at < self.created_before)


FIRST_PAGE = Selection()


class Listing(msgspec.Struct, Generic[Item], frozen=True):
    """A page of a list, newest first."""

    items: tuple[Item, ...]
    has_next: bool
    """Whether there are older items. A page that was read by `before` is assumed to have a next page."""
    has_previous: bool
    """Whether there are newer items. A page that was read by `after` is assumed to have a previous page."""
    resumes_after: str | None = None
    """The id after which the next page continues if the scan for this one stopped early; None: its last item."""
    resumes_before: str | None = None
    """The id before which the previous page continues if the scan stopped early; None: its first item."""

    def with_items(self, items: Iterable[Shown]) -> "Listing[Shown]":
        """Return the page with its rows converted to items."""
        return Listing(tuple(items), self.has_next, self.has_previous, self.resumes_after, self.resumes_before)


class Part(NamedTuple):
    """A part of a list: the next rows between two keys, from the newer or the older one."""

    low: Any
    """Excluded, like the other one. None leaves an end open."""
    high: Any
    limit: int
    newest_first: bool = True
    offset: int = 0
    """Allowed only from the newest row."""

    @classmethod
    def beyond(cls, around: Bounds, limit: int, *, newest_first: bool) -> "Part":
        """Return older rows, or newer ones; see `Source.locate`."""
        return cls(None, around[0], limit) if newest_first else cls(around[1], None, limit, newest_first=False)

    @property
    def span(self) -> Bounds:
        return self.low, self.high

    @property
    def order(self) -> str:
        """The order in SQL."""
        return "DESC" if self.newest_first else "ASC"

    def within(self, bounds: Bounds) -> "Part":
        """Return the part limited to two bounds, neither of which is open."""
        low, high = intersect(self.span, bounds)
        return self._replace(low=low, high=high)


class RowsInOrder(Protocol[R_co]):
    """Rows that start with their key, and are in the order of their keys."""

    async def read(self, tx: Transaction, part: Part) -> Sequence[R_co]:
        """Read rows. If there are fewer than the limit, no more follow."""


class Source(RowsInOrder[R_co], Protocol[R_co]):
    """Rows of a list."""

    async def locate(self, tx: Transaction, public_id: str) -> Bounds:
        """Return keys around an id, which need not exist.

        Older rows are below the first key, and newer ones above the second.
        """


class ScanStep(NamedTuple, Generic[R]):
    """Matching rows of a scan, in order, and where the scan stopped."""

    rows: Sequence[R]
    last: Any
    """The last key that was scanned; None at the end of the span."""
    last_id: str = ""
    """The public id of the last row that was scanned."""


class Scan(Protocol[R]):
    """Rows that start with their key, to be searched for matches of a filter without an index."""

    async def scan(self, tx: Transaction, part: Part, wanted: int) -> ScanStep[R]:
        """Return the matching rows of a part. May stop after `wanted` of them."""

    async def locate(self, tx: Transaction, public_id: str) -> Bounds:
        """See `Source.locate`."""


class ScanLimits(NamedTuple):
    """How many rows are scanned for one page."""

    first: int | None
    """In the first step; None: as many as are wanted."""
    step: int
    """In each later step, and at most in the first."""
    in_all: int
    in_all_numbered: int = 0
    """Instead of `in_all` for a numbered page beyond the first; 0: the same."""


class _Found(NamedTuple, Generic[R]):
    rows: Sequence[R]
    """At most the wanted number, in the order in which they were read."""
    continues_at: str | None = None
    """The id at which a scan stopped early."""


async def browse(tx: Transaction, source: Source[R], selection: Selection) -> Listing[R]:
    """Read the selected page of the source."""

    async def read(part: Part) -> _Found[R]:
        return _Found(await source.read(tx, part))

    return await _page(tx, source, read, selection)


async def browse_matching(tx: Transaction, scan: Scan[R], selection: Selection, limits: ScanLimits) -> Listing[R]:
    """Read the selected page of matching rows. Raises BadRequest for a numbered page that is too far from the first."""
    return await _page(tx, scan, partial(_search, tx, scan, limits), selection, is_search=True)


async def _page(
    tx: Transaction,
    source: Source[R] | Scan[R],
    read: Callable[[Part], Awaitable[_Found[R]]],
    selection: Selection,
    *,
    is_search: bool = False,
) -> Listing[R]:
    size, newest_first = selection.per_page, selection.after is not None or selection.before is None
    anchor = selection.after if selection.after is not None else selection.before
    # One row more than is shown tells whether there is a next page.
    if anchor is None:
        # This reads all rows that it skips: `next` links have ids, so that only jumps to a page pay for it.
        found = await read(Part(None, None, size + 1, offset=(selection.page - 1) * size))
    elif isinstance(source, Table):
        rows = await source.beyond(tx, anchor, size + 1, newest_first=newest_first)
        found = _Found(cast("Sequence[R]", rows))
    else:
        found = await read(Part.beyond(await source.locate(tx, anchor), size + 1, newest_first=newest_first))
    shown = found.rows[:size]
    has_more = len(found.rows) > size or found.continues_at is not None
    has_others = bool(shown) and (anchor is not None or selection.page > 1)
    if has_others and anchor is not None and not (is_search or selection.is_linked):
        first = shown[0][0]
        has_others = bool((await read(Part.beyond((first, first), 1, newest_first=not newest_first))).rows)
    # The page that linked to one of a search nearly always still has items. The rare exceptions are not worth a search.
    if newest_first:
        return Listing(tuple(shown), has_more, has_others, resumes_after=found.continues_at)
    return Listing(tuple(shown[::-1]), has_others, has_more, resumes_before=found.continues_at)


async def _search(tx: Transaction, scan: Scan[R], limits: ScanLimits, part: Part) -> _Found[R]:
    """Scan for the rows of a part that match."""
    rows: list[R] = []
    wanted, limit, last_id = part.offset + part.limit, limits.in_all, ""
    if part.offset:
        limit = limits.in_all_numbered or limit
    # The first step is small, because the first rows often match; later ones are longer, for fewer round trips.
    count = min(wanted, limits.step) if limits.first is None else limits.first
    following = part._replace(offset=0)
    while limit > 0:
        step = await scan.scan(tx, following._replace(limit=count), wanted - len(rows))
        rows += step.rows
        if len(rows) >= wanted or step.last is None:
            return _Found(rows[part.offset : wanted])
        last_id, limit, count = step.last_id, limit - count, limits.step
        following = Part.beyond((step.last, step.last), 0, newest_first=part.newest_first)
    # Without this, a page that the scan did not reach would look like the end of the list.
    if part.offset and len(rows) <= part.offset:
        raise too_far()
    return _Found(rows[part.offset :], last_id)


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

    async def locate(self, tx: Transaction, public_id: str) -> Bounds:
        organization = () if self.name == "organization" else self.values[:1]
        owner = "organization = $1 AND " if organization else ""
        sql = f"SELECT id FROM {self.name} WHERE {owner}public_id = ${len(organization) + 1}"
        found = await tx.row(sql, *organization, public_id)
        key = found[0] if found else _end_of(public_id)
        return key, key

    async def read(self, tx: Transaction, part: Part) -> Sequence[Row]:
        column, taken = self.id_column, len(self.values)
        condition = f"{column} > ${taken + 1} AND {column} < ${taken + 2}"
        order = f"ORDER BY {column} {part.order} LIMIT ${taken + 3} OFFSET ${taken + 4}"
        bounds = part.within((self.floor, self.ceiling)).span
        return await tx.rows(f"{self.sql} AND {condition} {order}", *self.values, *bounds, part.limit, part.offset)

    async def beyond(self, tx: Transaction, public_id: str, limit: int, *, newest_first: bool) -> Sequence[Row]:
        """Read the rows that are older, or newer, than an id, with one statement."""
        column, first = self.id_column, len(self.values) + 1
        owner = "" if self.name == "organization" else "anchor.organization = $1 AND "
        place = f"SELECT anchor.id FROM {self.name} anchor WHERE {owner}anchor.public_id = ${first}"
        anchor, low, high = f"coalesce(({place}), CAST(${first + 1} AS BIGINT))", f"${first + 2}", f"${first + 3}"
        # Adding 0 makes the index scan start at the anchor: a scan from the end of the table may be long.
        if newest_first:
            condition = f"{column} < {anchor} AND {column} > {low} AND {column} + 0 < {high} ORDER BY {column} DESC"
        else:
            condition = f"{column} > {anchor} AND {column} + 0 > {low} AND {column} < {high} ORDER BY {column} ASC"
        values = (public_id, _end_of(public_id), self.floor, self.ceiling, limit)
        return await tx.rows(f"{self.sql} AND {condition} LIMIT ${first + 4}", *self.values, *values)

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


async def narrowed(
    tx: Transaction, table: Table, selection: Selection, only: Collection[str] | None = None
) -> Source[Row]:
    """Restrict the table by the selection's filters, and by `only`."""
    if only is not None:
        return InMemoryRows(await table.matching(selection).chosen(tx, "public_id", only), table.locate)
    if selection.alias is None:
        return table.matching(selection)
    # The index of aliases finds the one row. In the order of ids, the planner would walk all rows to find it.
    by_time = table.matching(msgspec.structs.replace(selection, alias=None))
    return InMemoryRows(await by_time.chosen(tx, table.alias_column, (selection.alias,)), table.locate)


class InMemoryRows(Generic[R]):
    """A few rows in memory, in any order."""

    def __init__(self, rows: Sequence[R], locate: Locate) -> None:
        self._rows = sorted(rows, key=itemgetter(0))
        self.locate = locate

    async def read(self, tx: Transaction, part: Part) -> Sequence[R]:
        del tx
        low, high = part.span
        within = [row for row in self._rows if (low is None or row[0] > low) and (high is None or row[0] < high)]
        return (within[::-1] if part.newest_first else within)[part.offset : part.offset + part.limit]


class Merged(Generic[R]):
    """A source, and a few rows in memory that the source does not have, as one list."""

    def __init__(self, source: Source[R], rows: Sequence[R]) -> None:
        self._source = source
        self._count = len(rows)
        self._rows = InMemoryRows(rows, source.locate)
        self.locate = source.locate

    async def read(self, tx: Transaction, part: Part) -> Sequence[R]:
        # The source skips what certainly comes before the page: rows of the log may be long.
        skipped = max(0, part.offset - self._count)
        read = await self._source.read(tx, part._replace(offset=skipped, limit=part.offset - skipped + part.limit))
        others = await self._rows.read(tx, part._replace(offset=0, limit=self._count))
        rows = sorted((*read, *others), key=itemgetter(0), reverse=part.newest_first)
        # The source has skipped `skipped` rows of the list, so the page begins that many rows earlier in `rows`.
        return rows[part.offset - skipped :][: part.limit]


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


def intersect(span: Bounds, within: Bounds) -> Bounds:
    """Return what lies in both spans, of which only the first may be open."""
    low = within[0] if span[0] is None else max(span[0], within[0])
    return low, within[1] if span[1] is None else min(span[1], within[1])
