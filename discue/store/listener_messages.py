"""Lists of a listener's messages among those of a source, by seq: with a key, under an alias, or missed.

The state of each is checked, and others are skipped. A page scans a limited number of rows: if it is cut short, it says
where to continue.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from discue.domain.messages import MessageState, hash_key
from discue.domain.model import DeliveryState
from discue.store.engine import Row, Transaction
from discue.store.filtered_pages import FilteredPages, ScanLimits, ScanStep
from discue.store.log_bounds import PageBounds
from discue.store.message_log import LIST_COLUMNS, OneLog, placed, position_of
from discue.store.message_states import listed_row, states_for
from discue.store.pagination import LARGEST, Listing, Selection, Span, intersect
from discue.store.recipients import Recipient

LIMITS: Final = ScanLimits(first=None, step=100, in_all=2_000, in_all_numbered=5_000)
LIMITS_OF_STATE_AMONG: Final = ScanLimits(first=250, step=250, in_all=250, in_all_numbered=2_000, around=0)
"""A page takes one step of two or three statements: one for whole messages, the others for their states."""

# The index of keys covers all that is read of `listed`: otherwise the planner would walk the log.
_WITH_KEY: Final = f"""
    SELECT * FROM (
        SELECT {LIST_COLUMNS} FROM log AS listed
        JOIN log ON log.organization = listed.organization AND log.queue = listed.queue AND log.seq = listed.seq
        WHERE listed.queue = $1 AND listed.organization = $2 AND listed.seq > $3 AND listed.seq < $4
            AND listed.key_hash = $5
        ORDER BY listed.seq {{0}} LIMIT $6) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT {LIST_COLUMNS} FROM scheduled
        JOIN log ON log.queue = $1 AND log.organization = scheduled.organization AND log.seq = scheduled.origin_seq
        WHERE scheduled.queue = $1 AND scheduled.organization = $2 AND scheduled.origin_seq > $3
            AND scheduled.origin_seq < $4
        ORDER BY scheduled.origin_seq {{0}} LIMIT $6) AS looked_at"""

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


class WithKey:
    """A queue's messages with a key, and all that are not due yet: those have no hash."""

    def __init__(self, organization: int, queue: int, key: str) -> None:
        self._key = (queue, organization)
        self._key_hash = hash_key(key)

    async def read_span(self, tx: Transaction, span: Span, limit: int, *, newest_first: bool) -> Sequence[Row]:
        sql = _WITH_KEY.format("DESC" if newest_first else "ASC")
        rows = await tx.rows(sql, *self._key, *span, self._key_hash, limit)
        return sorted(map(placed, rows), key=_seq, reverse=newest_first)[:limit]


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


def _seq(row: Row) -> int:
    return int(row[0][2])
