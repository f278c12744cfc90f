"""The logs of many queues as one list, in a few statements however many queues there are."""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Final

from discue.store.engine import Transaction
from discue.store.log_bounds import first_seqs_at, spans_of_times
from discue.store.message_log import LogPosition, MessageRow, listed_columns, placed, position_of
from discue.store.pagination import MERGED_ROWS, Bounds, Selection, Span, too_far
from discue.store.tables import given_rows, padded

_AT_ONCE: Final = 128
_NO_SPAN: Final = (0, 0, 0)


class MergedLogs:
    """The messages of several queues that pass the filters of time and alias, by position."""

    def __init__(self, organization: int, spans: Mapping[int, Span], alias: str | None) -> None:
        self._organization = organization
        self._spans = spans
        """The seqs of each queue that pass the filters."""
        self._alias = alias

    @classmethod
    async def of(cls, tx: Transaction, organization: int, queues: Sequence[int], selection: Selection) -> "MergedLogs":
        return cls(organization, await spans_of_times(tx, organization, queues, selection), selection.alias)

    async def locate(self, tx: Transaction, public_id: str) -> Bounds:
        position = await position_of(tx, self._organization, public_id, 0)
        return position, position

    async def read(
        self, tx: Transaction, span: Bounds, limit: int, offset: int = 0, *, newest_first: bool
    ) -> Sequence[MessageRow]:
        if offset * len(self._spans) > MERGED_ROWS:
            raise too_far()
        above, below = span
        spans = self._spans
        if below is not None:
            ends = await self._boundaries(tx, below, 0)
            spans = {queue: (low, min(high, ends[queue])) for queue, (low, high) in spans.items()}
        if above is not None:
            starts = await self._boundaries(tx, above, 1)
            spans = {queue: (max(low, starts[queue] - 1), high) for queue, (low, high) in spans.items()}
        return (await self._merged(tx, spans, offset + limit, newest_first=newest_first))[offset:]

    async def _boundaries(self, tx: Transaction, bound: LogPosition, side: int) -> dict[int, int]:
        """Return the seqs at which each log goes on below a position, or above it."""
        stored_at, own, seq = bound
        # Messages of one millisecond are ordered by queue.
        times = {queue: stored_at + (queue < own) for queue in self._spans if queue != own}
        return {**await first_seqs_at(tx, self._organization, times), own: seq + side}

    async def _merged(
        self, tx: Transaction, spans: Mapping[int, Span], limit: int, *, newest_first: bool
    ) -> list[MessageRow]:
        """Return the first rows of all logs together: as `pagination.Merged`, but with two reads for all of them."""
        share = min(limit, 2 * limit // max(len(spans), 1) + 2)
        found = await self._first_of_each(tx, spans, share, newest_first=newest_first)
        rows = _first([row for part in found.values() for row in part], limit, newest_first=newest_first)
        if share == limit:
            return rows
        shown = {row.place for row in rows}
        # Further rows of a log can only be among the first ones if all that was read of it is.
        more = {queue: spans[queue] for queue, part in found.items() if len(part) == share and part[-1].place in shown}
        if not more:
            return rows
        others = [row for row in rows if row.queue not in more]
        again = await self._first_of_each(tx, more, limit, newest_first=newest_first)
        return _first([*others, *(row for part in again.values() for row in part)], limit, newest_first=newest_first)

    async def _first_of_each(
        self, tx: Transaction, spans: Mapping[int, Span], limit: int, *, newest_first: bool
    ) -> dict[int, list[MessageRow]]:
        """Read the first rows of each log, in order."""
        found: list[MessageRow] = []
        wanted = [(queue, low, high) for queue, (low, high) in spans.items() if high - low > 1]
        alias = () if self._alias is None else (self._alias,)
        for start in range(0, len(wanted), _AT_ONCE):
            some = padded(wanted[start : start + _AT_ONCE], _NO_SPAN)
            values = [value for each in some for value in each]
            sql = _first_rows(len(some), has_alias=bool(alias), newest_first=newest_first)
            rows = map(placed, await tx.rows(sql, *values, self._organization, *alias, limit - 1))
            found += [row._replace(key=row.place) for row in rows]
        found.sort(key=attrgetter("queue", "seq"), reverse=newest_first)
        return {queue: list(rows) for queue, rows in groupby(found, key=attrgetter("queue"))}


def _first(rows: Sequence[MessageRow], limit: int, *, newest_first: bool) -> list[MessageRow]:
    return sorted(rows, key=attrgetter("place"), reverse=newest_first)[:limit]


# SQLite keeps the order of a CROSS JOIN. Otherwise it would walk the whole log, and look for each row among the spans.
# The index of aliases covers all that is read of `listed`.
@cache
def _first_rows(count: int, *, has_alias: bool, newest_first: bool) -> str:
    """Return the statement for the first rows of each span: it finds the last of them, then reads up to it."""
    order, last, bounds = (
        ("DESC", "given.low + 1", "listed.seq >= span.last AND listed.seq < span.high")
        if newest_first
        else ("ASC", "given.high - 1", "listed.seq <= span.last AND listed.seq > span.low")
    )
    organization, alias, offset = (f"${3 * count + place}" for place in (1, 2, 2 + has_alias))
    with_alias = f" AND {{}}.alias = {alias}" if has_alias else ""
    rows = "listed"
    if has_alias:
        rows = "l"
        bounds += " AND l.organization = listed.organization AND l.queue = listed.queue AND l.seq = listed.seq"
    return f"""
        WITH given (queue, low, high) AS ({given_rows(count, 3)})
        SELECT {listed_columns(rows)} FROM (
            SELECT given.queue, given.low, given.high, coalesce((
                SELECT x.seq FROM log x
                WHERE x.organization = {organization}{with_alias.format("x")} AND x.queue = given.queue
                    AND x.seq > given.low AND x.seq < given.high
                ORDER BY x.seq {order} LIMIT 1 OFFSET {offset}), {last}) AS last
            FROM given) AS span
        CROSS JOIN log listed{" CROSS JOIN log l" if has_alias else ""}
        WHERE listed.organization = {organization}{with_alias.format("listed")} AND listed.queue = span.queue
            AND {bounds}"""
