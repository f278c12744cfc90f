"""Cursors whose messages are pulled: leases, deliveries that are due again, and backlogs for the metrics."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from discue.domain.messages import Entry
from discue.domain.window import Window
from discue.store import delivery_rows
from discue.store.cursors import LaneRecord, lanes_of
from discue.store.delivery_rows import KEY_COLUMNS, KeyRow
from discue.store.engine import PULL_OWNER, CursorKey, Row, Transaction
from discue.store.message_log import entry_of
from discue.store.redeliveries import RedeliveryBatch, next_batch
from discue.store.tables import at_given, by_index, read_number, rows_among, rows_at

DUE_ROWS: Final = 128
MANY_ROWS: Final = 1_000
"""With so many deliveries that wait for another attempt few new messages are handed out: see `dispatch.holdback`."""
_REDELIVERED_WHILE_WAITING: Final = 500
"""With more retries waiting, no other missed delivery is made due again: see `dispatch.lane.redelivery`."""

_OF_CURSOR: Final = "e.organization = $1 AND e.listener = $2 AND e.stream = $3"
_COLUMNS: Final = """
    SELECT e.seq, e.state, e.attempts, e.due_at, e.token, e.redelivered_at,
        l.id, l.stored_at, l.codec, l.size, l.expires_at, l.key_hash, l.extra"""
_WITH_LOG: Final = f"""LEFT JOIN log l ON {by_index("l.organization", "e.organization")} AND l.queue = e.queue
    AND l.seq = e.seq"""
_OPEN: Final = f"{_COLUMNS} FROM delivery e {_WITH_LOG}"
_DUE: Final = f"{_OPEN} WHERE {_OF_CURSOR} AND e.state = '{{}}' AND e.due_at <= $4 ORDER BY e.due_at, e.seq LIMIT $5"
_AT: Final = f"{_COLUMNS} FROM ({{}}) AS given JOIN delivery e ON {at_given('e')} {_WITH_LOG}"
_LEASED: Final = f"""
    SELECT count(*) FROM (
        SELECT e.seq FROM delivery e WHERE {_OF_CURSOR} AND e.state = 'leased' AND e.due_at > $4
        ORDER BY e.due_at LIMIT $5
    ) AS counted"""
_NEXT_DUE: Final = f"""
    SELECT e.due_at FROM delivery e WHERE {_OF_CURSOR} AND e.state = '{{}}' AND e.due_at > $4
    ORDER BY e.due_at LIMIT 1"""
_KEY_ROWS: Final = f"SELECT {KEY_COLUMNS}, e.token FROM delivery e"
_KEYS_AT: Final = f"{_KEY_ROWS} WHERE {_OF_CURSOR} AND e.seq IN ({{}}) AND e.key_hash IS NOT NULL"
_KEYS_AMONG: Final = f"""{_KEY_ROWS}
    WHERE e.organization = $1 AND e.queue = $2 AND e.listener = $3 AND e.stream = $4
    AND e.key_hash IN ({{}}) AND e.key_hash IS NOT NULL"""
_STATES: Final = ("leased", "retry")
_COUNTED: Final = 1_000
"""No listener has more leases."""
_NEXT_SIZE: Final = """
    SELECT CASE kind WHEN 0 THEN size ELSE 0 END FROM log
    WHERE organization = $1 AND queue = $2 AND seq > $3 ORDER BY seq LIMIT 1"""
_OPEN_ROWS: Final = f"""
    SELECT count(*) FROM (
        SELECT e.seq FROM delivery e WHERE {_OF_CURSOR} AND e.state = '{{}}' ORDER BY e.due_at LIMIT $4
    ) AS counted"""


class OpenDelivery(msgspec.Struct, frozen=True, gc=False):
    """A delivery that is leased or waits for a retry."""

    seq: int
    state: str
    attempts: int
    due_at: int
    token: int | None
    redelivered_at: int
    size: int
    """The size of the body."""
    entry: Entry | None
    """The message without its body; None if it was deleted."""

    @property
    def waits_since(self) -> int:
        """When the age of the delivery begins."""
        return max(self.entry.stored_at if self.entry is not None else 0, self.redelivered_at)


class PullSnapshot(msgspec.Struct, frozen=True):
    """A cursor whose messages are pulled, at one moment."""

    record: LaneRecord
    due: tuple[OpenDelivery, ...]
    asked: dict[int, OpenDelivery]
    """The deliveries that were asked for, if they are open."""
    handed_out: int
    """The number of leases that have not expired."""
    next_at: int
    """Nothing that waits is due before; 0: nothing waits."""
    keys: tuple[KeyRow, ...]
    """In an ordered queue, rows that block keys, among `due` and `asked`."""
    step: RedeliveryBatch | None
    gone: tuple[KeyRow, ...] = ()
    """Missed messages that block keys and were deleted."""
    open_rows: int = 0
    next_size: int = 0
    """The size of the body of the first new message; 0 without a new message, or if no message may be leased."""


async def read_snapshot(
    tx: Transaction, listener: tuple[int, int], now: int, seqs: Sequence[int], *, leases: bool = True
) -> PullSnapshot | None:
    """Read the cursor of a listener, given by organization and row id, and some deliveries; None if it was deleted.

    `leases` is whether messages may be leased on this snapshot.
    """
    organization, row_id = listener
    records = await lanes_of(tx, PULL_OWNER, organization, row_id)
    record = next((each for each in records if each.stream == 0), None)
    if record is None:
        return None
    key = record.key
    # `retrying` counts open deliveries: most polls find none, and skip their reads.
    waiting = await read_due(tx, key, now) if record.retrying else []
    asked = await read_open(tx, key, seqs)
    handed_out, next_at = await _leased(tx, key, now) if record.retrying else (0, 0)
    keys: list[KeyRow] = []
    if record.ordered:
        keys = await keys_at(tx, key, sorted({each.seq for each in waiting} | set(asked)))
    step = None
    open_rows = record.retrying
    if record.ordered and record.retrying > _REDELIVERED_WHILE_WAITING:
        # Most of these may be blocked messages, which have no rows.
        open_rows = await count_open_rows(tx, key)
    if record.has_redeliveries and open_rows <= _REDELIVERED_WHILE_WAITING:
        step = await next_batch(tx, key, record.queue, ordered=record.ordered)
    gone = await delivery_rows.deleted_blocking_rows(tx, key) if record.blocks and record.missed else []
    next_size = 0
    if leases and record.head > record.position:
        next_size = await read_number(tx, _NEXT_SIZE, record.organization, record.queue, record.position)
    return PullSnapshot(
        record, tuple(waiting), asked, handed_out, next_at, tuple(keys), step, tuple(gone), open_rows, next_size
    )


async def read_open(tx: Transaction, key: CursorKey, seqs: Sequence[int]) -> dict[int, OpenDelivery]:
    """Read those deliveries that have a delivery row in any state."""
    return {row[0]: _open(row) for row in await rows_at(tx, _AT, key, seqs)}


async def read_due(tx: Transaction, key: CursorKey, now: int, limit: int = DUE_ROWS) -> list[OpenDelivery]:
    """Read deliveries that may be leased again, oldest due time first: at most `limit` of each state."""
    rows = [row for state in _STATES for row in await tx.rows(_DUE.format(state), *key, now, limit)]
    return sorted(map(_open, rows), key=lambda found: (found.due_at, found.seq))


async def keys_among(tx: Transaction, key: CursorKey, queue: int, hashes: Sequence[int]) -> list[KeyRow]:
    """Read the delivery rows of a cursor that block one of these keys."""
    organization, listener, stream = key
    rows = await rows_among(tx, _KEYS_AMONG, (organization, queue, listener, stream), hashes)
    return [KeyRow(*row) for row in rows]


async def keys_at(tx: Transaction, key: CursorKey, seqs: Sequence[int]) -> list[KeyRow]:
    """Read those delivery rows of a cursor that block keys."""
    return [KeyRow(*row) for row in await rows_among(tx, _KEYS_AT, key, seqs)]


async def _leased(tx: Transaction, key: CursorKey, now: int) -> tuple[int, int]:
    """Return the number of leases, and when the next delivery becomes due; 0 if there is none."""
    leases = await read_number(tx, _LEASED, *key, now, _COUNTED)
    later = [found[0] for state in _STATES if (found := await tx.row(_NEXT_DUE.format(state), *key, now)) is not None]
    return leases, min(later, default=0)


async def count_open_rows(tx: Transaction, key: CursorKey) -> int:
    """Count the rows of deliveries that are leased or wait for another attempt, up to `MANY_ROWS` of each state."""
    return sum([await read_number(tx, _OPEN_ROWS.format(state), *key, MANY_ROWS) for state in _STATES])


def _open(row: Row) -> OpenDelivery:
    seq, state, attempts, due_at, token, redelivered_at, public_id, stored_at, codec, size, *rest = row
    if public_id is None:
        return OpenDelivery(seq, state, attempts, due_at, token, redelivered_at or 0, size=0, entry=None)
    entry = entry_of((seq, public_id, stored_at, codec, b"", *rest))
    return OpenDelivery(seq, state, attempts, due_at, token, redelivered_at or 0, size=size, entry=entry)


_OVERDUE: Final = """
    CASE WHEN c.retrying > 0 THEN (
        SELECT e.due_at FROM delivery e WHERE e.organization = c.organization AND e.listener = c.listener
        AND e.stream = c.stream AND e.state = '{}' AND e.due_at <= $1 ORDER BY e.due_at LIMIT 1
    ) END"""
# Each row costs a few searches in an index, however much waits.
_BACKLOGS: Final = f"""
SELECT c.organization, c.listener, c.stream, q.public_id, l.public_id,
    CASE WHEN o.state = 'active' THEN l.status ELSE 'disabled' END, h.head, c.position, c.ahead, c.retrying,
    CASE WHEN h.head > c.position THEN (
        SELECT log.stored_at FROM log WHERE log.organization = c.organization AND log.queue = c.queue
        AND log.seq > c.position ORDER BY log.seq LIMIT 1
    ) END,
    {_OVERDUE.format("leased")}, {_OVERDUE.format("retry")}
FROM cursor c
JOIN listener l ON {by_index("l.organization", "c.organization")} AND l.id = c.listener AND l.deleted_at IS NULL
JOIN queue q ON {by_index("q.organization", "c.organization")} AND q.id = c.queue AND q.deleted_at IS NULL
JOIN organization o ON {by_index("o.id", "c.organization")} AND o.deleted_at IS NULL
JOIN queue_head h ON {by_index("h.organization", "c.organization")} AND h.queue = c.queue + 0
WHERE c.owner = $2 AND (c.organization, c.listener, c.stream) > ($3, $4, $5)
ORDER BY c.organization, c.listener, c.stream LIMIT $6"""


class PullBacklog(NamedTuple):
    """The deliveries of a pull listener that are not settled."""

    key: CursorKey
    queue: str
    """Public id."""
    listener: str
    """Public id."""
    status: Literal["enabled", "disabled"]
    """Disabled also while the organization is not active."""
    waiting: int
    """Messages that are not settled, including those in `retrying`."""
    retrying: int
    """Messages that are leased, wait for another attempt, or wait behind one in the order of a key."""
    since: int
    """When the message that has waited longest could first be leased, in milliseconds since the epoch; 0: none can."""


async def backlogs_after(tx: Transaction, after: CursorKey, limit: int, *, now: int) -> list[PullBacklog]:
    """Read a page of the backlogs of existing pull listeners, in key order. A listener may have none."""
    return [_backlog(row) for row in await tx.rows(_BACKLOGS, now, PULL_OWNER, *after, limit)]


def _backlog(row: Row) -> PullBacklog:
    organization, listener, stream, queue_id, listener_id, status, head, position, ahead, retrying, *times = row
    waiting = head - position - Window.decode(position, ahead).settled_count_beyond + retrying
    since = min((at for at in times if at is not None), default=0)
    return PullBacklog((organization, listener, stream), queue_id, listener_id, status, waiting, retrying, since)
