"""Lists of messages by key, header and state: filters that no index covers as a whole.

A page scans a limited number of messages: if it is cut short, it says where to continue.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from discue.domain.errors import malformed
from discue.domain.messages import decode_options, hash_key
from discue.store.engine import Transaction
from discue.store.listener_states import Accepts, page_in_state
from discue.store.message_log import (
    LIST_COLUMNS,
    WHOLE_LOG,
    MessageRow,
    OneLog,
    PageBounds,
)
from discue.store.pagination import (
    Listing,
    Part,
    RowsInOrder,
    ScanLimits,
    ScanStep,
    Selection,
    browse_matching,
)
from discue.store.recipients import (
    LISTENERS_OF_ANY_QUEUE,
    QUEUES_AT_ONCE,
    Recipient,
    states_for,
    states_of_queues,
)
from discue.store.tables import by_index

_LIMITS: Final = ScanLimits(first=None, step=100, in_all=2_000, in_all_numbered=5_000)
_LIMITS_OF_STATE_AMONG: Final = ScanLimits(first=250, step=250, in_all=250, in_all_numbered=2_000)
"""A page takes one step of two or three statements: one for messages, the others for their states."""
_LIMITS_OF_STATE: Final = ScanLimits(first=500, step=500, in_all=500, in_all_numbered=2_000)
"""For all messages of a queue."""
_DELIVERIES_AT_MOST: Final = 10_000
"""The largest number of deliveries that are read for one step among messages of a state."""
_STATES_AT_ONCE: Final = 4_096
"""The largest product of queues, and messages of one of them, whose states are read at once: parameters are as many."""
_STATES_FIRST: Final = _DELIVERIES_AT_MOST // LISTENERS_OF_ANY_QUEUE
"""The largest number of messages whose states are read before it is known how many listeners the queue has."""


# The index of keys covers all that is read of `listed`: otherwise the planner would walk the log.
_WITH_KEY: Final = f"""
    SELECT * FROM (
        SELECT {LIST_COLUMNS} FROM log AS listed
        JOIN log ON {by_index("log.organization", "listed.organization")}
            AND log.queue = listed.queue AND log.seq = listed.seq
        WHERE listed.queue = $1 AND listed.organization = $2 AND listed.seq > $3 AND listed.seq < $4
            AND listed.key_hash = $5
        ORDER BY listed.seq {{0}} LIMIT $6) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT {LIST_COLUMNS} FROM scheduled
        JOIN log ON {by_index("log.organization", "scheduled.organization")}
            AND log.queue = scheduled.queue AND log.seq = scheduled.origin_seq
        WHERE scheduled.queue = $1 AND scheduled.organization = $2 AND scheduled.origin_seq > $3
            AND scheduled.origin_seq < $4
        ORDER BY scheduled.origin_seq {{0}} LIMIT $6) AS looked_at"""


class WithKey:
    """A queue's messages with a key, and all that are not due yet: those have no hash."""

    def __init__(self, organization: int, queue: int, key: str) -> None:
        self._key = (queue, organization)
        self._key_hash = hash_key(key)

    async def read(self, tx: Transaction, part: Part) -> Sequence[MessageRow]:
        span, limit = part.within(WHOLE_LOG).span, part.limit
        rows = await tx.rows(_WITH_KEY.format(part.order), *self._key, *span, self._key_hash, limit)
        return sorted(map(MessageRow._make, rows), reverse=part.newest_first)[:limit]


_InOrder = Sequence[MessageRow]
_Select = Callable[[Transaction, _InOrder, int], Awaitable[tuple[_InOrder, MessageRow | None]]]
"""Returns the messages that are in a state. If it did not look at all of them, also returns the last that it looked at.

It may stop once it has found the given number.
"""


def has_filters(selection: Selection) -> bool:
    """Return whether a page needs the functions of this module."""
    return (selection.key, selection.header, selection.state) != (None, None, None)


def accepts_of(selection: Selection) -> Accepts:
    """Return whether a row has the key and the header of the selection."""
    key, header = selection.key, selection.header
    if header is None:
        return lambda row: key is None or decode_options(row.extra).key == key
    name, colon, value = header.partition(":")
    name, value = name.strip().lower(), value.strip()

    def has_both(row: MessageRow) -> bool:
        options = decode_options(row.extra)
        return key in (None, options.key) and any(
            given.lower() == name and (not colon or sent == value) for given, sent in options.headers
        )

    return has_both


async def page_of_queue(
    tx: Transaction,
    log: tuple[int, int],
    source: RowsInOrder[MessageRow] | None,
    selection: Selection,
    *,
    bounds: PageBounds,
    of: Recipient | None = None,
) -> Listing[MessageRow]:
    """Read a page of a queue's messages, among those of a source, and those that were stored for a listener, if given.

    `log` is the organization and the queue. Raises BadRequest for a numbered page that is too far from the first, and
    for a state without a listener if the queue has too many of them.
    """
    state, accepts, limits = selection.state, accepts_of(selection), _LIMITS
    select: _Select | None = None
    if state is not None:
        if source is None and of is not None:
            return await page_in_state(tx, of, selection, bounds, accepts=accepts if selection.header else None)
        limits = _LIMITS_OF_STATE if source is None and selection.header is None else _LIMITS_OF_STATE_AMONG
        select = States(log[0], state).select if of is None else _selecting(of, state)
    floor = 0 if of is None else of.start_seq
    whole = OneLog(log, bounds, floor=floor)
    scan = _OfQueue(whole, source or OneLog(log, bounds), accepts, select, floor=floor)
    return await browse_matching(tx, scan, selection, limits)


class _OfQueue:
    """A scan of a source for the messages that pass a test and are in a state."""

    def __init__(
        self,
        whole: OneLog,
        source: RowsInOrder[MessageRow],
        accepts: Accepts,
        select: _Select | None,
        *,
        floor: int,
    ) -> None:
        self._source = source
        self._accepts = accepts
        self._select = select
        self._floor = floor
        self._within = whole.within
        self.locate = whole.locate

    async def scan(self, tx: Transaction, part: Part, wanted: int) -> ScanStep[MessageRow]:
        rows = await self._source.read(tx, part.within(self._within))
        found: _InOrder = [row for row in rows if row.origin_seq > self._floor and self._accepts(row)]
        last = rows[-1] if len(rows) == part.limit else None
        if self._select is not None:
            found, looked_at = await self._select(tx, found, wanted)
            last = looked_at or last
        return ScanStep(found, None) if last is None else ScanStep(found, last.seq, last.id)


class States:
    """Selects messages in a state for all listeners of their queues."""

    def __init__(self, organization: int, state: str) -> None:
        self._organization = organization
        self._state = state
        self._listeners: dict[int, int] = {}
        """The known numbers of listeners by queue."""

    async def select(self, tx: Transaction, rows: _InOrder, wanted: int) -> tuple[list[MessageRow], MessageRow | None]:
        """Implement `_Select`. Looks at `wanted` messages first, then at as many more as the limits allow."""
        looked_at, found, most = 0, [], min(wanted, _STATES_FIRST)
        for _ in range(2):
            some = rows[looked_at : looked_at + self._readable(rows[looked_at:], most)]
            in_state = await self._in_state(tx, some)
            found += [row for row in some if (row.queue, row.seq) in in_state]
            looked_at, most = looked_at + len(some), len(rows)
            if looked_at == len(rows):
                return found, None
            if len(found) >= wanted:
                break
        return found, rows[looked_at - 1]

    def _readable(self, rows: _InOrder, most: int) -> int:
        """Return for how many leading messages, with all copies of each, one statement reads the states."""
        counts: dict[int, int] = {}
        deliveries = 0
        for place, row in enumerate(rows):
            queue = row.queue
            counts[queue] = counts.get(queue, 0) + 1
            deliveries += self._listeners.get(queue, LISTENERS_OF_ANY_QUEUE)
            is_full = place >= most or deliveries > _DELIVERIES_AT_MOST or len(counts) > QUEUES_AT_ONCE
            is_full = is_full or len(counts) * max(counts.values()) > _STATES_AT_ONCE
            if is_full and place and row.id != rows[place - 1].id:
                return place
        return len(rows)

    async def _in_state(self, tx: Transaction, rows: _InOrder) -> set[tuple[int, int]]:
        """Return the queue and seq of messages in the state. Raises BadRequest if reading takes too long."""
        of_queues: dict[int, list[MessageRow]] = {}
        for row in rows:
            of_queues.setdefault(row.queue, []).append(row)
        found: set[tuple[int, int]] = set()
        at_most = LISTENERS_OF_ANY_QUEUE
        for queue, read in (
            await states_of_queues(tx, self._organization, of_queues, listeners_at_most=at_most)
        ).items():
            if read is None:
                rule = f"needs the parameter listener in a queue with more than {at_most} listeners"
                raise malformed("?state", rule, code="invalid_parameter")
            self._listeners[queue] = read.listeners
            found.update((queue, seq) for seq, state in read.states.items() if state == self._state)
        return found


def _selecting(of: Recipient, state: str) -> _Select:
    """Select messages in a state for one listener."""

    async def select(tx: Transaction, rows: _InOrder, wanted: int) -> tuple[_InOrder, None]:
        del wanted
        states = await states_for(tx, of, rows)
        return [row for row in rows if states.get(row.seq) == state], None

    return select
