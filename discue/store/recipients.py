"""Listeners as those whom messages are for: from where on in the log, and what has become of each message."""

from collections.abc import Sequence
from typing import Final

import msgspec

from discue.domain.model import DeliveryState
from discue.domain.window import Window
from discue.store.deliveries import of_exception
from discue.store.engine import Row, Transaction

_RECIPIENT: Final = """
    SELECT listener.id, listener.queue, queue.public_id, cursor.start_seq, cursor.position, cursor.ahead
    FROM listener
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
        AND cursor.stream = 0
    JOIN queue ON queue.organization = listener.organization AND queue.id = listener.queue
    WHERE listener.organization = $1 AND listener.public_id = $2 AND listener.deleted_at IS NULL
        AND queue.deleted_at IS NULL"""
_AT_ONCE: Final = 100
_EXCEPTIONS: Final = f"""
    SELECT seq, state, attempts, reason FROM exception
    WHERE organization = $1 AND listener = $2 AND stream = 0
    AND seq IN ({", ".join(f"${number}" for number in range(3, 3 + _AT_ONCE))})"""
_BLOCKED: Final = f"""
    SELECT log.seq FROM log JOIN exception e ON e.organization = log.organization AND e.queue = log.queue
        AND e.key_hash = log.key_hash AND e.seq < log.seq
    WHERE log.organization = $1 AND log.queue = $2 AND e.listener = $3 AND e.stream = 0 AND e.blocked > 0
        AND e.key_hash IS NOT NULL AND log.seq IN ({", ".join(f"${number}" for number in range(4, 4 + _AT_ONCE))})"""
_MISSED_RANGE: Final = """
    SELECT seq_from, seq_to, reason, missed_at FROM missed_range
    WHERE organization = $1 AND listener = $2 AND seq_from <= $3
    ORDER BY seq_from DESC LIMIT 1"""


class Recipient(msgspec.Struct, frozen=True):
    """A listener by its row id, and its cursor: messages beyond `start_seq` are for it."""

    organization: int
    listener: int
    queue: int
    queue_public_id: str
    start_seq: int
    window: Window

    @property
    def highest_settled(self) -> int:
        return self.window.last_settled


async def recipient(tx: Transaction, organization: int, public_id: str) -> Recipient | None:
    row = await tx.row(_RECIPIENT, organization, public_id)
    if row is None:
        return None
    listener, queue, queue_public_id, start_seq, position, ahead = row
    window = Window.decode(position, ahead)
    return Recipient(organization, listener, queue, queue_public_id, start_seq, window)


async def states_of(tx: Transaction, of: Recipient, seqs: Sequence[int]) -> dict[int, DeliveryState]:
    """What has become of each message, for one listener."""
    delivery_rows = await _exceptions(tx, of, seqs)
    blocked = await _blocked(tx, of, [seq for seq in seqs if seq not in delivery_rows and of.window.is_settled(seq)])
    states: dict[int, DeliveryState] = {}
    known = _Known()
    for seq in sorted(seqs, reverse=True):
        if seq in delivery_rows:
            states[seq] = of_exception(*delivery_rows[seq])[0]
        elif seq in blocked or not of.window.is_settled(seq):
            states[seq] = "pending"
        else:
            if not known.covers(seq):
                known = _Known(seq, await missed_range(tx, of, seq))
            states[seq] = known.state
    return states


async def missed_range(tx: Transaction, of: Recipient, seq: int) -> Row | None:
    """The last range that begins at the seq or before it, which it need not reach: its ends, why, and since when."""
    return await tx.row(_MISSED_RANGE, of.organization, of.listener, seq)


class _Known:
    """A stretch of settled messages without exceptions that share a state: from the asked seq downwards."""

    def __init__(self, seq: int = 0, found: Row | None = None) -> None:
        first, last = (int(found[0]), int(found[1])) if found is not None else (0, -1)
        is_missed = last >= seq > 0
        self.state: DeliveryState = "missed" if is_missed else "acknowledged"
        self._lowest = first if is_missed else last + 1
        self._highest = seq

    def covers(self, seq: int) -> bool:
        return self._lowest <= seq <= self._highest


async def _blocked(tx: Transaction, of: Recipient, seqs: Sequence[int]) -> set[int]:
    """Those that the cursor has passed, and that wait behind an exception of their key."""
    found: set[int] = set()
    for start in range(0, len(seqs), _AT_ONCE):
        some = seqs[start : start + _AT_ONCE]
        asked = [*some, *[some[-1]] * (_AT_ONCE - len(some))]
        found.update(row[0] for row in await tx.rows(_BLOCKED, of.organization, of.queue, of.listener, *asked))
    return found


async def _exceptions(tx: Transaction, of: Recipient, seqs: Sequence[int]) -> dict[int, Row]:
    found: dict[int, Row] = {}
    for start in range(0, len(seqs), _AT_ONCE):
        some = seqs[start : start + _AT_ONCE]
        # One statement for any number of them: the last one fills up.
        asked = [*some, *[some[-1]] * (_AT_ONCE - len(some))]
        for seq, *rest in await tx.rows(_EXCEPTIONS, of.organization, of.listener, *asked):
            found[seq] = tuple(rest)
    return found
