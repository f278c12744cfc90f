"""Delivery state rows: retries that are due, and rows that block the keys of their messages."""

from collections.abc import Sequence
from typing import Final

import msgspec

from discue.domain.messages import Entry
from discue.store.engine import CursorKey, Row, Transaction
from discue.store.listener_health import Sweep
from discue.store.message_log import BODY, entry_of
from discue.store.tables import placeholders


class DueRetry(msgspec.Struct, frozen=True, gc=False):
    """A delivery whose next attempt may start."""

    seq: int
    attempts: int
    entry: Entry | None
    """None if the message was deleted."""
    next_seq: int | None = None
    """The first message that waits for its key; None if there is none."""
    waits_since: int = 0
    """When the age of the delivery begins: when it was stored or redelivered."""


class KeyRow(msgspec.Struct, frozen=True, gc=False):
    """A row that blocks the key of its message."""

    seq: int
    state: str
    attempts: int
    due_at: int
    reason: str
    key_hash: int
    blocked: int
    """The number of messages of the key, which the cursor has passed, that wait for it."""
    next_seq: int | None
    """The first of them; None if there is none."""
    token: int | None = None
    """The token of its lease; None unless it is leased."""


class WaitingRetry(msgspec.Struct, frozen=True, gc=False):
    """A delivery that waits for a retry, due or not."""

    seq: int
    attempts: int
    is_there: bool
    """False if the message was deleted."""


class DueRetries(msgspec.Struct, frozen=True):
    """The retries that may start now, and when the next is due (0: none waits)."""

    retries: tuple[DueRetry, ...]
    next_at: int


NEXT_OF_KEY: Final = """(
    SELECT n.seq FROM log n WHERE n.organization = e.organization AND n.queue = e.queue AND n.key_hash = e.key_hash
    AND n.seq > e.seq AND coalesce(n.origin_seq, n.seq) > (
        SELECT c.start_seq FROM cursor c
        WHERE c.organization = e.organization AND c.listener = e.listener AND c.stream = e.stream
    ) ORDER BY n.seq LIMIT 1
)"""


_DUE = f"""
SELECT e.seq, e.attempts, e.redelivered_at, CASE WHEN e.blocked > 0 THEN {NEXT_OF_KEY} END,
    l.id, l.stored_at, l.codec, {BODY}, l.expires_at, l.key_hash, l.extra
FROM exception e
LEFT JOIN log l ON l.organization = e.organization AND l.queue = e.queue AND l.seq = e.seq
WHERE e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.state = 'retry' AND e.due_at <= $4
ORDER BY e.due_at, e.seq LIMIT $5
"""


_NEXT_DUE = """
SELECT due_at FROM exception
WHERE organization = $1 AND listener = $2 AND stream = $3 AND state = 'retry' AND due_at > $4
ORDER BY due_at LIMIT 1
"""


# Adding 0 keeps the primary key out of it: that would pass every missed delivery of the listener, however many.
_WAITING = f"""
SELECT e.seq, e.attempts, e.redelivered_at, CASE WHEN e.blocked > 0 THEN {NEXT_OF_KEY} END,
    l.id, l.stored_at, l.codec, {BODY}, l.expires_at, l.key_hash, l.extra
FROM exception e
LEFT JOIN log l ON l.organization = e.organization AND l.queue = e.queue AND l.seq = e.seq
WHERE e.organization = $1 AND e.listener = $2 AND e.stream + 0 = $3 AND e.state <> 'missed' AND e.state = 'retry'
    AND e.seq > $4 AND e.seq <= $5
ORDER BY e.seq LIMIT $6
"""


_OPEN_STATES: Final = ("retry", "sending", "ended")


_KEYS_READ: Final = 500


# The index `exception_open` has these, and no missed ones.
_KEYS = """
SELECT e.seq, e.state, e.attempts, e.due_at, e.reason, e.key_hash, e.blocked, CASE WHEN e.blocked > 0 THEN {} END
FROM exception e
WHERE e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.state = '{}' AND e.state <> 'missed'
    AND e.seq > $4 AND e.key_hash IS NOT NULL ORDER BY e.seq LIMIT $5
"""


# Adding 0 keeps the primary key out of it: that would pass every missed delivery of the listener, however many.
_RETRIES_UP_TO = """
SELECT e.seq, e.attempts, l.seq IS NOT NULL
FROM exception e
LEFT JOIN log l ON l.organization = e.organization AND l.queue = e.queue AND l.seq = e.seq
WHERE e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.state = 'retry' AND e.due_at >= 0
    AND e.seq + 0 <= $4 AND coalesce(e.redelivered_at, 0) < $5 LIMIT $6
"""


async def read_due(tx: Transaction, key: tuple[int, int, int], now: int, limit: int) -> DueRetries:
    """Read the oldest `limit` due retries of a cursor."""
    rows = await tx.rows(_DUE, *key, now, limit)
    retries = tuple(_due_retry(row) for row in rows)
    if len(rows) == limit:
        return DueRetries(retries, now)
    later = await tx.row(_NEXT_DUE, *key, now)
    return DueRetries(retries, later[0] if later else 0)


async def read_sweep(tx: Transaction, key: tuple[int, int, int], sweep: Sweep, limit: int) -> list[DueRetry]:
    """Read the next `limit` retries of a sweep, due or not, in log order. Fewer mean that no more follow."""
    return [_due_retry(row) for row in await tx.rows(_WAITING, *key, sweep.through, sweep.until, limit)]


async def read_open_keys(tx: Transaction, key: CursorKey) -> list[KeyRow]:
    """Read all unsettled rows of an ordered lane that block keys, in several steps."""
    found: list[KeyRow] = []
    for state in _OPEN_STATES:
        after = 0
        while True:
            rows = await tx.rows(_KEYS.format(NEXT_OF_KEY, state), *key, after, _KEYS_READ)
            found += [KeyRow(*row) for row in rows]
            if len(rows) < _KEYS_READ:
                break
            after = rows[-1][0]
    return found


async def retries_up_to(
    tx: Transaction, key: tuple[int, int, int], seq: int, before: int, *, limit: int
) -> list[WaitingRetry]:
    """Read some retries up to a seq that were not redelivered at `before` or later, in no order.

    Fewer than `limit` are all.
    """
    rows = await tx.rows(_RETRIES_UP_TO, *key, seq, before, limit)
    return [WaitingRetry(row[0], row[1], bool(row[2])) for row in rows]


def _due_retry(row: Row) -> DueRetry:
    seq, attempts, redelivered_at, next_seq, *rest = row
    if rest[0] is None:
        return DueRetry(seq, attempts, None, next_seq)
    entry = entry_of((seq, *rest))
    return DueRetry(seq, attempts, entry, next_seq, max(entry.stored_at, redelivered_at or 0))


BLOCKING_ROWS: Final = 500

_BLOCKING: Final = f"""
    SELECT e.seq, e.state, e.attempts, e.due_at, e.reason, e.key_hash, e.blocked,
        CASE WHEN e.blocked > 0 THEN {NEXT_OF_KEY} END
    FROM exception e
    WHERE e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.state = 'missed' AND e.key_hash IS NOT NULL"""
_BLOCKING_AFTER: Final = f"{_BLOCKING} AND e.seq > $4 ORDER BY e.seq LIMIT $5"
_BLOCKING_DELETED: Final = f"""{_BLOCKING} AND NOT EXISTS (
        SELECT 1 FROM log l WHERE l.organization = e.organization AND l.queue = e.queue AND l.seq = e.seq
    ) ORDER BY e.seq LIMIT $4"""
_BLOCKING_AT: Final = f"{_BLOCKING} AND e.seq IN ({{}}) ORDER BY e.seq"


async def blocking_rows(tx: Transaction, key: CursorKey) -> list[KeyRow]:
    """Read all missed messages of a cursor that block their keys, in several steps."""
    found: list[KeyRow] = []
    while True:
        rows = await tx.rows(_BLOCKING_AFTER, *key, found[-1].seq if found else 0, BLOCKING_ROWS)
        found += [KeyRow(*row) for row in rows]
        if len(rows) < BLOCKING_ROWS:
            return found


async def deleted_blocking_rows(tx: Transaction, key: CursorKey) -> list[KeyRow]:
    """Read missed messages of a cursor that block their keys and were deleted, at most `BLOCKING_ROWS`."""
    return [KeyRow(*row) for row in await tx.rows(_BLOCKING_DELETED, *key, BLOCKING_ROWS)]


async def blocking_rows_among(tx: Transaction, key: CursorKey, seqs: Sequence[int]) -> list[KeyRow]:
    """Read those of some messages that are missed and block their keys."""
    if not seqs:
        return []
    return [KeyRow(*row) for row in await tx.rows(_BLOCKING_AT.format(placeholders(4, len(seqs))), *key, *seqs)]
