"""Listeners with their live cursors, the delivery states of messages for one of them, and the ranges that it missed."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec

from discue.domain.model import DeliveryState
from discue.domain.window import Window
from discue.store.engine import MissedRange, Row, Transaction
from discue.store.log_bounds import BOUNDS_WIDTH, PageBounds, bounds_from, bounds_values, with_bounds
from discue.store.pagination import Selection
from discue.store.tables import given_rows, padded, read_one, rows_among, shifted

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
    SELECT seq_from, seq_to, reason, missed_at FROM missed_range
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
    return (
        None
        if row is None
        else (_recipient(organization, row[:-BOUNDS_WIDTH]), bounds_from(selection, row[-BOUNDS_WIDTH:]))
    )


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


async def states_of(tx: Transaction, of: Recipient, seqs: Sequence[int]) -> dict[int, DeliveryState]:
    """Read the delivery states of messages for one listener, with one statement for many of them."""
    states: dict[int, DeliveryState] = {}
    for start in range(0, len(seqs), _STATES_AT_ONCE):
        some = padded(seqs[start : start + _STATES_AT_ONCE], seqs[start])
        for seq, *columns in await tx.rows(_states_at(len(some)), *some, *of.key, of.queue):
            states[seq] = state_at(of, seq, columns)
    return states


@cache
def _states_at(count: int) -> str:
    return f"""
        WITH given (seq) AS ({given_rows(count, 1)})
        SELECT given.seq, {state_columns("given.seq", count + 1)} FROM given"""


async def missed_range(tx: Transaction, listener: tuple[int, int], seq: int) -> MissedRange | None:
    """Read the last missed range that begins at or before the seq. It may end before the seq."""
    return await read_one(tx, lambda row: MissedRange(*row), _RANGE_BEFORE, *listener, seq)
