"""The logs of many queues as one list, in a few statements however many queues there are."""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Final

from discue.store.engine import Row, Transaction
from discue.store.log_bounds import first_seqs_at, spans_of_times
from discue.store.message_log import LogPosition, listed_columns, placed, position_of
from discue.store.pagination import MERGED_ROWS, Selection, Span, too_far
from discue.store.tables import given_rows, padded

_AT_ONCE: Final = 128
_NO_SPAN: Final = (0, 0, 0)


class MergedLogs:
    """The messages of several queues that pass the time filters, by position."""

    def __init__(self, organization: int, spans: Mapping[int, Span]) -> None:
        self._organization = organization
        self._spans = spans
        """The seqs of each queue that pass the filters."""

    @classmethod
    async def of(cls, tx: Transaction, organization: int, queues: Sequence[int], selection: Selection) -> "MergedLogs":
        return cls(organization, await spans_of_times(tx, organization, queues, selection))

    async def locate(self, tx: Transaction, public_id: str) -> LogPosition:
        return await position_of(tx, self._organization, public_id, 0)

    async def older(self, tx: Transaction, bound: LogPosition | None, limit: int, offset: int = 0) -> Sequence[Row]:
        if offset * len(self._spans) > MERGED_ROWS:
            raise too_far()
        spans = self._spans
        if bound is not None:
            below = await self._boundaries(tx, bound, 0)
            spans = {queue: (low, min(high, below[queue])) for queue, (low, high) in spans.items()}
        return (await self._merged(tx, spans, offset + limit, newest_first=True))[offset:]

    async def newer(self, tx: Transaction, bound: LogPosition, limit: int) -> Sequence[Row]:
        above = await self._boundaries(tx, bound, 1)
        spans = {queue: (max(low, above[queue] - 1), high) for queue, (low, high) in self._spans.items()}
        return await self._merged(tx, spans, limit, newest_first=False)

    async def _boundaries(self, tx: Transaction, bound: LogPosition, side: int) -> dict[int, int]:
        """Return the seqs at which each log goes on from a position; see `OneLog.boundaries`."""
        stored_at, own, seq = bound
        # Messages of one millisecond are ordered by queue.
        times = {queue: stored_at + (queue < own) for queue in self._spans if queue != own}
        return {**await first_seqs_at(tx, self._organization, times), own: seq + side}

    async def _merged(self, tx: Transaction, spans: Mapping[int, Span], limit: int, *, newest_first: bool) -> list[Row]:
        """Return the first rows of all logs together: as `pagination.Merged`, but with two reads for all of them."""
        share = min(limit, 2 * limit // max(len(spans), 1) + 2)
        found = await self._first_of_each(tx, spans, share, newest_first=newest_first)
        rows = _first([row for part in found.values() for row in part], limit, newest_first=newest_first)
        if share == limit:
            return rows
        shown = {row[0] for row in rows}
        # Further rows of a log can only be among the first ones if all that was read of it is.
        more = {queue: spans[queue] for queue, part in found.items() if len(part) == share and part[-1][0] in shown}
        if not more:
            return rows
        others = [row for row in rows if row[0][1] not in more]
        again = await self._first_of_each(tx, more, limit, newest_first=newest_first)
        return _first([*others, *(row for part in again.values() for row in part)], limit, newest_first=newest_first)

    async def _first_of_each(
        self, tx: Transaction, spans: Mapping[int, Span], limit: int, *, newest_first: bool
    ) -> dict[int, list[Row]]:
        """Read the first rows of each log, in order."""
        wanted = [(queue, *span) for queue, span in spans.items()]
        found = await read_spans(tx, self._organization, wanted, limit, newest_first=newest_first)
        found.sort(key=lambda row: (row[0][1], row[0][2]), reverse=newest_first)
        return {queue: list(rows) for queue, rows in groupby(found, key=lambda row: row[0][1])}


async def read_spans(
    tx: Transaction, organization: int, spans: Sequence[tuple[int, int, int]], limit: int, *, newest_first: bool
) -> list[Row]:
    """Read the first messages of each span, in any order. Spans are a queue and two seqs, both excluded."""
    found: list[Row] = []
    wanted = [(queue, low, high) for queue, low, high in spans if high - low > 1]
    for start in range(0, len(wanted), _AT_ONCE):
        some = padded(wanted[start : start + _AT_ONCE], _NO_SPAN)
        values = [value for each in some for value in each]
        sql = _first_rows(len(some), newest_first=newest_first)
        found += [placed(row) for row in await tx.rows(sql, *values, organization, limit - 1)]
    return found


def _first(rows: Sequence[Row], limit: int, *, newest_first: bool) -> list[Row]:
    return sorted(rows, key=itemgetter(0), reverse=newest_first)[:limit]


# SQLite keeps the order of a CROSS JOIN. Otherwise it would walk the whole log, and look for each row among the spans.
@cache
def _first_rows(count: int, *, newest_first: bool) -> str:
    """Return the statement for the first rows of each span: it finds the last of them, then reads up to it."""
    order, last, bounds = (
        ("DESC", "given.low + 1", "l.seq >= span.last AND l.seq < span.high")
        if newest_first
        else ("ASC", "given.high - 1", "l.seq <= span.last AND l.seq > span.low")
    )
    organization, offset = f"${3 * count + 1}", f"${3 * count + 2}"
    return f"""
        WITH given (queue, low, high) AS ({given_rows(count, 3)})
        SELECT {listed_columns("l")} FROM (
            SELECT given.queue, given.low, given.high, coalesce((
                SELECT x.seq FROM log x
                WHERE x.organization = {organization} AND x.queue = given.queue AND x.seq > given.low
                    AND x.seq < given.high
                ORDER BY x.seq {order} LIMIT 1 OFFSET {offset}), {last}) AS last
            FROM given) AS span
        CROSS JOIN log l WHERE l.organization = {organization} AND l.queue = span.queue AND {bounds}"""
