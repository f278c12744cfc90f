"""Missed messages of ordered queues that hold their keys: which there are, and which of them were deleted."""

from collections.abc import Sequence
from typing import Final

from discue.store.cursors import NEXT_OF_KEY, KeyRow
from discue.store.engine import CursorKey, Transaction
from discue.store.tables import placeholders

GONE_ROWS: Final = 500

_ROWS: Final = f"""
    SELECT e.seq, e.state, e.attempts, e.due_at, e.reason, e.key_hash, e.blocked,
        CASE WHEN e.blocked > 0 THEN {NEXT_OF_KEY} END
    FROM exception e
    WHERE e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.state = 'missed' AND e.key_hash IS NOT NULL"""
_AFTER: Final = f"{_ROWS} AND e.seq > $4 ORDER BY e.seq LIMIT $5"
_GONE: Final = f"""{_ROWS} AND NOT EXISTS (
        SELECT 1 FROM log l WHERE l.organization = e.organization AND l.queue = e.queue AND l.seq = e.seq
    ) ORDER BY e.seq LIMIT $4"""
_AT: Final = f"{_ROWS} AND e.seq IN ({{}}) ORDER BY e.seq"


async def all_of(tx: Transaction, key: CursorKey) -> list[KeyRow]:
    """Those of a cursor, read in steps."""
    found: list[KeyRow] = []
    while True:
        rows = await tx.rows(_AFTER, *key, found[-1].seq if found else 0, GONE_ROWS)
        found += [KeyRow(*row) for row in rows]
        if len(rows) < GONE_ROWS:
            return found


async def gone(tx: Transaction, key: CursorKey) -> list[KeyRow]:
    """Those of a cursor whose messages were deleted: at most so many of them."""
    return [KeyRow(*row) for row in await tx.rows(_GONE, *key, GONE_ROWS)]


async def among(tx: Transaction, key: CursorKey, seqs: Sequence[int]) -> list[KeyRow]:
    """Those among some messages."""
    if not seqs:
        return []
    return [KeyRow(*row) for row in await tx.rows(_AT.format(placeholders(4, len(seqs))), *key, *seqs)]
