"""States of messages in lists: one for all deliveries of a message, read for many messages of a queue at once."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

from discue.domain.messages import MessageState
from discue.domain.model import DeliveryState
from discue.domain.window import Interval, Window
from discue.store.deliveries import Recipient, state_of_row, states_of
from discue.store.engine import Row, Transaction
from discue.store.message_log import WAITING
from discue.store.tables import rows_among

LISTENERS_AT_MOST: Final = 100
"""A queue with more listeners has no states in lists: reading them would take too long."""

_RANGES_AT_ONCE: Final = 32
_RANGE_READS: Final = 500
"""The largest number of reads of missed ranges for one page. A page that needs more has no states either."""

# The last range that begins at or before the newest message shows for most listeners that none concerns the page.
_LISTENERS: Final = """
    SELECT listener.id, listener.queue, cursor.start_seq, cursor.position, cursor.ahead, coalesce((
        SELECT r.seq_to FROM missed_range r
        WHERE r.organization = listener.organization AND r.listener = listener.id AND r.seq_from <= $1
        ORDER BY r.seq_from DESC LIMIT 1), 0)
    FROM listener
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
        AND cursor.stream = 0
    WHERE listener.organization = $2 AND listener.queue = $3 AND listener.deleted_at IS NULL
    ORDER BY listener.id LIMIT $4"""
_ROWS: Final = """
    SELECT seq, listener, state, attempts, reason FROM exception
    WHERE organization = $1 AND queue = $2 AND stream = 0 AND seq IN ({})"""
_RANGES: Final = """
    SELECT seq_from, seq_to FROM missed_range
    WHERE organization = $1 AND listener = $2 AND seq_from <= $3 ORDER BY seq_from DESC LIMIT $4"""
_BLOCKED: Final = """
    SELECT log.seq, e.listener FROM log JOIN exception e ON e.organization = log.organization AND e.queue = log.queue
        AND e.key_hash = log.key_hash AND e.seq < log.seq
    WHERE log.organization = $1 AND log.queue = $2 AND e.stream = 0 AND e.blocked > 0 AND e.key_hash IS NOT NULL
        AND log.seq IN ({})"""

_FIRST: Final[tuple[MessageState, ...]] = ("missed", "retrying", "pending", "acknowledged")
"""States in the order in which they need attention."""


class _Listener(NamedTuple):
    of: Recipient
    missed_through: int
    """The end of the last missed range that begins before the newest message; 0: there is none."""


class Listed(Protocol):
    """A message in a list."""

    @property
    def seq(self) -> int: ...
    @property
    def origin_seq(self) -> int: ...
    @property
    def is_delayed(self) -> bool: ...


class ListedRow(NamedTuple):
    """A message as the log has it."""

    seq: int
    origin_seq: int
    is_delayed: bool


def listed_row(row: Row) -> ListedRow:
    """Convert a row of a list of `message_log`."""
    seq = row[1][2]
    return ListedRow(seq, row[8] or seq, row[7] == WAITING)


async def states_for(tx: Transaction, of: Recipient, messages: Sequence[Listed]) -> dict[int, MessageState]:
    """Return the states by seq of messages that were stored for a listener.

    Lanes have settled a message that is not due yet, as if it did not exist.
    """
    states = await states_of(tx, of, [message.seq for message in messages])
    waiting = {message.seq for message in messages if message.is_delayed}
    return {seq: "pending" if seq in waiting else _shown(state) for seq, state in states.items()}


async def states_of_messages(
    tx: Transaction, organization: int, queue: int, messages: Sequence[Listed]
) -> dict[int, MessageState] | None:
    """Return the states by seq of messages of one queue; None if reading them would take too long.

    A message has the state of the delivery that most needs attention.
    """
    seqs = [message.seq for message in messages]
    found = await tx.rows(_LISTENERS, max(seqs, default=0), organization, queue, LISTENERS_AT_MOST + 1)
    if len(found) > LISTENERS_AT_MOST:
        return None
    if not found:
        return dict.fromkeys(seqs, "no_listeners")
    listeners, key = [_listener(organization, row) for row in found], (organization, queue)
    rows: dict[tuple[int, int], MessageState] = {
        (seq, listener): _shown(state_of_row(*state)[0])
        for seq, listener, *state in await rows_among(tx, _ROWS, key, seqs)
    }
    # The cursor has passed a blocked message, which waits for another one of its key.
    for seq, listener in await rows_among(tx, _BLOCKED, key, seqs):
        rows.setdefault((seq, listener), "pending")
    ranges = _Ranges(tx, min(seqs))
    states: dict[int, MessageState] = {}
    for message in sorted(messages, key=attrgetter("seq"), reverse=True):
        met = {
            rows.get((message.seq, each.of.listener)) or await ranges.state(each, message.seq)
            for each in listeners
            if each.of.start_seq < message.origin_seq
        }
        if ranges.reads > _RANGE_READS:
            return None
        if message.is_delayed and met:
            met = {"pending"}
        states[message.seq] = next((state for state in _FIRST if state in met), "no_listeners")
    return states


class _Ranges:
    """Looks up messages of each listener, from newer to older ones, in its missed ranges."""

    def __init__(self, tx: Transaction, oldest: int) -> None:
        self._tx = tx
        self._oldest = oldest
        self._known: dict[int, tuple[int, list[Interval]]] = {}
        """By listener: the seq down to which its ranges are known, and those that are not passed yet, oldest first."""
        self.reads = 0

    async def state(self, listener: _Listener, seq: int) -> MessageState:
        """Return the state of a message that has no row."""
        if not listener.of.window.is_settled(seq):
            return "pending"
        if listener.missed_through < self._oldest:
            return "acknowledged"
        lowest, ranges = self._known.get(listener.of.listener, (seq + 1, []))
        while ranges and ranges[-1][0] > seq:
            ranges.pop()
        if not ranges and seq < lowest:
            lowest, ranges = await self._read(listener, seq)
        return "missed" if ranges and ranges[-1][0] <= seq <= ranges[-1][1] else "acknowledged"

    async def _read(self, listener: _Listener, seq: int) -> tuple[int, list[Interval]]:
        self.reads += 1
        rows = await self._tx.rows(_RANGES, *listener.of.key, seq, _RANGES_AT_ONCE)
        ranges = [(first, last) for first, last in reversed(rows)]
        lowest = ranges[0][0] if len(ranges) == _RANGES_AT_ONCE else 0
        self._known[listener.of.listener] = lowest, ranges
        return lowest, ranges


def _listener(organization: int, row: Row) -> _Listener:
    listener, queue, start_seq, position, ahead, missed_through = row
    of = Recipient(organization, listener, queue, "", start_seq, Window.decode(position, ahead))
    return _Listener(of, missed_through)


def _shown(state: DeliveryState) -> MessageState:
    return "acknowledged" if state == "filtered" else state
