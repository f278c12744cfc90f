"""Delivery state rows: retries that are due, rows that block the keys of their messages, and inherited requests.

An inherited request outlasts its worker's ownership of the cursor, and has a row in the state `sending`. The worker
that has it in flight writes its result into that row, and nowhere else. The owner of the cursor counts it.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Final, Literal

import msgspec

from discue.domain.attempts import Attempt
from discue.domain.causes import Cause, plain
from discue.domain.messages import Entry
from discue.store import attempts, tallies
from discue.store.batch_rows import CAUSE_COLUMNS
from discue.store.engine import CursorKey, QueueKey, Row, Transaction
from discue.store.listeners import Sweep
from discue.store.message_log import BODY, bodies_by_seq, entry_of
from discue.store.tables import by_index, placeholders


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

    retries: Sequence[DueRetry]
    next_at: int


class SweptRetries(msgspec.Struct, frozen=True):
    """Retries of a sweep, and the seq through which they are read: the end of the sweep if no more follow."""

    retries: Sequence[DueRetry]
    through: int


_NEXT_OF_KEY: Final = """(
    SELECT n.seq FROM log n WHERE n.organization = e.organization AND n.queue = e.queue AND n.key_hash = e.key_hash
    AND n.seq > e.seq AND coalesce(n.origin_seq, n.seq) > (
        SELECT c.start_seq FROM cursor c
        WHERE c.organization = e.organization AND c.listener = e.listener AND c.stream = e.stream
    ) ORDER BY n.seq LIMIT 1
)"""
_NEXT = f"CASE WHEN e.blocked > 0 THEN {_NEXT_OF_KEY} END"
_READ_AT_ONCE: Final = 4_096
"""Bodies of up to this many bytes are read with their rows. Longer ones are read for the chosen rows only."""
_RETRIES = f"""
SELECT e.seq, l.size, e.attempts, e.redelivered_at, {_NEXT},
    l.id, l.stored_at, l.codec, CASE WHEN l.size <= {_READ_AT_ONCE} THEN {BODY} END, l.expires_at, l.key_hash, l.extra
FROM delivery e
LEFT JOIN log l ON l.organization = e.organization AND l.queue = e.queue AND l.seq = e.seq"""
_DUE = f"""{_RETRIES}
WHERE e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.state = 'retry' AND e.due_at <= $4
ORDER BY e.due_at, e.seq LIMIT $5"""
_NEXT_DUE = """
SELECT due_at FROM delivery
WHERE organization = $1 AND listener = $2 AND stream = $3 AND state = 'retry' AND due_at > $4
ORDER BY due_at LIMIT 1"""
# Adding 0 keeps the primary key out of it: that would pass every missed delivery of the listener, however many.
_WAITING = f"""{_RETRIES}
WHERE e.organization = $1 AND e.listener = $2 AND e.stream + 0 = $3 AND e.state <> 'missed' AND e.state = 'retry'
    AND e.seq > $4 AND e.seq <= $5
ORDER BY e.seq LIMIT $6"""
_OPEN_STATES: Final = ("retry", "sending", "ended")

ROWS_A_STEP: Final = 500
"""Reading more rows at a time would block the event loop."""

KEY_COLUMNS: Final = f"e.seq, e.state, e.attempts, e.due_at, e.reason, e.key_hash, e.blocked, {_NEXT}"
"""The columns of a row `e` for `KeyRow`."""

# The index `delivery_open` has these, and no missed ones.
_KEYS = f"""
SELECT {KEY_COLUMNS} FROM delivery e
WHERE e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.state = '{{}}' AND e.state <> 'missed'
    AND e.seq > $4 AND e.key_hash IS NOT NULL ORDER BY e.seq LIMIT $5"""
# Adding 0 keeps the primary key out of it: that would pass every missed delivery of the listener, however many.
_RETRIES_UP_TO = """
SELECT e.seq, e.attempts, l.seq IS NOT NULL
FROM delivery e
LEFT JOIN log l ON l.organization = e.organization AND l.queue = e.queue AND l.seq = e.seq
WHERE e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.state = 'retry' AND e.due_at >= 0
    AND e.seq + 0 <= $4 AND coalesce(e.redelivered_at, 0) < $5 LIMIT $6"""


async def read_due(
    tx: Transaction, queue: QueueKey, key: CursorKey, now: int, *, limit: int, max_bytes: int, known: Container[int]
) -> DueRetries:
    """Read due retries of a cursor: of the oldest `limit`, those that are not `known`.

    Stops before the bodies have more than `max_bytes` together, but always reads the first one.
    """
    rows = await tx.rows(_DUE, *key, now, limit)
    chosen, is_cut = _fitting(rows, max_bytes, known)
    retries = await _due_retries(tx, queue, chosen)
    # More may be due: the caller reads again at once.
    if is_cut or len(rows) == limit:
        return DueRetries(retries, now)
    later = await tx.row(_NEXT_DUE, *key, now)
    return DueRetries(retries, later[0] if later else 0)


async def read_sweep(
    tx: Transaction, queue: QueueKey, key: CursorKey, sweep: Sweep, *, limit: int, max_bytes: int, known: Container[int]
) -> SweptRetries:
    """Read retries of a sweep, due or not, in log order: of the next `limit`, those that are not `known`.

    Stops before the bodies have more than `max_bytes` together, but always reads the first one.
    """
    rows = await tx.rows(_WAITING, *key, sweep.through, sweep.until, limit)
    chosen, is_cut = _fitting(rows, max_bytes, known)
    through = chosen[-1][0] if is_cut else rows[-1][0] if len(rows) == limit else sweep.until
    return SweptRetries(await _due_retries(tx, queue, chosen), through)


async def read_open_keys(tx: Transaction, key: CursorKey) -> list[KeyRow]:
    """Read all unsettled rows of an ordered lane that block keys, in several steps."""
    steps = [await _in_steps(tx, _KEYS.format(state), key) for state in _OPEN_STATES]
    return [KeyRow(*row) for rows in steps for row in rows]


async def retries_up_to(
    tx: Transaction, key: tuple[int, int, int], seq: int, before: int, *, limit: int
) -> list[WaitingRetry]:
    """Read some retries up to a seq that were not redelivered at `before` or later, in no order.

    Fewer than `limit` are all.
    """
    rows = await tx.rows(_RETRIES_UP_TO, *key, seq, before, limit)
    return [WaitingRetry(row[0], row[1], bool(row[2])) for row in rows]


async def _in_steps(tx: Transaction, sql: str, key: CursorKey) -> list[Row]:
    """Read all rows of a statement that reads some after a seq."""
    found: list[Row] = []
    while True:
        rows = await tx.rows(sql, *key, found[-1][0] if found else 0, ROWS_A_STEP)
        found += rows
        if len(rows) < ROWS_A_STEP:
            return found


def _fitting(rows: Sequence[Row], max_bytes: int, known: Container[int]) -> tuple[list[Row], bool]:
    """Return the first rows that are not `known` and fit, and whether others did not fit. The first always fits."""
    chosen: list[Row] = []
    size = 0
    for row in rows:
        if row[0] not in known:
            size += row[1] or 0
            if chosen and size > max_bytes:
                return chosen, True
            chosen.append(row)
    return chosen, False


async def _due_retries(tx: Transaction, queue: QueueKey, rows: Sequence[Row]) -> list[DueRetry]:
    large = [row[0] for row in rows if row[1] is not None and row[1] > _READ_AT_ONCE]
    bodies = await bodies_by_seq(tx, queue, large) if large else {}
    return [_due_retry(row, bodies) for row in rows]


def _due_retry(row: Row, bodies: Mapping[int, bytes]) -> DueRetry:
    seq, _, attempts, redelivered_at, next_seq, public_id, stored_at, codec, body, *rest = row
    body = bodies.get(seq) if body is None else body
    if body is None:
        return DueRetry(seq, attempts, None, next_seq)
    entry = entry_of((seq, public_id, stored_at, codec, body, *rest))
    return DueRetry(seq, attempts, entry, next_seq, max(entry.stored_at, redelivered_at or 0))


_BLOCKING: Final = f"""
    SELECT {KEY_COLUMNS} FROM delivery e
    WHERE e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.state = 'missed' AND e.key_hash IS NOT NULL"""
_BLOCKING_AFTER: Final = f"{_BLOCKING} AND e.seq > $4 ORDER BY e.seq LIMIT $5"
_BLOCKING_DELETED: Final = f"""{_BLOCKING} AND NOT EXISTS (
        SELECT 1 FROM log l WHERE l.organization = e.organization AND l.queue = e.queue AND l.seq = e.seq
    ) ORDER BY e.seq LIMIT $4"""
_BLOCKING_AT: Final = f"{_BLOCKING} AND e.seq IN ({{}}) ORDER BY e.seq"


async def blocking_rows(tx: Transaction, key: CursorKey) -> list[KeyRow]:
    """Read all missed messages of a cursor that block their keys, in several steps."""
    return [KeyRow(*row) for row in await _in_steps(tx, _BLOCKING_AFTER, key)]


async def deleted_blocking_rows(tx: Transaction, key: CursorKey) -> list[KeyRow]:
    """Read missed messages of a cursor that block their keys and were deleted, at most `ROWS_A_STEP`."""
    return [KeyRow(*row) for row in await tx.rows(_BLOCKING_DELETED, *key, ROWS_A_STEP)]


async def blocking_rows_among(tx: Transaction, key: CursorKey, seqs: Sequence[int]) -> list[KeyRow]:
    """Read those of some messages that are missed and block their keys."""
    if not seqs:
        return []
    return [KeyRow(*row) for row in await tx.rows(_BLOCKING_AT.format(placeholders(4, len(seqs))), *key, *seqs)]


_OF_CURSOR: Final = "e.organization = $1 AND e.listener = $2 AND e.stream = $3 AND e.seq > $4"
# An expired lease does not count: a worker that notices it declares the other dead first.
_SENDING: Final = f"""
    SELECT e.seq, e.attempts, e.sender, w.session_id IS NOT NULL
    FROM delivery e LEFT JOIN worker w ON w.session_id = e.sender AND w.dead = 0
    WHERE {_OF_CURSOR} AND e.state = 'sending' ORDER BY e.seq LIMIT $5"""
_ENDED: Final = f"""
    SELECT e.seq, e.attempts, e.due_at, e.reason, e.cause, coalesce(c.status, 0), coalesce(c.text, '') FROM delivery e
    LEFT JOIN missed_cause c ON {by_index("c.organization", "e.organization")} AND c.listener = e.listener
        AND c.cause = e.cause
    WHERE {_OF_CURSOR} AND e.state = 'ended' ORDER BY e.seq LIMIT $5"""
# State, sender and attempt guard the row: a late end, of an attempt that was given up, changes nothing.
_END: Final = """
    UPDATE delivery SET state = $1, due_at = $2, reason = $3, cause = $4, sender = NULL, attempts = attempts - $5
    WHERE organization = $6 AND listener = $7 AND stream = $8 AND seq = $9
    AND state = 'sending' AND sender = $10 AND attempts = $11"""
_INSERT_CAUSE: Final = f"""
    INSERT INTO missed_cause ({", ".join(CAUSE_COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"""
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
    cause: Cause | None = None
    """None if it was acknowledged."""


class RequestEnd(msgspec.Struct, frozen=True):
    """The end of a request that outlasted the ownership of its cursor."""

    stream: int
    sender: int
    """The session that had it in flight."""
    state: Literal["ended", "retry"]
    due_at: int
    reason: str
    attempt: Attempt
    cause: Cause | None = None
    """The cause if it was missed."""
    detail: bytes = b""
    """The packed details of the attempt; empty for none."""
    is_attempt: bool = True
    """Whether the attempt is recorded and counts."""

    @property
    def key(self) -> CursorKey:
        return self.attempt.organization, self.attempt.listener, self.stream


async def read_inherited_requests(tx: Transaction, key: CursorKey) -> tuple[list[SendingRequest], list[EndedRequest]]:
    """Read all inherited requests of a cursor in several steps. There are no more than its window has seqs."""
    sending = [SendingRequest(row[0], row[1], row[2], bool(row[3])) for row in await _in_steps(tx, _SENDING, key)]
    return sending, [_ended(row) for row in await _in_steps(tx, _ENDED, key)]


def _ended(row: Row) -> EndedRequest:
    seq, attempts, ended_at, reason, cause_id, status, text = row
    cause = plain(reason) if reason and cause_id is None else Cause(cause_id, reason, status, text)
    return EndedRequest(seq, attempts, ended_at, reason, cause if reason else None)


async def record_ends(tx: Transaction, ends: Sequence[RequestEnd]) -> int:
    """Record the ends of requests whose rows still wait for them, and return how many attempts that are."""
    stored: list[Attempt] = []
    # All workers lock rows in this order: otherwise two could deadlock.
    for end in sorted(ends, key=lambda each: (each.key, each.attempt.seq)):
        attempt = end.attempt
        cause = end.cause
        changes = (end.state, end.due_at, end.reason, None if cause is None else cause.id, int(not end.is_attempt))
        if await tx.execute(_END, *changes, *end.key, attempt.seq, end.sender, attempt.number) and end.is_attempt:
            stored.append(attempt)
            await tx.execute(_INSERT_ATTEMPT, *attempts.row_of(attempt))
            if cause is not None and cause.has_text:
                await tx.execute(_INSERT_CAUSE, *end.key[:2], cause.id, cause.reason, cause.status, cause.text)
            if end.detail:
                row = attempts.detail_row(attempt.organization, attempt.listener, (attempt.id, end.detail))
                await tx.execute(_INSERT_DETAIL, *row)
    await tallies.add(tx, tallies.attempt_entries(stored))
    return len(stored)
