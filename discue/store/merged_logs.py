"""The logs of many queues as one list, in a few statements however many queues there are."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Final

from discue.store.engine import Transaction
from discue.store.log_bounds import first_of_spans, first_seqs_at, spans_of_times
from discue.store.message_log import LogPosition, MessageRow, OneLog, listed_columns, position_of
from discue.store.pagination import MERGED_ROWS, Bounds, Part, Selection, Span, first_of_many, too_far
from discue.store.tables import padded

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

    async def read(self, tx: Transaction, part: Part) -> Sequence[MessageRow]:
        if part.offset * len(self._spans) > MERGED_ROWS:
            raise too_far()
        spans = self._spans
        if part.high is not None:
            ends = await self._boundaries(tx, part.high, 0)
            spans = {queue: (low, min(high, ends[queue])) for queue, (low, high) in spans.items()}
        if part.low is not None:
            starts = await self._boundaries(tx, part.low, 1)
            spans = {queue: (max(low, starts[queue] - 1), high) for queue, (low, high) in spans.items()}

        async def read(queues: Collection[int], limit: int) -> dict[int, list[MessageRow]]:
            chosen = {queue: spans[queue] for queue in queues}
            return await self._first_of_each(tx, chosen, limit, newest_first=part.newest_first)

        found = await first_of_many(spans.keys(), read, part.offset + part.limit, newest_first=part.newest_first)
        return found[part.offset :]

    async def _boundaries(self, tx: Transaction, bound: LogPosition, side: int) -> dict[int, int]:
        """Return the seqs at which each log goes on below a position, or above it."""
        stored_at, own, seq = bound
        # Messages of one millisecond are ordered by queue.
        places = [(queue, stored_at + (queue < own)) for queue in self._spans if queue != own]
        found = await first_seqs_at(tx, self._organization, places)
        return {**{queue: found[queue, time] for queue, time in places}, own: seq + side}

    async def _first_of_each(
        self, tx: Transaction, spans: Mapping[int, Span], limit: int, *, newest_first: bool
    ) -> dict[int, list[MessageRow]]:
        """Read the first rows of each log, in order."""
        found: list[MessageRow] = []
        if self._alias is not None:
            # The index of aliases has one queue after the other.
            part = Part(None, None, limit, newest_first=newest_first)
            for queue, span in spans.items():
                found += await OneLog(self._organization, queue, span, self._alias).read(tx, part)
        else:
            found += await self._first_of_spans(tx, spans, limit, newest_first=newest_first)
        found = [row._replace(key=row.place) for row in found]
        found.sort(key=attrgetter("queue", "seq"), reverse=newest_first)
        return {queue: list(rows) for queue, rows in groupby(found, key=attrgetter("queue"))}

    async def _first_of_spans(
        self, tx: Transaction, spans: Mapping[int, Span], limit: int, *, newest_first: bool
    ) -> list[MessageRow]:
        found: list[MessageRow] = []
        wanted = [(queue, low, high) for queue, (low, high) in spans.items() if high - low > 1]
        for start in range(0, len(wanted), _AT_ONCE):
            some = padded(wanted[start : start + _AT_ONCE], _NO_SPAN)
            values = [value for each in some for value in each]
            sql = _first_rows(len(some), newest_first=newest_first)
            found += map(MessageRow._make, await tx.rows(sql, *values, self._organization, limit - 1))
        return found


@cache
def _first_rows(count: int, *, newest_first: bool) -> str:
    """Return the statement for the first rows of each span."""
    organization, offset = (f"${3 * count + place}" for place in (1, 2))
    return first_of_spans(
        listed_columns("l"),
        "queue, low, high",
        count,
        organization=organization,
        offset=offset,
        newest_first=newest_first,
    )
