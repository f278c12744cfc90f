"""Requests that outlast their worker's ownership of the cursor: each is a row, `sending` until it has ended.

The worker that has the request under way says what became of it, in that row and nowhere else. Counting it is the
cursor's owner's.
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from discue.domain.attempts import Attempt
from discue.store import attempts, tallies
from discue.store.engine import CursorKey, Row, Transaction

_ROWS: Final = 256

_OF_CURSOR: Final = "e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.seq > $4"
# A lease that is over does not count here: whoever sees that declares the worker dead first.
_SENDING: Final = f"""
    SELECT e.seq, e.attempts, e.sender, w.incarnation IS NOT NULL
    FROM exception e LEFT JOIN worker w ON w.incarnation = e.sender AND w.dead = 0
    WHERE {_OF_CURSOR} AND e.state = 'sending' ORDER BY e.seq LIMIT $5"""
_ENDED: Final = f"""
    SELECT e.seq, e.attempts, e.due_at, e.reason FROM exception e
    WHERE {_OF_CURSOR} AND e.state = 'ended' ORDER BY e.seq LIMIT $5"""
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
    """A delivery whose request was under way when the cursor changed hands. Nobody `lives` who could end it, or so."""

    seq: int
    attempts: int
    sender: int | None
    sender_is_alive: bool


class EndedRequest(msgspec.Struct, frozen=True, gc=False):
    """A delivery that came to its end outside the owner's lane: acknowledged if there is no `reason`, else missed."""

    seq: int
    attempts: int
    ended_at: int
    reason: str


class InheritedRows(msgspec.Struct, frozen=True):
    """Of one moment: those that are under way, and those that have ended and were not counted."""

    sending: tuple[SendingRequest, ...]
    ended: tuple[EndedRequest, ...]


class RequestEnd(msgspec.Struct, frozen=True):
    """What became of a request that outlasted the ownership: `sender` had it under way.

    `detail` is what is kept of the attempt beside its record, empty for nothing.
    """

    stream: int
    sender: int
    state: Literal["ended", "retry"]
    due_at: int
    reason: str
    attempt: Attempt
    detail: bytes = b""

    @property
    def key(self) -> CursorKey:
        return self.attempt.organization, self.attempt.listener, self.stream


async def read_inherited_requests(tx: Transaction, key: CursorKey) -> InheritedRows:
    """All of a cursor's: there is no more than its span, and they are read in steps."""
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
    """Say what became of requests, where their rows are still waiting for that; how many were."""
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
