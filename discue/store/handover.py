"""Requests that outlast their worker's ownership of the cursor. Each has a delivery row in the state `sending`.

The worker that has the request in flight writes its result into that row, and nowhere else. The owner of the cursor
counts it.
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from discue.domain.attempts import Attempt
from discue.store import attempts, tallies
from discue.store.engine import CursorKey, Row, Transaction

_ROWS: Final = 256

_OF_CURSOR: Final = "e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.seq > $4"
# An expired lease does not count: a worker that notices it declares the other dead first.
_SENDING: Final = f"""
    SELECT e.seq, e.attempts, e.sender, w.incarnation IS NOT NULL
    FROM exception e LEFT JOIN worker w ON w.incarnation = e.sender AND w.dead = 0
    WHERE {_OF_CURSOR} AND e.state = 'sending' ORDER BY e.seq LIMIT $5"""
_ENDED: Final = f"""
    SELECT e.seq, e.attempts, e.due_at, e.reason FROM exception e
    WHERE {_OF_CURSOR} AND e.state = 'ended' ORDER BY e.seq LIMIT $5"""
# State, sender and attempt guard the row: a late end, of an attempt that was given up, changes nothing.
_END: Final = """
    UPDATE exception SET state = $1, due_at = $2, reason = $3, sender = NULL
    WHERE organization = $4 AND listener = $5 AND stream = $6 AND seq = $7
    AND state = 'sending' AND sender = $8 AND attempts = $9"""
_INSERT_ATTEMPT: Final = f"""
    INSERT INTO attempt ({attempts.COLUMNS})
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING"""


_INSERT_DETAIL: Final = f"""
    INSERT INTO attempt_detail ({attempts.DETAIL_COLUMNS}) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"""


class SendingRequest(msgspec.Struct, frozen=True, gc=False):
    """A request that was in flight when the cursor changed its owner."""

    seq: int
    attempts: int
    sender: int | None
    sender_is_alive: bool
    """Whether the sender's worker is not declared dead."""


class EndedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request that ended, and that the owner has not counted yet."""

    seq: int
    attempts: int
    ended_at: int
    reason: str
    """Empty if it was acknowledged; otherwise why it was missed."""


class InheritedRows(msgspec.Struct, frozen=True):
    """The inherited requests of a cursor at one moment."""

    sending: tuple[SendingRequest, ...]
    ended: tuple[EndedRequest, ...]


class RequestEnd(msgspec.Struct, frozen=True):
    """The end of a request that outlasted the ownership of its cursor."""

    stream: int
    sender: int
    """The session that had it in flight."""
    state: Literal["ended", "retry"]
    due_at: int
    reason: str
    attempt: Attempt
    detail: bytes = b""
    """The packed details of the attempt; empty for none."""

    @property
    def key(self) -> CursorKey:
        return self.attempt.organization, self.attempt.listener, self.stream


async def read_inherited_requests(tx: Transaction, key: CursorKey) -> InheritedRows:
    """Read all inherited requests of a cursor in several steps. There are no more than its window has seqs."""
    sending = [SendingRequest(row[0], row[1], row[2], bool(row[3])) for row in await _all(tx, _SENDING, key)]
    ended = [EndedRequest(*row) for row in await _all(tx, _ENDED, key)]
    return InheritedRows(tuple(sending), tuple(ended))


async def _all(tx: Transaction, sql: str, key: CursorKey) -> list[Row]:
    found: list[Row] = []
    while True:
        after = found[-1][0] if found else 0
        step = await tx.rows(sql, *key, after, _ROWS)
        found += step
        if len(step) < _ROWS:
            return found


async def record_ends(tx: Transaction, ends: Sequence[RequestEnd]) -> int:
    """Record the ends of requests whose rows still wait for them, and return how many."""
    stored = [
        end.attempt for end in sorted(ends, key=lambda each: (each.key, each.attempt.seq)) if await _store_end(tx, end)
    ]
    await tallies.add(tx, tallies.attempt_entries(stored))
    return len(stored)


async def _store_end(tx: Transaction, end: RequestEnd) -> bool:
    attempt = end.attempt
    values = (*end.key, attempt.seq, end.sender, attempt.number)
    if not await tx.execute(_END, end.state, end.due_at, end.reason, *values):
        return False
    await tx.execute(_INSERT_ATTEMPT, *attempts.row_of(attempt))
    if end.detail:
        row = attempts.detail_row(attempt.organization, attempt.listener, (attempt.id, end.detail))
        await tx.execute(_INSERT_DETAIL, *row)
    return True
