"""Lists of a listener's messages in one delivery state, by seq.

A step takes three statements: for intervals of the log in which messages can be in the state, as far as delivery rows,
missed ranges and the window of the cursor say; for what decides the state of each message there; and for the messages.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Final, NamedTuple

from discue.domain.messages import MessageState
from discue.domain.model import DeliveryState
from discue.domain.window import Interval, subtract, to_intervals
from discue.store.engine import Row, Transaction
from discue.store.message_log import WAITING, MessageRow, OneLog, PageBounds, first_of_spans, rows_by_seq
from discue.store.pagination import (
    LARGEST,
    Listing,
    Part,
    ScanLimits,
    ScanStep,
    Selection,
    Span,
    browse_matching,
)
from discue.store.recipients import Recipient, state_at, state_columns, state_of_row
from discue.store.tables import padded

LIMITS: Final = ScanLimits(first=1_000, step=1_000, in_all=1_000, in_all_numbered=5_000)
"""A page takes one step, except a numbered one."""
_ROWS_AT_ONCE: Final = 2_000
"""The largest number of delivery rows of one kind that a step looks at."""
_RANGES_AT_ONCE: Final = 128
_INTERVALS_AT_ONCE: Final = 128
Accepts = Callable[[MessageRow], bool]
"""Tests a message of a list."""
_NO_SPAN: Final = (0, 0, 0)
_READ_AT_MOST: Final = 250
"""The largest number of messages in the state that a step reads to look for those with a key and a header."""

# Parts of the first statement, each read by one index, which the columns leave as the only one: adding 0 keeps the
# planner from the primary key. A row is a part, an interval, and the columns for `state_of_row`.
_ROWS: Final = """
    SELECT * FROM (
        SELECT 0, seq, seq, state, attempts, reason FROM delivery
        WHERE organization = $1 AND listener = $2 AND seq > $3 AND seq < $4 AND stream{kind}
        ORDER BY seq {{order}} LIMIT $5) AS looked_at"""
_OF_ANY_STATE: Final = _ROWS.format(kind=" = 0")
_OPEN: Final = _ROWS.format(kind=" + 0 = 0 AND state <> 'missed'")
_MISSED: Final = _ROWS.format(kind=" + 0 = 0 AND state = 'missed'")
_ENDED: Final = _ROWS.format(kind=" = 0 AND state = 'ended'").replace("SELECT 0,", "SELECT 1,")
_RANGES: Final = f"""
    SELECT * FROM (
        SELECT 2, seq_from, seq_to, '', 0, '' FROM missed_range
        WHERE organization = $1 AND listener = $2 AND seq_from > $3 AND seq_from < $4
        ORDER BY seq_from {{order}} LIMIT {_RANGES_AT_ONCE}) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT 3, seq_from, seq_to, '', 0, '' FROM missed_range
        WHERE organization = $1 AND listener = $2 AND seq_from <= $3 ORDER BY seq_from DESC LIMIT 1) AS looked_at"""
"""Ranges that begin in the span, and the one that may reach into it."""
_SCHEDULED: Final = """
    SELECT * FROM (
        SELECT 4, origin_seq, origin_seq, '', 0, '' FROM scheduled
        WHERE organization = $1 AND queue = $6 AND origin_seq > $3 AND origin_seq < $4
        ORDER BY origin_seq {order} LIMIT $5) AS looked_at"""
_ID: Final = """
    SELECT id FROM log WHERE organization = $1 AND queue = $2 AND seq >= $3 AND seq < $4 ORDER BY seq {order} LIMIT 1"""
_RANGE_PART: Final = 2
_RANGE_PARTS: Final = (2, 3)
_SCHEDULED_PART: Final = 4
_PARTS: Final = {
    "acknowledged": (_OF_ANY_STATE, _RANGES),
    "missed": (_MISSED, _ENDED, _RANGES),
    "retrying": (_OPEN,),
    "pending": (_OPEN, _SCHEDULED),
}
"""The parts that say where messages are in a state. Filters have no rows, so that no message has another state."""


async def page_in_state(
    tx: Transaction, of: Recipient, selection: Selection, bounds: PageBounds, *, accepts: Accepts | None
) -> Listing[MessageRow]:
    """Read a page of the listener's messages that are in the state of the selection and pass a test if there is one.

    Raises BadRequest for a numbered page that is too far from the first.
    """
    return await browse_matching(tx, _StateScan(of, selection, bounds, accepts), selection, LIMITS)


class _Intervals(NamedTuple):
    """Intervals in the order of a scan, with all of the messages in the state up to an end."""

    intervals: Sequence[Interval]
    end: int | None
    """The last seq that was looked at; None if nothing follows."""


class _StateScan:
    """A scan of messages for those that are in a state for a listener."""

    def __init__(self, of: Recipient, selection: Selection, bounds: PageBounds, accepts: Accepts | None) -> None:
        self._of = of
        self._state: MessageState | DeliveryState | None = selection.state
        log = OneLog((of.organization, of.queue), bounds, floor=of.start_seq)
        self._within = log.within
        self.locate = log.locate
        self._accepts = accepts

    async def scan(self, tx: Transaction, part: Part, wanted: int) -> ScanStep[MessageRow]:
        span, count, newest_first = part.within(self._within).span, part.limit, part.newest_first
        rows: Sequence[Row] = ()
        end: int | None = 0
        last_id: str | None = None
        # Where all messages were deleted, there is no id at which a page could continue.
        while last_id is None and end is not None:
            found = _first_of(await self._intervals(tx, span, newest_first=newest_first), count)
            rows, end = await self._deciding(tx, found.intervals, count, newest_first=newest_first), found.end
            if len(rows) == count:
                end = rows[-1][0]
            if rows:
                last_id = rows[-1][1]
            elif end is not None:
                last_id = await self._last_id(tx, span, end, newest_first=newest_first)
            if end is not None:
                span = (span[0], end) if newest_first else (end, span[1])
        seqs = [row[0] for row in rows if self._is_in_state(row)]
        most = wanted if self._accepts is None else _READ_AT_MOST
        found_rows = await rows_by_seq(tx, self._of.organization, self._of.queue, seqs[:most])
        shown = sorted(found_rows, reverse=newest_first)
        if self._accepts is not None:
            if len(seqs) > most and shown:
                end, last_id = shown[-1].seq, shown[-1].id
            shown = [row for row in shown if self._accepts(row)]
        return ScanStep(shown, end, last_id or "")

    async def _last_id(self, tx: Transaction, span: Span, end: int, *, newest_first: bool) -> str | None:
        """Read the id of the last message that was looked at, from an end of the span up to a seq."""
        between = (end, span[1]) if newest_first else (span[0] + 1, end + 1)
        row = await tx.row(
            _ID.format(order="ASC" if newest_first else "DESC"), self._of.organization, self._of.queue, *between
        )
        return None if row is None else str(row[0])

    async def _intervals(self, tx: Transaction, span: Span, *, newest_first: bool) -> _Intervals:
        """Return the intervals of a span in which messages can be in the state."""
        if span[1] - span[0] < 2:
            return _Intervals((), None)
        parts = _PARTS.get(self._state or "", ())
        if not parts:
            return _Intervals((), None)
        sql = " UNION ALL ".join(parts).format(order="DESC" if newest_first else "ASC")
        values = (self._of.queue,) if _SCHEDULED in parts else ()
        rows = await tx.rows(sql, *self._of.key, *span, _ROWS_AT_ONCE, *values)
        end = _end_of(rows, newest_first=newest_first)
        first, last = span[0] + 1, span[1] - 1
        if end is not None:
            first, last = (end, last) if newest_first else (first, end)
        intervals = _within((first, last), self._candidates(rows, (first, last)))
        return _Intervals(intervals[::-1] if newest_first else intervals, end)

    def _candidates(self, rows: Sequence[Row], whole: Interval) -> list[Interval]:
        """Return intervals that may reach beyond the whole one, in any order."""
        window = self._of.window
        ahead = to_intervals(
            seq for seq in range(window.position + 1, window.last_settled + 1) if window.is_settled(seq)
        )
        unsettled = subtract((window.position + 1, LARGEST), ahead)
        ranges = [(row[1], row[2]) for row in rows if row[0] in _RANGE_PARTS]
        scheduled = [(row[1], row[2]) for row in rows if row[0] == _SCHEDULED_PART]
        of_rows = {row[1]: state_of_row(*row[3:])[0] for row in rows if row[0] < _RANGE_PART}
        own = [(seq, seq) for seq, state in of_rows.items() if state == self._state]
        if self._state == "acknowledged":
            others = [(seq, seq) for seq, state in of_rows.items() if state != self._state]
            return [*own, *subtract(whole, _within(whole, [*others, *ranges, *unsettled]))]
        if self._state == "pending":
            return [*own, *scheduled, *unsettled]
        return [*own, *ranges]

    async def _deciding(
        self, tx: Transaction, intervals: Sequence[Interval], count: int, *, newest_first: bool
    ) -> list[Row]:
        """Read rows of seq, id and what `_is_in_state` needs for the first messages in intervals."""
        if not intervals:
            return []
        some = padded([(self._of.queue, first - 1, last + 1) for first, last in intervals], _NO_SPAN)
        sql = _deciding(len(some), newest_first=newest_first)
        values = [value for each in some for value in each]
        rows = await tx.rows(sql, *values, *self._of.key, self._of.queue, count - 1)
        return sorted(rows, key=lambda row: row[0], reverse=newest_first)[:count]

    def _is_in_state(self, row: Row) -> bool:
        seq, _, origin_seq, kind, *columns = row
        if (origin_seq or seq) <= self._of.start_seq:
            return False
        # Lanes have settled a message that is not due yet, as if it did not exist.
        state = "pending" if kind == WAITING else state_at(self._of, seq, columns)
        return state == self._state


def _end_of(rows: Sequence[Row], *, newest_first: bool) -> int | None:
    """Return up to which seq all parts are complete; None if none has more rows."""
    read: dict[int, list[int]] = {}
    for part, first, last, *_ in rows:
        read.setdefault(part, []).append(first if newest_first else last)
    full = [
        ends for part, ends in read.items() if len(ends) == (_RANGES_AT_ONCE if part == _RANGE_PART else _ROWS_AT_ONCE)
    ]
    if newest_first:
        return max(map(min, full), default=None)
    return min(map(max, full), default=None)


def _within(whole: Interval, intervals: Iterable[Interval]) -> list[Interval]:
    """Return the parts of intervals that are in a whole one: disjoint, apart from each other, and ascending."""
    found: list[Interval] = []
    for first, last in sorted(intervals):
        low, high = max(first, whole[0]), min(last, whole[1])
        if low > high:
            continue
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def _first_of(found: _Intervals, count: int) -> _Intervals:
    """Return the first intervals that may have enough messages."""
    room = count
    for place, (first, last) in enumerate(found.intervals, 1):
        room -= last - first + 1
        if (room <= 0 or place == _INTERVALS_AT_ONCE) and place < len(found.intervals):
            following = found.intervals[place]
            is_newest_first = following[0] < first
            return _Intervals(found.intervals[:place], first if is_newest_first else last)
    return found


@cache
def _deciding(count: int, *, newest_first: bool) -> str:
    """Return the statement for what decides the states of the first messages of each span."""
    taken = 3 * count
    columns = f"l.seq, l.id, l.origin_seq, l.kind, {state_columns('l.seq', taken + 1)}"
    organization, offset = f"${taken + 1}", f"${taken + 4}"
    return first_of_spans(
        columns, "queue, low, high", count, organization=organization, offset=offset, newest_first=newest_first
    )
