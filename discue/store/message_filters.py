"""Lists of messages by key, header and state: filters that no index covers as a whole.

A page scans a limited number of messages: if it is cut short, it says where to continue.
"""

from collections.abc import Sequence
from typing import Final

from discue.domain.errors import BadRequest, malformed
from discue.domain.messages import decode_options
from discue.store.engine import Row, Transaction
from discue.store.filtered_pages import FilteredPages, ScanLimits, ScanStep
from discue.store.listener_messages import LIMITS_OF_STATE_AMONG, Accepts, MessageSource, scanned_position
from discue.store.log_bounds import PageBounds
from discue.store.message_log import (
    LIST_COLUMNS,
    WAITING,
    LiveQueues,
    OneLog,
    placed,
    rows_by_seq,
)
from discue.store.message_states import (
    LISTENERS_OF_ANY_QUEUE,
    QUEUES_AT_ONCE,
    ListedRow,
    listed_row,
    states_of_messages,
    states_of_queues,
)
from discue.store.pagination import LARGEST, Bounds, Listing, Selection, Span

_IDS_OF_ALL: Final = """
    SELECT id, queue FROM log
    WHERE organization = $1 AND (id, queue) > ($2, $3) AND (id, queue) < ($4, $5)
    ORDER BY id {0}, queue {0} LIMIT $6"""
_ALL: Final = f"""
    SELECT {LIST_COLUMNS} FROM log WHERE organization = $1 AND id >= $2 AND id <= $3
    ORDER BY id, queue LIMIT $4"""
_OF_LOG: Final = """
    SELECT listed.seq, listed.origin_seq, listed.kind, listed.id, (
        SELECT count(*) FROM (
            SELECT l.id FROM listener l WHERE l.organization = $1 AND l.queue = $2 AND l.deleted_at IS NULL LIMIT $3
        ) AS counted)
    FROM log AS listed
    WHERE listed.organization = $1 AND listed.queue = $2 AND listed.seq > $4 AND listed.seq < $5
    ORDER BY listed.seq {0} LIMIT $6"""
"""The messages of a queue, and how many listeners it has."""

_LIMITS: Final = ScanLimits(first=None, step=100, in_all=2_000, in_all_numbered=5_000)
_LIMITS_OF_STATE: Final = ScanLimits(first=500, step=500, in_all=500, in_all_numbered=2_000, around=0)
"""A page takes one step of three statements: for messages, for their states, and for those that are in the state."""
_LIMITS_OF_ALL: Final = ScanLimits(first=500, step=500, in_all=500, around=0)
"""A page takes one step of at most five statements: three for messages and their queues, at most two for states."""
_COPIES: Final = 100
"""The largest number of copies of a message."""
_DELIVERIES_AT_MOST: Final = 10_000
"""The largest number of deliveries that are read for one step among messages of a state."""
_STATES_AT_ONCE: Final = 4_096
"""The largest product of queues, and messages of one of them, whose states are read at once: parameters are as many."""
_STATES_FIRST: Final = _DELIVERIES_AT_MOST // LISTENERS_OF_ANY_QUEUE
"""The largest number of messages whose states are read before it is known how many listeners the queue has."""


def has_filters(selection: Selection) -> bool:
    """Return whether a page needs the functions of this module."""
    return (selection.key, selection.header, selection.state) != (None, None, None)


def accepts(selection: Selection) -> Accepts:
    """Return whether a row has the key and the header of the selection."""
    key, header = selection.key, selection.header
    if header is None:
        return lambda row: key is None or decode_options(row[10]).key == key
    name, colon, value = header.partition(":")
    name, value = name.strip().lower(), value.strip()

    def has_both(row: Row) -> bool:
        options = decode_options(row[10])
        return key in (None, options.key) and any(
            given.lower() == name and (not colon or sent == value) for given, sent in options.headers
        )

    return has_both


async def page_of_queue(
    tx: Transaction, key: tuple[int, int], source: MessageSource | None, *, bounds: PageBounds, selection: Selection
) -> Listing[Row]:
    """Read a page of a queue's messages, among those of a source if one is given.

    `key` is the organization and the queue. Raises BadRequest for a numbered page that is too far from the first, and
    for a state if the queue has too many listeners.
    """
    if source is None and selection.state is not None and selection.header is None:
        in_state = _InState(key, selection.state, bounds.anchor)
        return await FilteredPages(in_state, bounds.within, _LIMITS_OF_STATE).page(tx, selection)
    limits = _LIMITS if selection.state is None else LIMITS_OF_STATE_AMONG
    scan = _OfQueue(key, source or OneLog(*key), selection, bounds.anchor)
    return await FilteredPages(scan, bounds.within, limits).page(tx, selection)


async def page_of_all(
    tx: Transaction, live: LiveQueues, selection: Selection, *, within: Bounds, passes: Accepts
) -> Listing[Row]:
    """Read a page of an organization's messages that also pass a test, each once.

    `within` are ids, the key of this list. Raises what `page_of_queue` raises.
    """
    return await FilteredPages(_OfAll(live, selection, passes), within, _LIMITS_OF_ALL).page(tx, selection)


class _OfQueue:
    """A scan of messages of one queue, by seq."""

    def __init__(self, key: tuple[int, int], source: MessageSource, selection: Selection, anchor: int | None) -> None:
        """`anchor` is the seq of the message that the page continues at, if it is known."""
        self._key = key
        self._anchor = anchor
        self._source = source
        self._accepts = accepts(selection)
        self._state = selection.state

    async def scan(self, tx: Transaction, span: Span, count: int, wanted: int, *, newest_first: bool) -> ScanStep:
        rows = await self._source.read_span(tx, span, count, newest_first=newest_first)
        found = [row for row in rows if self._accepts(row)]
        if self._state is not None:
            found, looked_at = await self._in_state(tx, found, self._state, wanted)
            if looked_at is not None:
                return ScanStep(found, self.key_of(looked_at), looked_at[2])
        if len(rows) < count:
            return ScanStep(found, None)
        return ScanStep(found, self.key_of(rows[-1]), rows[-1][2])

    async def position(self, tx: Transaction, public_id: str) -> Span:
        return await scanned_position(tx, self._key, public_id, self._anchor)

    def key_of(self, row: Row) -> int:
        return int(row[1][2])

    async def _in_state(
        self, tx: Transaction, rows: Sequence[Row], state: str, wanted: int
    ) -> tuple[list[Row], Row | None]:
        """Return the messages in a state, and the last one that was looked at, unless all were.

        First it looks at as many as are wanted. If these are not enough, it looks at all others that the limit allows.
        """
        some = rows[: min(wanted, _STATES_FIRST)]
        if not some:
            return [], None
        found, listeners = await _in_state(tx, self._key, some, state)
        room = _DELIVERIES_AT_MOST // max(listeners, 1)
        others = rows[len(some) : max(room, len(some))]
        if len(found) < wanted and others:
            found += (await _in_state(tx, self._key, others, state))[0]
            some = [*some, *others]
        return found, None if len(some) == len(rows) else some[-1]


class _InState:
    """A scan of the messages of one queue that are in a state, by seq."""

    def __init__(self, key: tuple[int, int], state: str, anchor: int | None) -> None:
        """See `_OfQueue`."""
        self._key = key
        self._anchor = anchor
        self._state = state

    async def scan(self, tx: Transaction, span: Span, count: int, wanted: int, *, newest_first: bool) -> ScanStep:
        sql, counted = _OF_LOG.format("DESC" if newest_first else "ASC"), LISTENERS_OF_ANY_QUEUE + 1
        rows = await tx.rows(sql, *self._key, counted, *span, count)
        if not rows:
            return ScanStep((), None)
        *_, listeners = rows[0]
        looked_at = rows[: max(1, _DELIVERIES_AT_MOST // max(1, listeners))]
        listed = [ListedRow(seq, origin_seq or seq, kind == WAITING) for seq, origin_seq, kind, *_ in looked_at]
        read = await states_of_messages(tx, *self._key, listed, listeners_at_most=LISTENERS_OF_ANY_QUEUE)
        if read is None:
            raise _too_many_listeners()
        seqs = [each.seq for each in listed if read.states[each.seq] == self._state][:wanted]
        found = sorted(await rows_by_seq(tx, *self._key, seqs), key=self.key_of, reverse=newest_first)
        if len(looked_at) == len(rows) < count:
            return ScanStep(found, None)
        last, _, _, last_id, *_ = looked_at[-1]
        return ScanStep(found, last, last_id)

    async def position(self, tx: Transaction, public_id: str) -> Span:
        return await scanned_position(tx, self._key, public_id, self._anchor)

    def key_of(self, row: Row) -> int:
        return int(row[1][2])


class _OfAll:
    """A scan of messages of all queues, by id."""

    def __init__(self, live: LiveQueues, selection: Selection, passes: Accepts) -> None:
        self._live = live
        self._passes = passes
        self._accepts = accepts(selection)
        self._state = selection.state
        self._listeners: dict[int, int] = {}
        """The numbers of listeners of queues, as far as they are known."""

    async def scan(self, tx: Transaction, span: Bounds, count: int, wanted: int, *, newest_first: bool) -> ScanStep:
        order = "DESC" if newest_first else "ASC"
        values = (span[0], LARGEST, span[1], 0, count)
        some = await tx.rows(_IDS_OF_ALL.format(order), self._live.organization, *values)
        if not some:
            return ScanStep((), None)
        # With all copies of the last one: the next step begins behind its id.
        first, last = sorted((some[0][0], some[-1][0]))
        most = len(some) + _COPIES
        rows = [placed(row) for row in await tx.rows(_ALL, self._live.organization, first, last, most)]
        end = some[-1][0] if len(some) == count else None
        # Of several copies the one in the queue that was made last is shown.
        rows.sort(key=lambda row: (row[2], row[1][1]), reverse=newest_first)
        found = [row for row in rows if self._passes(row) and self._accepts(row)]
        await self._live.learn(tx, {row[1][1] for row in found})
        found = [row for row in found if await self._live.public_id(tx, row[1][1]) is not None]
        if self._state is not None:
            found, looked_at = await self._in_state(tx, found, self._state, wanted)
            end = end if looked_at is None else looked_at[2]
        shown: dict[str, Row] = {}
        for row in found:
            if row[2] not in shown or not newest_first:
                shown[row[2]] = row
        return ScanStep(list(shown.values()), end, end or "")

    async def position(self, tx: Transaction, public_id: str) -> Bounds:
        del tx
        return public_id, public_id

    def key_of(self, row: Row) -> str:
        return str(row[2])

    async def _in_state(
        self, tx: Transaction, rows: Sequence[Row], state: str, wanted: int
    ) -> tuple[list[Row], Row | None]:
        """Return the messages in a state, and the last one that was looked at, unless all were. See `_OfQueue`."""
        looked_at, found, most = 0, [], min(wanted, _STATES_FIRST)
        for _ in range(2):
            some = rows[looked_at : looked_at + self._readable(rows[looked_at:], most)]
            found += await self._those_in_state(tx, some, state)
            looked_at, most = looked_at + len(some), len(rows)
            if looked_at == len(rows):
                return found, None
            if len(found) >= wanted:
                break
        return found, rows[looked_at - 1]

    def _readable(self, rows: Sequence[Row], most: int) -> int:
        """Return of how many of the first messages one statement reads the states, with all copies of each."""
        counts: dict[int, int] = {}
        deliveries = 0
        for place, row in enumerate(rows):
            queue = row[1][1]
            counts[queue] = counts.get(queue, 0) + 1
            deliveries += self._listeners.get(queue, LISTENERS_OF_ANY_QUEUE)
            is_full = place >= most or deliveries > _DELIVERIES_AT_MOST or len(counts) > QUEUES_AT_ONCE
            is_full = is_full or len(counts) * max(counts.values()) > _STATES_AT_ONCE
            if is_full and place and row[2] != rows[place - 1][2]:
                return place
        return len(rows)

    async def _those_in_state(self, tx: Transaction, rows: Sequence[Row], state: str) -> list[Row]:
        of_queues: dict[int, list[ListedRow]] = {}
        for row in rows:
            of_queues.setdefault(row[1][1], []).append(listed_row(row))
        at_most, states = LISTENERS_OF_ANY_QUEUE, {}
        read = await states_of_queues(tx, self._live.organization, of_queues, listeners_at_most=at_most)
        for queue, of_queue in read.items():
            if of_queue is None:
                raise _too_many_listeners()
            self._listeners[queue] = of_queue.listeners
            states.update({(queue, seq): found for seq, found in of_queue.states.items()})
        return [row for row in rows if states[row[1][1:]] == state]


async def _in_state(tx: Transaction, key: tuple[int, int], rows: Sequence[Row], state: str) -> tuple[list[Row], int]:
    """Return the messages of one queue that are in a state, and how many listeners it has.

    Raises BadRequest if that would take too long.
    """
    listed = [listed_row(row) for row in rows]
    read = await states_of_messages(tx, *key, listed, listeners_at_most=LISTENERS_OF_ANY_QUEUE)
    if read is None:
        raise _too_many_listeners()
    return [row for row in rows if read.states[row[1][2]] == state], read.listeners


def _too_many_listeners() -> BadRequest:
    rule = f"needs the parameter listener in a queue with more than {LISTENERS_OF_ANY_QUEUE} listeners"
    return malformed("?state", rule, code="invalid_parameter")
