"""Listeners with their live cursors, the delivery states of messages for one of them, and the ranges that it missed."""

from collections.abc import Sequence
from typing import Final

import msgspec

from discue.domain.model import DeliveryState
from discue.domain.window import Window
from discue.store.engine import MissedRange, Transaction
from discue.store.pagination import LARGEST
from discue.store.tables import at_given, read_one, rows_among, rows_at

FROM_RECIPIENTS: Final = """
    FROM listener
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
        AND cursor.stream = 0
    JOIN queue ON queue.organization = listener.organization AND queue.id = listener.queue
    WHERE listener.organization = $1 AND listener.deleted_at IS NULL AND queue.deleted_at IS NULL"""
_RECIPIENT: Final = f"""
    SELECT listener.id, listener.queue, queue.public_id, cursor.start_seq, cursor.position, cursor.ahead
    {FROM_RECIPIENTS} AND listener.public_id = $2"""
_STATE_ROWS: Final = f"""
    SELECT j.seq, j.state, j.attempts, j.reason FROM ({{}}) AS given JOIN exception j ON {at_given("j")}"""
_BLOCKED: Final = """
    SELECT log.seq FROM log JOIN exception e ON e.organization = log.organization AND e.queue = log.queue
        AND e.key_hash = log.key_hash AND e.seq < log.seq
    WHERE log.organization = $1 AND log.queue = $2 AND e.listener = $3 AND e.stream = 0 AND e.blocked > 0
        AND e.key_hash IS NOT NULL AND log.seq IN ({})"""
_RANGES_BEFORE: Final = """
    SELECT seq_from, seq_to, reason, missed_at FROM missed_range
    WHERE organization = $1 AND listener = $2 AND seq_from <= $3
    ORDER BY seq_from DESC LIMIT $4"""
_RANGES_AT_ONCE: Final = 128


class Recipient(msgspec.Struct, frozen=True):
    """A listener, and its live cursor."""

    organization: int
    listener: int
    queue: int
    queue_public_id: str
    start_seq: int
    """The listener receives messages with higher seqs."""
    window: Window

    @property
    def key(self) -> tuple[int, int]:
        """The organization and the listener."""
        return self.organization, self.listener


async def find_recipient(tx: Transaction, organization: int, public_id: str) -> Recipient | None:
    row = await tx.row(_RECIPIENT, organization, public_id)
    if row is None:
        return None
    listener, queue, queue_public_id, start_seq, position, ahead = row
    window = Window.decode(position, ahead)
    return Recipient(organization, listener, queue, queue_public_id, start_seq, window)


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


async def states_of(tx: Transaction, of: Recipient, seqs: Sequence[int]) -> dict[int, DeliveryState]:
    """Read the delivery states of messages for one listener."""
    rows = await rows_at(tx, _STATE_ROWS, (*of.key, 0), seqs)
    delivery_rows = {seq: state_of_row(*row)[0] for seq, *row in rows}
    passed = [seq for seq in seqs if seq not in delivery_rows and of.window.is_settled(seq)]
    # The cursor has passed a blocked message, which waits for another one of its key.
    blocked = {row[0] for row in await rows_among(tx, _BLOCKED, (of.organization, of.queue, of.listener), passed)}
    states: dict[int, DeliveryState] = {}
    ranges = MissedRanges(tx, of.key, len(seqs))
    for seq in sorted(seqs, reverse=True):
        if seq in delivery_rows:
            states[seq] = delivery_rows[seq]
        elif seq in blocked or not of.window.is_settled(seq):
            states[seq] = "pending"
        else:
            states[seq] = "missed" if await ranges.around(seq) is not None else "acknowledged"
    return states


class MissedRanges:
    """Finds the ranges of missed messages that messages of a listener are in, from newer to older ones."""

    def __init__(
        self, tx: Transaction, listener: tuple[int, int], at_once: int, newest: list[MissedRange] | None = None
    ) -> None:
        """`at_once` is how many ranges a statement reads, up to a limit: as many as messages are looked up is enough.

        `newest` are the last `at_once` ranges up to the newest message, or all there are, oldest first. None: they were
        not read yet.
        """
        self._tx = tx
        self._listener = listener
        self._at_once = min(at_once, _RANGES_AT_ONCE)
        self._known: list[MissedRange] = []
        """Ranges that are not passed yet, the newest last."""
        self._lowest = LARGEST
        """No other range begins at or above this seq."""
        self.reads = 0
        if newest is not None:
            self._learn(newest)

    async def around(self, seq: int) -> MissedRange | None:
        """Return the range that a message is in."""
        while self._known and self._known[-1].seq_from > seq:
            self._known.pop()
        if not self._known and seq < self._lowest:
            self.reads += 1
            rows = await self._tx.rows(_RANGES_BEFORE, *self._listener, seq, self._at_once)
            self._learn([MissedRange(*row) for row in reversed(rows)])
        found = self._known[-1] if self._known else None
        return found if found is not None and found.seq_to >= seq else None

    def _learn(self, ranges: list[MissedRange]) -> None:
        self._known = ranges
        self._lowest = ranges[0].seq_from if len(ranges) == self._at_once else 0


async def missed_range(tx: Transaction, listener: tuple[int, int], seq: int) -> MissedRange | None:
    """Read the last missed range that begins at or before the seq. It may end before the seq."""
    return await read_one(tx, lambda row: MissedRange(*row), _RANGES_BEFORE, *listener, seq, 1)
