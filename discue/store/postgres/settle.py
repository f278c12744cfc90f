"""Settle on PostgreSQL: one statement for a batch, which commits by itself.

It moves the cursors in the order of their keys, guarded; and what came beside them is stored only for those that
moved. Of that it has only the parts that the batch has something for.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final

import asyncpg

from discue.store import attempts, tallies
from discue.store.engine import Settle

_Place = tuple[int, int, int, int, int]
"""Organization, listener, stream; and the token and version at which the cursor is expected."""

_Row = tuple[Any, ...]

# On `= ANY (ARRAY[x])` see `postgres_append`.
_MOVE: Final = """
WITH slot AS (
    SELECT $1::bigint AS number
), moved AS (
    UPDATE cursor c
    SET version = c.version + 1, position = s.position, ahead = s.ahead, acknowledged = s.acknowledged,
        missed = s.missed, retrying = s.retrying, last_success_at = s.last_success_at,
        last_failure_at = s.last_failure_at, last_new_at = s.last_new_at, token = c.token + s.releases,
        owner = CASE WHEN s.releases = 0 OR c.stream > 0 THEN c.owner END
    FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
        $9::bytea[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[],
        $16::bigint[])
        WITH ORDINALITY AS s (organization, listener, stream, queue, token, version, position, ahead, acknowledged,
            missed, retrying, last_success_at, last_failure_at, releases, last_new_at, number)
    WHERE c.organization = ANY (ARRAY[s.organization]) AND c.listener = s.listener AND c.stream = s.stream
        AND c.token = s.token AND c.version = s.version
    RETURNING s.number
)"""
_MOVED: Final = "\nSELECT number FROM moved"

# A plain `IN` would be joined, row by row; this one looks up a hash. (No join by hash is to be had: see the session.)
_IF_MOVED: Final = "(x.number IN (SELECT number FROM moved)) IS TRUE"
_KEY: Final = "($2::bigint[])[x.number], ($3::bigint[])[x.number], ($4::bigint[])[x.number]"

_ATTEMPTS: Final = f"""
INSERT INTO attempt ({attempts.COLUMNS})
SELECT x.organization, x.id, x.listener, x.queue, x.seq, x.attempt, x.status, x.error, x.took_ms, x.detail,
    x.replay
FROM unnest({{}}) AS x (number, organization, id, listener, queue, seq, attempt, status, error, took_ms, detail,
    replay)
WHERE {_IF_MOVED} ON CONFLICT DO NOTHING"""
_DETAILS: Final = f"""
INSERT INTO attempt_detail ({attempts.DETAIL_COLUMNS})
SELECT x.organization, x.id, x.listener, x.size, x.content
FROM unnest({{}}) AS x (number, organization, id, listener, size, content)
WHERE {_IF_MOVED} ON CONFLICT DO NOTHING"""
_PUT: Final = f"""
INSERT INTO exception (organization, listener, stream, seq, queue, state, attempts, due_at, reason, sender, key_hash,
    blocked, redelivered_at, token)
SELECT {_KEY}, x.seq, ($5::bigint[])[x.number], x.state, x.attempts, x.due_at, x.reason, x.sender, x.key_hash,
    x.blocked, x.redelivered_at, x.token
FROM unnest({{}}) AS x (number, seq, state, attempts, due_at, reason, sender, key_hash, blocked, redelivered_at,
    token)
WHERE {_IF_MOVED}
ON CONFLICT (organization, listener, stream, seq) DO UPDATE
SET state = excluded.state, attempts = excluded.attempts, due_at = excluded.due_at, reason = excluded.reason,
    sender = excluded.sender, key_hash = excluded.key_hash, blocked = excluded.blocked, token = excluded.token,
    redelivered_at = coalesce(excluded.redelivered_at, exception.redelivered_at)"""
_REMOVE: Final = f"""
DELETE FROM exception e USING unnest({{}}) AS x (number, seq)
WHERE e.organization = ANY (ARRAY[($2::bigint[])[x.number]]) AND e.listener = ($3::bigint[])[x.number]
    AND e.stream = ($4::bigint[])[x.number] AND e.seq = x.seq AND {_IF_MOVED}"""
_MISSED: Final = f"""
INSERT INTO missed_range (organization, listener, seq_from, queue, seq_to, reason, missed_at)
SELECT ($2::bigint[])[x.number], ($3::bigint[])[x.number], x.seq_from, ($5::bigint[])[x.number], x.seq_to, x.reason,
    x.missed_at
FROM unnest({{}}) AS x (number, seq_from, seq_to, reason, missed_at)
WHERE {_IF_MOVED} ON CONFLICT (organization, listener, seq_from) DO UPDATE
SET seq_to = excluded.seq_to, reason = excluded.reason, missed_at = excluded.missed_at"""
_UNMISSED: Final = f"""
DELETE FROM missed_range m USING unnest({{}}) AS x (number, seq_from)
WHERE m.organization = ANY (ARRAY[($2::bigint[])[x.number]]) AND m.listener = ($3::bigint[])[x.number]
    AND m.seq_from = x.seq_from AND {_IF_MOVED}"""
_REDELIVERY: Final = f"""
UPDATE redelivery r
SET position = x.position, redelivered = r.redelivered + x.redelivered, gone = r.gone + x.gone, updated_at = x.now,
    state = CASE WHEN x.ended_at IS NULL THEN 'running' ELSE 'done' END, ended_at = x.ended_at
FROM unnest({{}}) AS x (number, id, position, redelivered, gone, now, ended_at)
WHERE r.organization = ANY (ARRAY[($2::bigint[])[x.number]]) AND r.id = x.id AND {_IF_MOVED}"""
_REPLAY: Final = f"""
UPDATE replay r
SET position = ($8::bigint[])[x.number], delivered = ($10::bigint[])[x.number], failed = ($11::bigint[])[x.number],
    retrying = ($12::bigint[])[x.number], expired = r.expired + x.expired, updated_at = x.now, state = 'running'
FROM unnest({{}}) AS x (number, expired, now)
WHERE r.organization = ANY (ARRAY[($2::bigint[])[x.number]]) AND r.id = ($4::bigint[])[x.number] AND {_IF_MOVED}"""

_COUNT: Final = f"""
INSERT INTO tally (organization, period, kind, slot, n)
SELECT x.organization, x.period, x.kind, (SELECT number FROM slot), sum(x.n)::bigint
FROM unnest({{}}) AS x (number, organization, period, kind, n)
WHERE {_IF_MOVED} GROUP BY x.organization, x.period, x.kind
ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = tally.n + excluded.n"""


def _attempts(number: int, settle: Settle) -> Iterator[_Row]:
    for attempt in settle.attempts:
        yield (number, *attempts.row_of(attempt))


def _details(number: int, settle: Settle) -> Iterator[_Row]:
    for detail in settle.details:
        yield (number, *attempts.detail_row(settle.organization, settle.listener, detail))


def _put(number: int, settle: Settle) -> Iterator[_Row]:
    # The last one counts: a statement may not store one row twice.
    for row in {each.seq: each for each in settle.delivery_rows}.values():
        yield (
            number,
            row.seq,
            row.state,
            row.attempts,
            row.due_at,
            row.reason,
            row.sender,
            row.key_hash,
            row.blocked,
            row.redelivered_at,
            row.token,
        )


def _removed(number: int, settle: Settle) -> Iterator[_Row]:
    # What is stored anew is not removed, whichever part of the statement runs first.
    kept = {row.seq for row in settle.delivery_rows}
    for seq in settle.resolved:
        if seq not in kept:
            yield number, seq


def _missed(number: int, settle: Settle) -> Iterator[_Row]:
    # As with exceptions: a row is stored once, and what is stored anew is not removed.
    for row in {each.seq_from: each for each in settle.missed_ranges}.values():
        yield number, row.seq_from, row.seq_to, row.reason, row.missed_at


def _unmissed(number: int, settle: Settle) -> Iterator[_Row]:
    kept = {row.seq_from for row in settle.missed_ranges}
    for seq_from in settle.unmissed:
        if seq_from not in kept:
            yield number, seq_from


def _redelivery(number: int, settle: Settle) -> Iterator[_Row]:
    if (step := settle.redelivery) is not None:
        yield number, step.redelivery, step.position, step.redelivered, step.gone, step.now, step.ended_at


def _replay(number: int, settle: Settle) -> Iterator[_Row]:
    if (step := settle.replay) is not None:
        yield number, step.expired, step.now


def _counted(number: int, settle: Settle) -> Iterator[_Row]:
    for each in tallies.attempt_entries(settle.attempts):
        yield (number, *each)


_B, _T, _C = "bigint[]", "text[]", "bytea[]"
_VALUES: Final = 16
"""Before those of the parts: the slot that is counted under, and the columns of the cursors."""

_PARTS: Final[tuple[tuple[str, str, tuple[str, ...], Callable[[int, Settle], Iterator[_Row]]], ...]] = (
    ("attempts", _ATTEMPTS, (_B, _B, _B, _B, _B, _B, _B, _B, _T, _B, _T, _B), _attempts),
    ("details", _DETAILS, (_B, _B, _B, _B, _B, _C), _details),
    ("put", _PUT, (_B, _B, _T, _B, _B, _T, _B, _B, _B, _B, _B), _put),
    ("removed", _REMOVE, (_B, _B), _removed),
    ("missed", _MISSED, (_B, _B, _B, _T, _B), _missed),
    ("unmissed", _UNMISSED, (_B, _B), _unmissed),
    ("redelivery", _REDELIVERY, (_B, _B, _B, _B, _B, _B, _B), _redelivery),
    ("replay", _REPLAY, (_B, _B, _B), _replay),
    ("counted", _COUNT, (_B, _B, _B, _B, _B), _counted),
)


@cache
def statement(parts: tuple[bool, ...]) -> str:
    """The statement with those of the parts that there are rows for."""
    text, taken = _MOVE, _VALUES
    for wanted, (name, sql, types, _) in zip(parts, _PARTS, strict=True):
        if wanted:
            arrays = ", ".join(f"${number}::{kind}" for number, kind in enumerate(types, taken + 1))
            text += f", {name} AS ({sql.format(arrays)}\n)"
            taken += len(types)
    return text + _MOVED


async def settle(connection: asyncpg.Connection, settles: Sequence[Settle], tally_slot: int) -> list[bool | Exception]:
    """Durable when it returns. True for each whose cursor was still at the token and version given."""
    first: dict[_Place, Settle] = {}
    for item in settles:
        first.setdefault(_place_of(item), item)
    ordered = [first[place] for place in sorted(first)]
    values: list[Any] = [tally_slot, *_columns([_cursor(item) for item in ordered])]
    rows = [[row for number, item in enumerate(ordered, 1) for row in read(number, item)] for *_, read in _PARTS]
    for part in rows:
        values += _columns(part)
    numbers = await connection.fetch(statement(tuple(map(bool, rows))), *values)
    moved = {_place_of(ordered[number - 1]) for (number,) in numbers}
    # Of two that expect a cursor at one place only the first can find it there.
    return [first[place] is item and place in moved for item in settles for place in (_place_of(item),)]


def _columns(rows: Sequence[_Row]) -> list[Any]:
    return list(zip(*rows, strict=True))


def _place_of(item: Settle) -> _Place:
    return item.organization, item.listener, item.stream, item.token, item.version


def _cursor(item: Settle) -> _Row:
    return (
        item.organization,
        item.listener,
        item.stream,
        item.queue,
        item.token,
        item.version,
        item.position,
        item.ahead,
        item.acknowledged,
        item.missed,
        item.retrying,
        item.last_success_at,
        item.last_failure_at,
        1 if item.releases else 0,
        item.last_new_at,
    )
