"""Lists of a listener's messages among those of a source, by seq: with a key, under an alias, or missed.

The state of each is checked, and others are skipped. A page scans a limited number of rows: if it is cut short, it says
where to continue.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from discue.domain.messages import MessageState, hash_key
from discue.domain.model import DeliveryState, Listener
from discue.store.engine import Row, Transaction, Value
from discue.store.filtered_pages import FilteredPages, ScanLimits, ScanStep
from discue.store.log_bounds import WHOLE_LOG, PageBounds
from discue.store.merged_logs import read_spans
from discue.store.message_log import LIST_COLUMNS, OneLog, placed, position_of
from discue.store.message_states import listed_row, states_for
from discue.store.pagination import LARGEST, Listing, Selection, Span, intersect
from discue.store.recipients import Recipient, find_recipient, missed_range

LIMITS: Final = ScanLimits(first=None, step=100, in_all=2_000, in_all_numbered=5_000)
LIMITS_OF_STATE_AMONG: Final = ScanLimits(first=250, step=250, in_all=250, in_all_numbered=2_000, around=0)
"""A page takes one step of two or three statements: one for whole messages, the others for their states."""

# The queue is a parameter, so that the index of a state covers all columns that are read. Otherwise the planner would
# prefer the primary key, and pass rows of all states. Adding 0 keeps it from the primary key as well.
_OF_DELIVERY_ROWS: Final = f"""
    SELECT {LIST_COLUMNS}, delivery.reason, delivery.due_at, delivery.attempts FROM delivery
    JOIN log ON log.queue = $1 AND log.organization = delivery.organization AND log.seq = delivery.seq
    WHERE delivery.organization = $2 AND delivery.listener = $3 AND delivery.seq > $4 AND delivery.seq < $5"""
_SCHEDULED: Final = f"""
    SELECT {LIST_COLUMNS} FROM scheduled
    JOIN log ON log.queue = $1 AND log.organization = scheduled.organization AND log.seq = scheduled.origin_seq
    WHERE scheduled.queue = $1 AND scheduled.organization = $2 AND scheduled.origin_seq > $3
        AND scheduled.origin_seq < $4"""
_MISSED: Final = f"{_OF_DELIVERY_ROWS} AND delivery.state = 'missed' AND delivery.stream + 0 = 0"
_ENDED: Final = f"{_OF_DELIVERY_ROWS} AND delivery.state = 'ended' AND delivery.stream = 0"
_OF_REASON: Final = " AND delivery.reason = $6"
# The index of keys covers all that is read of `listed`: otherwise the planner would walk the log.
_OF_KEY: Final = f"""
    SELECT {LIST_COLUMNS} FROM log AS listed
    JOIN log ON log.organization = listed.organization AND log.queue = listed.queue AND log.seq = listed.seq
    WHERE listed.queue = $1 AND listed.organization = $2 AND listed.seq > $3 AND listed.seq < $4
        AND listed.key_hash = $5"""
_RANGES_FROM: Final = """
    SELECT seq_from, seq_to FROM missed_range
    WHERE organization = $1 AND listener = $2 AND seq_from > $3 AND seq_from < $4{} ORDER BY seq_from LIMIT ${}"""
_RANGES_BEFORE: Final = """
    SELECT seq_from, seq_to FROM missed_range
    WHERE organization = $1 AND listener = $2 AND seq_from < $3{} ORDER BY seq_from DESC LIMIT ${}"""
_GROWTH: Final = 4
"""How many times as many seqs of missed ranges are read next if a read found too few messages."""

Accepts = Callable[[Row], bool]
"""Tests a message of a list."""


class MessageSource(Protocol):
    """A source of messages, among which are those of a state."""

    async def read_span(self, tx: Transaction, span: Span, limit: int, *, newest_first: bool) -> Sequence[Row]:
        """Read the next messages of a span. Fewer than `limit` mean that no more follow."""


class Picked:
    """A few messages in memory."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = sorted(rows, key=_seq)

    async def read_span(self, tx: Transaction, span: Span, limit: int, *, newest_first: bool) -> Sequence[Row]:
        del tx
        within = [row for row in self._rows if span[0] < _seq(row) < span[1]]
        return (within[::-1] if newest_first else within)[:limit]


class Several:
    """The messages that are in any of several sources. If a message is in two, the row of the later one counts."""

    def __init__(self, *parts: MessageSource) -> None:
        self._parts = parts

    async def read_span(self, tx: Transaction, span: Span, limit: int, *, newest_first: bool) -> Sequence[Row]:
        found = [
            row for part in self._parts for row in await part.read_span(tx, span, limit, newest_first=newest_first)
        ]
        by_seq = {_seq(row): row for row in found}
        return [by_seq[seq] for seq in sorted(by_seq, reverse=newest_first)][:limit]


class _Named:
    """Messages whose seqs are in rows of other tables, which one statement reads from each of these."""

    def __init__(self, tables: Mapping[str, str], key: Sequence[int], *values: Value) -> None:
        """`tables` are the columns of the seqs by the queries: of the key, of two seqs, and of other values."""
        self._tables = tables
        self._key = key
        self._values = values

    async def read_span(self, tx: Transaction, span: Span, limit: int, *, newest_first: bool) -> Sequence[Row]:
        order, last = "DESC" if newest_first else "ASC", len(self._key) + len(span) + len(self._values) + 1
        parts = [f"{sql} ORDER BY {seq} {order} LIMIT ${last}" for sql, seq in self._tables.items()]
        if len(parts) > 1:
            parts = [f"SELECT * FROM ({part}) AS looked_at" for part in parts]
        rows = await tx.rows(" UNION ALL ".join(parts), *self._key, *span, *self._values, limit)
        found = sorted(map(placed, rows), key=_seq, reverse=newest_first)
        return found[:limit]


def _delivery_rows(of: Recipient, *queries: str, reason: str | None = None) -> MessageSource:
    key, seq = (of.queue, of.organization, of.listener), "delivery.seq"
    if reason is None:
        return _Named(dict.fromkeys(queries, seq), key)
    return _Named(dict.fromkeys([query + _OF_REASON for query in queries], seq), key, reason)


class _InMissedRanges:
    """Messages in missed ranges."""

    def __init__(self, of: Recipient, reason: str | None = None) -> None:
        self._of = of
        self._reason = reason

    async def read_span(self, tx: Transaction, span: Span, limit: int, *, newest_first: bool) -> Sequence[Row]:
        found: list[Row] = []
        low, high = span
        room = limit
        while len(found) < limit and (ranges := await self._ranges(tx, (low, high), limit, newest_first=newest_first)):
            within = [intersect((first - 1, last + 1), span) for first, last in ranges]
            while within and len(found) < limit:
                count = _first_that_have(within, room)
                spans = [(self._of.queue, *each) for each in within[:count]]
                rows = await read_spans(tx, self._of.organization, spans, limit - len(found), newest_first=newest_first)
                found += sorted(rows, key=_seq, reverse=newest_first)[: limit - len(found)]
                # Where many messages are not kept any more, few statements find the others.
                within, room = within[count:], room * _GROWTH
            low, high = (low, ranges[-1][0]) if newest_first else (ranges[-1][1], high)
            if len(ranges) < limit:
                break
        return found

    async def _ranges(self, tx: Transaction, span: Span, limit: int, *, newest_first: bool) -> list[Row]:
        """Read ranges that overlap the span, from one of its ends."""
        low, high = span
        bounds = (high,) if newest_first else span
        taken = len(self._of.key) + len(bounds)
        # Ranges of other reasons are passed in the database: there may be many.
        condition, values = ("", ()) if self._reason is None else (f" AND reason = ${taken + 1}", (self._reason,))
        sql = (_RANGES_BEFORE if newest_first else _RANGES_FROM).format(condition, taken + len(values) + 1)
        rows = await tx.rows(sql, *self._of.key, *bounds, *values, limit)
        if newest_first:
            return [row for row in rows if row[1] > low]
        # A range that begins before the span may reach into it.
        around = await missed_range(tx, self._of.key, low)
        is_wanted = around is not None and around.seq_to > low and self._reason in (None, around.reason)
        return [(around.seq_from, around.seq_to), *rows] if around is not None and is_wanted else rows


def _first_that_have(spans: Sequence[Span], room: int) -> int:
    """Return how many of the first spans may have enough messages, at least one."""
    for count, (low, high) in enumerate(spans, 1):
        room -= high - low - 1
        if room <= 0:
            return count
    return len(spans)


def missed_for(of: Recipient, reason: str | None) -> MessageSource:
    """Return the source of messages that the listener has missed, for one reason or for any."""
    return Several(_InMissedRanges(of, reason), _delivery_rows(of, _MISSED, _ENDED, reason=reason))


def with_key(organization: int, queue: int, key: str) -> MessageSource:
    """Return the source of a queue's messages with a key, and of all that are not due yet: those have no hash."""
    tables = {_OF_KEY: "listed.seq", _SCHEDULED: "scheduled.origin_seq"}
    return _Named(tables, (queue, organization), hash_key(key))


async def page_for_listener(
    tx: Transaction, of: Recipient, source: MessageSource, selection: Selection, *, bounds: PageBounds, accepts: Accepts
) -> Listing[Row]:
    """Read a page of the listener's messages in a state that pass a test, among those of a source.

    Raises BadRequest for a numbered page that is too far from the first.
    """
    limits = LIMITS if selection.state is None else LIMITS_OF_STATE_AMONG
    scan = ListenerScan(of, selection.state, source, accepts, anchor=bounds.anchor)
    within = intersect((of.start_seq, LARGEST), bounds.within)
    return await FilteredPages(scan, within, limits).page(tx, selection)


class ListenerScan:
    """A scan of messages for those that were stored for a listener, are in a state if one is given, and pass a test."""

    def __init__(
        self,
        of: Recipient,
        state: MessageState | DeliveryState | None,
        source: MessageSource,
        accepts: Accepts,
        *,
        anchor: int | None = None,
    ) -> None:
        """`anchor` is the seq of the message that the page continues at, if it is known."""
        self._of = of
        self._anchor = anchor
        self._state = state
        self._source = source
        self._accepts = accepts

    async def scan(self, tx: Transaction, span: Span, count: int, wanted: int, *, newest_first: bool) -> ScanStep:
        del wanted
        rows = await self._source.read_span(tx, span, count, newest_first=newest_first)
        own = [each for each in map(listed_row, rows) if each.origin_seq > self._of.start_seq]
        states = await states_for(tx, self._of, own) if self._state is not None else {}
        seqs = {each.seq for each in own if self._state in (None, states.get(each.seq))}
        found = [row for row in rows if _seq(row) in seqs and self._accepts(row)]
        if len(rows) < count:
            return ScanStep(found, None)
        return ScanStep(found, _seq(rows[-1]), str(rows[-1][2]))

    async def position(self, tx: Transaction, public_id: str) -> Span:
        return await scanned_position(tx, (self._of.organization, self._of.queue), public_id, self._anchor)

    def key_of(self, row: Row) -> int:
        return _seq(row)


async def scanned_position(tx: Transaction, log: tuple[int, int], public_id: str, anchor: int | None = None) -> Span:
    """Return the seqs around a message of a queue; see `ScanSource.position`. `log` is its organization and itself.

    `anchor` is the seq of the message if it is known.
    """
    if anchor is not None:
        return anchor, anchor
    position = await position_of(tx, log[0], public_id, log[1])
    older, newer = await OneLog(*log).boundaries(tx, position)
    return older, newer - 1


def accept_all(row: Row) -> bool:
    """Accept every message."""
    del row
    return True


def _seq(row: Row) -> int:
    return int(row[0][2])


SHOWN_MISSED: Final = 100


async def missed_ids(tx: Transaction, listener: Listener, limit: int = SHOWN_MISSED) -> list[str]:
    """Read the ids of missed messages that still exist, newest first."""
    of = await find_recipient(tx, listener.organization, listener.public_id)
    if of is None:
        return []
    missed = Several(_delivery_rows(of, _MISSED), _InMissedRanges(of))
    return [row[2] for row in await missed.read_span(tx, WHOLE_LOG, limit, newest_first=True)]
