"""Bounds of pages in the logs of queues: by time, and by the message that a page continues at.

`stored_at` never decreases along a log, so that a time is found by a binary search: lookups by key in one statement,
one for each doubling of the log's length, which are 20 in a log of a million.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

import msgspec

from discue.store.engine import Row, Transaction
from discue.store.pagination import LARGEST, Selection, Span
from discue.store.tables import given_rows, padded

WHOLE_LOG: Final = (0, LARGEST)
"""The span of all seqs."""

_AT_ONCE: Final = 128

# Usually no message is that old, which the first look shows. Deleted messages leave holes: the first message from the
# middle on decides.
_MIDDLE: Final = "search.low + CASE WHEN search.looks = 0 THEN 1 ELSE (search.high - search.low + 1) / 2 END"
_BEGIN: Final = """
    SELECT given.place, given.queue, given.time, 0, coalesce((
            SELECT h.tail FROM queue_head h WHERE h.organization = {organization} AND h.queue = given.queue), 0),
        coalesce((SELECT h.head FROM queue_head h WHERE h.organization = {organization} AND h.queue = given.queue), 0)
    FROM given WHERE given.time IS NOT NULL"""
_SEARCH: Final = f"""search (place, queue, time, looks, low, high) AS (
    {_BEGIN}
    UNION ALL
    SELECT search.place, search.queue, search.time, search.looks + 1,
        CASE WHEN l.stored_at < search.time THEN l.seq ELSE search.low END,
        CASE WHEN l.stored_at < search.time THEN search.high ELSE {_MIDDLE} - 1 END
    FROM search LEFT JOIN log l ON l.organization = {{organization}} AND l.queue = search.queue AND l.seq = (
        SELECT x.seq FROM log x
        WHERE x.organization = {{organization}} AND x.queue = search.queue AND x.seq >= {_MIDDLE}
            AND x.seq <= search.high
        ORDER BY x.seq LIMIT 1)
    WHERE search.low < search.high)"""
"""A binary search for each given `(place, queue, time)`. At its end, `low` is the last seq that was stored earlier."""

_FOUND: Final = "(SELECT search.low + 1 FROM search WHERE search.place = {} AND search.low >= search.high)"
_COLUMNS: Final = f"""{_FOUND.format(0)}, {_FOUND.format(1)}, (
        SELECT a.seq FROM log a
        WHERE a.organization = {{organization}} AND a.id = {{anchor}} AND a.queue = {{queue}}), coalesce((
        SELECT h.head FROM queue_head h WHERE h.organization = {{organization}} AND h.queue = {{queue}}), 0)"""
BOUNDS_WIDTH: Final = 4
"""The number of columns of bounds."""
# SQLite numbers parameters as they appear.
_OF_QUEUE: Final = f"""
    WITH RECURSIVE given (place, queue, time) AS (
        VALUES (0, CAST($1 AS BIGINT), CAST($2 AS BIGINT)), (1, CAST($1 AS BIGINT), CAST($3 AS BIGINT))),
    {_SEARCH.format(organization="$4")}
    SELECT {_COLUMNS.format(organization="$4", anchor="$5", queue="$1")}"""


class PageBounds(NamedTuple):
    """Bounds of a page of a queue's messages, as far as the selection has them."""

    within: Span
    """The seqs whose messages pass the time filters."""
    anchor: int | None
    """The seq of the message that the page continues at; None if there is none, or it is not in the queue."""


def with_bounds(sql: str) -> str:
    """Return a statement for the columns of a row and those of the bounds of a page in its queue.

    `sql` selects a row with a column `queue`. Its first parameter is the organization, and it has one other; the
    parameters for `bounds_values` follow.
    """
    return f"""
    WITH RECURSIVE found AS ({sql}),
    given (place, queue, time) AS (
        SELECT 0, found.queue, CAST($3 AS BIGINT) FROM found
        UNION ALL SELECT 1, found.queue, CAST($4 AS BIGINT) FROM found),
    {_SEARCH.format(organization="$1")}
    SELECT found.*, {_COLUMNS.format(organization="$1", anchor="$5", queue="found.queue")} FROM found"""


def bounds_values(selection: Selection) -> tuple[int | None, int | None, str | None]:
    """Return the first moment that passes the time filters, the first one after those, and where the page continues."""
    after = None if selection.created_after is None else selection.created_after + 1
    return after, selection.created_before, selection.before if selection.after is None else selection.after


def bounds_from(selection: Selection, columns: Row) -> PageBounds:
    """Convert the columns of bounds."""
    first, end, anchor, head = columns
    low = 0 if selection.created_after is None else first - 1
    return PageBounds((low, head + 1 if selection.created_before is None else end), anchor)


async def bounds_of(tx: Transaction, organization: int, queue: int, selection: Selection) -> PageBounds:
    """Find the bounds of a page, with one statement or none."""
    *times, anchor = bounds_values(selection)
    if times == [None, None] and anchor is None:
        return PageBounds(WHOLE_LOG, None)
    [row] = await tx.rows(_OF_QUEUE, queue, *times, organization, anchor)
    return bounds_from(selection, row)


async def span_of_times(tx: Transaction, organization: int, queue: int, selection: Selection) -> Span:
    """Return the span of seqs whose messages pass the time filters."""
    times = msgspec.structs.replace(selection, after=None, before=None)
    return (await bounds_of(tx, organization, queue, times)).within


async def spans_of_times(
    tx: Transaction, organization: int, queues: Sequence[int], selection: Selection
) -> dict[int, Span]:
    """Return what `span_of_times` returns for each of several queues."""
    *times, _ = bounds_values(selection)
    given = [(queue, time) for queue in queues for time in times if time is not None]
    found, (first, end) = await first_seqs_at(tx, organization, given), times
    return {queue: (found.get((queue, first), 1) - 1, found.get((queue, end), LARGEST)) for queue in queues}


async def first_seqs_at(
    tx: Transaction, organization: int, places: Sequence[tuple[int, int]]
) -> dict[tuple[int, int | None], int]:
    """Return the smallest seq that was stored in a queue at a time or later, for several queues and times.

    It is above the head of the queue if there is no such message.
    """
    found: dict[tuple[int, int | None], int] = {}
    for start in range(0, len(places), _AT_ONCE):
        some = padded(places[start : start + _AT_ONCE], places[start])
        values = [value for queue, time in some for value in (queue, queue, time)]
        rows = await tx.rows(_first_seqs(len(some)), *values, organization)
        found.update({(queue, time): seq for queue, time, seq in rows})
    return found


async def first_seq_at(tx: Transaction, organization: int, queue: int, stored_at: int) -> int:
    """Return what `first_seqs_at` returns for one queue and time."""
    return (await first_seqs_at(tx, organization, [(queue, stored_at)]))[queue, stored_at]


@cache
def _first_seqs(count: int) -> str:
    return f"""
    WITH RECURSIVE given (place, queue, time) AS ({given_rows(count, 3)}),
    {_SEARCH.format(organization=f"${3 * count + 1}")}
    SELECT search.queue, search.time, search.low + 1 FROM search WHERE search.low >= search.high"""


def first_of_spans(columns: str, names: str, count: int, *, organization: str, offset: str, newest_first: bool) -> str:
    """Return the statement for the first messages `l` of each span: it finds the last of them, then reads up to it.

    A given `span` has columns with `names`, which end in `queue, low, high`: two seqs, both excluded. The others are
    parameters such as `$7`: the organization, and how many messages of a span are passed to find the last one. SQLite
    keeps the order of a CROSS JOIN: otherwise it would walk the log, and look for each row in the spans.
    """
    order, last, bounds = (
        ("DESC", "given.low + 1", "l.seq >= span.last AND l.seq < span.high")
        if newest_first
        else ("ASC", "given.high - 1", "l.seq <= span.last AND l.seq > span.low")
    )
    return f"""
        WITH given ({names}) AS ({given_rows(count, names.count(",") + 1)})
        SELECT {columns} FROM (
            SELECT given.*, coalesce((
                SELECT x.seq FROM log x
                WHERE x.organization = {organization} AND x.queue = given.queue AND x.seq > given.low
                    AND x.seq < given.high
                ORDER BY x.seq {order} LIMIT 1 OFFSET {offset}), {last}) AS last
            FROM given) AS span
        CROSS JOIN log l WHERE l.organization = {organization} AND l.queue = span.queue AND {bounds}"""
