"""Listeners with their live cursors, the ranges that they missed, and the states of messages.

A message has a delivery state for each listener, and in lists one for all of them.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from discue.domain.messages import MessageState, StoredMessage
from discue.domain.model import DeliveryState
from discue.domain.window import Interval, Window
from discue.store.engine import MissedRange, Row, Transaction
from discue.store.message_log import BOUNDS_WIDTH, MessageRow, PageBounds, bounds_from, bounds_values, with_bounds
from discue.store.pagination import LARGEST, Selection
from discue.store.tables import given_rows, padded, placeholders, read_one, rows_among, rows_given, shifted

_RECIPIENTS: Final = """
    SELECT listener.id, listener.queue, queue.public_id, cursor.start_seq, cursor.position, cursor.ahead,
        listener.public_id, listener.alias, queue.alias
    FROM listener
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
        AND cursor.stream = 0
    JOIN queue ON queue.organization = listener.organization AND queue.id = listener.queue
    WHERE listener.organization = $1 AND listener.deleted_at IS NULL AND queue.deleted_at IS NULL"""
_RECIPIENT: Final = f"{_RECIPIENTS} AND listener.public_id = $2"
_BY_IDS: Final = f"{_RECIPIENTS} AND listener.id IN ({{}})"
_WITH_BOUNDS: Final = with_bounds(_RECIPIENT)
_RANGE_BEFORE: Final = """
    SELECT seq_from, seq_to, reason, missed_at, missed_version FROM missed_range
    WHERE organization = $1 AND listener = $2 AND seq_from <= $3
    ORDER BY seq_from DESC LIMIT 1"""
_STATES_AT_ONCE: Final = 1_024


class Recipient(msgspec.Struct, frozen=True):
    """A listener, and its live cursor."""

    organization: int
    listener: int
    queue: int
    queue_public_id: str
    start_seq: int
    """The listener receives messages with higher seqs."""
    window: Window
    public_id: str = ""
    """Empty where lists do not show it, like the next two fields."""
    alias: str = ""
    queue_alias: str = ""

    @property
    def key(self) -> tuple[int, int]:
        """The organization and the listener."""
        return self.organization, self.listener


async def find_recipient(tx: Transaction, organization: int, public_id: str) -> Recipient | None:
    row = await tx.row(_RECIPIENT, organization, public_id)
    return None if row is None else _recipient(organization, row)


async def read_recipients(tx: Transaction, organization: int, listeners: Sequence[int]) -> dict[int, Recipient]:
    """Read the listeners that exist by their row ids."""
    rows = await rows_among(tx, _BY_IDS, (organization,), listeners)
    return {of.listener: of for of in (_recipient(organization, row) for row in rows)}


async def find_recipient_within(
    tx: Transaction, organization: int, public_id: str, selection: Selection
) -> tuple[Recipient, PageBounds] | None:
    """Return a listener, and the bounds of a page in the log of its queue."""
    row = await tx.row(_WITH_BOUNDS, organization, public_id, *bounds_values(selection))
    if row is None:
        return None
    return _recipient(organization, row[:-BOUNDS_WIDTH]), bounds_from(selection, row[-BOUNDS_WIDTH:])


def _recipient(organization: int, row: Row) -> Recipient:
    listener, queue, queue_public_id, start_seq, position, ahead, *names = row
    return Recipient(organization, listener, queue, queue_public_id, start_seq, Window.decode(position, ahead), *names)


def state_of_row(state: str, attempts: int, reason: str) -> tuple[DeliveryState, int]:
    """Return the state of a delivery row, and the number of attempts that were made.

    An attempt that is in flight or leased does not count yet; an ended one is only not counted by the cursor yet.
    """
    if state == "ended":
        return "missed" if reason else "acknowledged", attempts
    if state == "missed":
        return "missed", attempts
    made = attempts - (state in {"sending", "leased"})
    return "retrying" if made else "pending", made


def state_columns(seq: str, first: int) -> str:
    """Return the columns for `state_at` of a message, whose seq is given as SQL.

    `first` is the number of the first of three parameters: the organization, the listener and the queue. Scalar
    subqueries keep a planner from reading all delivery rows for a join.
    """
    row = "FROM delivery e WHERE e.organization = $1 AND e.listener = $2 AND e.stream = 0 AND e.seq = {seq}"
    columns = ", ".join(f"(SELECT e.{name} {row})" for name in ("state", "attempts", "reason"))
    sql = f"""{columns}, (
            SELECT r.seq_to FROM missed_range r
            WHERE r.organization = $1 AND r.listener = $2 AND r.seq_from <= {{seq}} ORDER BY r.seq_from DESC LIMIT 1), (
            SELECT b.seq FROM delivery b
            WHERE b.organization = $1 AND b.queue = $3 AND b.listener = $2 AND b.stream = 0 AND b.seq < {{seq}}
                AND b.blocked > 0 AND b.key_hash IS NOT NULL AND b.key_hash = (
                    SELECT k.key_hash FROM log k WHERE k.organization = $1 AND k.queue = $3 AND k.seq = {{seq}})
            LIMIT 1)"""
    return shifted(sql, first - 1).format(seq=seq)


def state_at(of: Recipient, seq: int, columns: Sequence[Any]) -> DeliveryState:
    """Return the state of a message for a listener, given its `state_columns`."""
    state, attempts, reason, missed_through, blocked_by = columns
    if state is not None:
        return state_of_row(state, attempts, reason)[0]
    # The cursor has passed a blocked message, which waits for another one of its key.
    if blocked_by is not None or not of.window.is_settled(seq):
        return "pending"
    return "missed" if missed_through is not None and missed_through >= seq else "acknowledged"


_STATES_AT: Final = f"""
    WITH given (organization, listener, queue, seq) AS ({{}})
    SELECT given.seq, {state_columns("given.seq", 1)} FROM given"""


async def states_of(tx: Transaction, of: Recipient, seqs: Sequence[int]) -> dict[int, DeliveryState]:
    """Read the delivery states of messages for one listener, with one statement for many of them."""
    rows = await rows_given(tx, _STATES_AT, (*of.key, of.queue), [(seq,) for seq in seqs], at_once=_STATES_AT_ONCE)
    return {seq: state_at(of, seq, columns) for seq, *columns in rows}


async def missed_range(tx: Transaction, listener: tuple[int, int], seq: int) -> MissedRange | None:
    """Read the last missed range that begins at or before the seq. It may end before the seq."""
    return await read_one(tx, lambda row: MissedRange(*row), _RANGE_BEFORE, *listener, seq)


LISTENERS_AT_MOST: Final = 1_000
"""The largest number of listeners that are read for the states of one page: more would take too long."""
LISTENERS_OF_ANY_QUEUE: Final = 100
"""The number of listeners that are read for any queue, however many queues the messages of a page are in."""

QUEUES_AT_ONCE: Final = 32
"""The largest number of queues whose messages one statement reads the states of."""
MESSAGES_AT_ONCE: Final = 1_024
"""The largest number of messages of one queue that one statement reads the states of."""
_ROWS_AT_MOST: Final = 10_000
"""The largest number of delivery rows of one page. A page that has more has no states either."""
_RANGES_LOOKED_AT: Final = 500
"""If no more ranges end at or after the oldest message, no others need to be read."""
_RANGES_AT_MOST: Final = 20_000
"""The largest number of ranges of missed messages that are read for one page."""

# One statement, so that all of its parts show the same moment:
#   0  each listener of the queue with its cursor, and the end of its last missed range that begins at or before the
#      newest message: for most listeners, that end shows that no range concerns the page;
#   1  the first missed ranges that end at or after the oldest message;
#   2  the delivery rows of the messages;
#   3  the messages that wait behind another one of their key, and that a cursor has passed.
# If PostgreSQL takes the delivery rows for few, it reads all of them instead of searching an index for each seq: the
# bounds of seq in part 2 limit what it reads then. In part 3, the subquery and its LIMIT keep it from reading all
# messages that have keys. A LEFT JOIN keeps its order, since the coalesce does not make it an inner one.
_STATES: Final = f"""
    SELECT * FROM (
        SELECT 0, listener.id, cursor.start_seq, cursor.position, coalesce((
            SELECT r.seq_to FROM missed_range r
            WHERE r.organization = listener.organization AND r.listener = listener.id AND r.seq_from <= $1
            ORDER BY r.seq_from DESC LIMIT 1), 0), cursor.ahead, '', ''
        FROM listener
        JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
            AND cursor.stream = 0
        WHERE listener.organization = $2 AND listener.queue = $3 AND listener.deleted_at IS NULL
        ORDER BY listener.id LIMIT $4) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT 1, listener, seq_from, seq_to, 0, CAST(NULL AS BYTEA), '', '' FROM missed_range
        WHERE organization = $2 AND queue = $3 AND seq_to >= $5
        ORDER BY seq_to LIMIT {_RANGES_LOOKED_AT}) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT 2, listener, seq, attempts, 0, CAST(NULL AS BYTEA), state, reason FROM delivery
        WHERE organization = $2 AND queue = $3 AND stream = 0 AND seq IN ({{0}}) AND seq >= $5 AND seq <= $1
        UNION ALL
        SELECT 3, e.listener, given.seq, 0, 0, CAST(NULL AS BYTEA), 'blocked', '' FROM (
            SELECT given.column1 AS seq, (
                SELECT k.key_hash FROM log k
                WHERE k.organization = $2 AND k.queue = $3 AND k.seq = given.column1) AS key_hash
            FROM ({{1}}) AS given LIMIT {MESSAGES_AT_ONCE}) AS given
        LEFT JOIN delivery e ON e.organization = $2 AND e.queue = $3 AND e.key_hash = given.key_hash
            AND e.key_hash IS NOT NULL AND e.stream = 0 AND e.seq < given.seq
        WHERE coalesce(e.blocked, 0) > 0
        LIMIT {_ROWS_AT_MOST + 1}) AS looked_at"""
_PARAMETERS: Final = 5
"""The number of parameters of `_STATES` before the seqs."""
_LISTENER_PART: Final = 0
_RANGE_PART: Final = 1
_LISTENERS_AT_ONCE: Final = 128
_NO_LISTENER: Final = 0
_NO_QUEUE: Final = 0
_NO_SEQ: Final = 0


@cache
def _states(messages: int) -> str:
    return _STATES.format(placeholders(_PARAMETERS + 1, messages), shifted(given_rows(messages, 1), _PARAMETERS))


@cache
def _states_of(queues: int, messages: int) -> str:
    """Return the statement for the parts of `_STATES` of several queues, after the place of each."""
    one, width = _states(messages), _PARAMETERS + messages
    return " UNION ALL ".join(
        f"SELECT {place}, looked_at.* FROM ({shifted(one, place * width)}) AS looked_at" for place in range(queues)
    )


@cache
def _ranges_of(count: int) -> str:
    """Return the statement for the ranges of each listener that reach into a span.

    SQLite keeps the order of a CROSS JOIN.
    """
    organization, oldest, newest, limit = (f"${count + place}" for place in (1, 2, 3, 4))
    return f"""
        WITH given (listener) AS ({given_rows(count, 1)})
        SELECT r.listener, r.seq_from, r.seq_to FROM (
            SELECT given.listener, coalesce((
                SELECT x.seq_from FROM missed_range x
                WHERE x.organization = {organization} AND x.listener = given.listener AND x.seq_from <= {oldest}
                ORDER BY x.seq_from DESC LIMIT 1), 0) AS first
            FROM given) AS span
        CROSS JOIN missed_range r
        WHERE r.organization = {organization} AND r.listener = span.listener AND r.seq_from >= span.first
            AND r.seq_from <= {newest}
        LIMIT {limit}"""


_FIRST: Final[tuple[MessageState, ...]] = ("missed", "retrying", "pending", "acknowledged")
"""States in the order in which they need attention."""


Listed = MessageRow | StoredMessage
"""A message in a list."""


async def states_for(tx: Transaction, of: Recipient, messages: Sequence[Listed]) -> dict[int, MessageState]:
    """Return the states by seq of messages that were stored for a listener.

    Lanes have settled a message that is not due yet, as if it did not exist.
    """
    states = await states_of(tx, of, [message.seq for message in messages])
    waiting = {message.seq for message in messages if message.is_delayed}
    return {seq: "pending" if seq in waiting else _shown(state) for seq, state in states.items()}


class StatesRead(NamedTuple):
    """States of messages by seq, and how many listeners their queue has."""

    states: dict[int, MessageState]
    listeners: int


async def states_of_queues(
    tx: Transaction, organization: int, messages: Mapping[int, Sequence[Listed]], *, listeners_at_most: int
) -> dict[int, StatesRead | None]:
    """Return the states of messages of each queue, with a statement for many queues; None if that would take too long.

    A message has the state of the delivery that most needs attention. A queue can have `MESSAGES_AT_ONCE` of them.
    """
    found: dict[int, StatesRead | None] = {}
    queues = sorted(messages)
    for start in range(0, len(queues), QUEUES_AT_ONCE):
        some = padded(queues[start : start + QUEUES_AT_ONCE], _NO_QUEUE)
        count = len(padded([0] * max(len(messages[queue]) for queue in some if queue), 0))
        values: list[int] = []
        for queue in some:
            seqs = [message.seq for message in messages.get(queue, ())]
            values += (max(seqs, default=0), organization, queue, listeners_at_most + 1, min(seqs, default=0))
            values += [*seqs, *[_NO_SEQ] * (count - len(seqs))]
        read: dict[int, list[Row]] = {}
        for place, *row in await tx.rows(_states_of(len(some), count), *values):
            read.setdefault(some[place], []).append(tuple(row))
        for queue in queues[start : start + QUEUES_AT_ONCE]:
            key, rows = (organization, queue), read.get(queue, [])
            found[queue] = await _evaluated(tx, key, messages[queue], rows, listeners_at_most=listeners_at_most)
    return found


async def _evaluated(
    tx: Transaction, key: tuple[int, int], messages: Sequence[Listed], read: Sequence[Row], *, listeners_at_most: int
) -> StatesRead | None:
    """Return the states that follow from the rows of `_STATES`. None: there are too many listeners or rows."""
    seqs = [message.seq for message in messages]
    oldest, newest = min(seqs, default=0), max(seqs, default=0)
    parts: dict[int, list[Sequence[Any]]] = {}
    for part, *row in read:
        parts.setdefault(part, []).append(row)
    organization, queue = key
    listener_rows = parts.pop(_LISTENER_PART, [])
    listeners = [
        Recipient(organization, listener, queue, "", start_seq, Window.decode(position, ahead))
        for listener, start_seq, position, _, ahead, *_ in listener_rows
    ]
    ranges: Sequence[Sequence[Any]] = parts.pop(_RANGE_PART, [])
    rows = [row for part in sorted(parts) for row in parts[part]]
    if len(listeners) > listeners_at_most or len(rows) > _ROWS_AT_MOST:
        return None
    page = _Page(messages, {each.listener: each.start_seq for each in listeners})
    # A delivery row decides, whether its message is blocked by another one or not.
    for listener, seq, attempts, _, _, state, reason in rows:
        page.note(seq, listener, "pending" if state == "blocked" else _shown(state_of_row(state, attempts, reason)[0]))
    for each in listeners:
        page.note_unsettled(each)
    if len(ranges) >= _RANGES_LOOKED_AT:
        # By the end of the last range that begins at or before the newest message.
        concerned = [listener for listener, _, _, missed_through, *_ in listener_rows if missed_through >= oldest]
        ranges = await _ranges_within(tx, organization, concerned, (oldest, newest))
        if len(ranges) > _RANGES_AT_MOST:
            return None
    of_listeners: dict[int, list[Interval]] = {}
    for listener, first, last, *_ in sorted(ranges, key=itemgetter(0, 1)):
        of_listeners.setdefault(listener, []).append((first, last))
    for each in listeners:
        page.note_missed(each, of_listeners.get(each.listener, ()))
    return StatesRead({message.seq: page.state(message) for message in messages}, len(listeners))


async def _ranges_within(tx: Transaction, organization: int, listeners: Sequence[int], within: Interval) -> list[Row]:
    """Read the ranges that listeners have missed and that reach into an interval, with one statement for many."""
    found: list[Row] = []
    for start in range(0, len(listeners), _LISTENERS_AT_ONCE):
        some = padded(listeners[start : start + _LISTENERS_AT_ONCE], _NO_LISTENER)
        limit = max(_RANGES_AT_MOST + 1 - len(found), 0)
        found += await tx.rows(_ranges_of(len(some)), *some, organization, *within, limit)
    return found


class _Page:
    """Messages of a list, and the states of their deliveries."""

    def __init__(self, messages: Sequence[Listed], start_seqs: Mapping[int, int]) -> None:
        """`start_seqs` are those of the listeners."""
        self._origin_seqs = {message.seq: message.origin_seq for message in messages}
        self._start_seqs = start_seqs
        self._noted: set[tuple[int, int]] = set()
        oldest = min(start_seqs.values(), default=None)
        self.states: dict[int, set[MessageState]] = {
            message.seq: {"acknowledged"} if oldest is not None and oldest < message.origin_seq else set()
            for message in messages
        }
        """By seq. A message that was stored for any listener has `acknowledged`, besides what else is known."""
        self._not_pending = sorted(self.states)
        """The seqs that are not known to be pending for any listener: most of them are found by the first ones."""

    def note(self, seq: int, listener: int, state: MessageState) -> None:
        """Note a state from a delivery row. The first one of a delivery counts."""
        start_seq = self._start_seqs.get(listener)
        if start_seq is not None and start_seq < self._origin_seqs[seq] and (seq, listener) not in self._noted:
            self._noted.add((seq, listener))
            self.states[seq].add(state)

    def note_unsettled(self, of: Recipient) -> None:
        """Note the messages that the listener's cursor has not settled."""
        position, ahead = of.window.position, of.window.ahead
        first = bisect_right(self._not_pending, position)
        found = [
            seq
            for seq in self._not_pending[first:]
            if not ahead >> (seq - position - 1) & 1 and self._is_without_row(seq, of)
        ]
        for seq in found:
            self.states[seq].add("pending")
        if found:
            self._not_pending = [seq for seq in self._not_pending if "pending" not in self.states[seq]]

    def note_missed(self, of: Recipient, ranges: Sequence[Interval]) -> None:
        """Note the messages in ranges that the listener has missed, oldest first, unless these have rows."""
        if not ranges:
            return
        for seq, states in self.states.items():
            if "missed" in states or not of.window.is_settled(seq) or not self._is_without_row(seq, of):
                continue
            place = bisect_right(ranges, (seq, LARGEST)) - 1
            if place >= 0 and ranges[place][1] >= seq:
                states.add("missed")

    def _is_without_row(self, seq: int, of: Recipient) -> bool:
        """Whether the message was stored for the listener, and its delivery has no row."""
        return of.start_seq < self._origin_seqs[seq] and (seq, of.listener) not in self._noted

    def state(self, message: Listed) -> MessageState:
        """Return the state that most needs attention. Lanes have settled a message that is not due yet."""
        states = self.states[message.seq]
        if message.is_delayed and states:
            return "pending"
        return next((state for state in _FIRST if state in states), "no_listeners")


def _shown(state: DeliveryState) -> MessageState:
    return "acknowledged" if state == "filtered" else state
