"""The first of two steps to find missed messages: spans of a log in which listeners may have missed some.

These candidates are rows `(part, listener, first, last, reason, missed_at)`, with both seqs included. Only ranges have
a time.
"""

from functools import cache
from typing import Final, NamedTuple

from discue.store.engine import Row, Transaction, Value
from discue.store.missed_messages import Key
from discue.store.pagination import LARGEST

PARTS: Final = 3
"""The number of parts that are read by an index each, up to a limit."""
OF_RANGES: Final = frozenset({2, 3})
"""The parts that have ranges. The last one has the range that the first key may be in."""

# Each part is read by one index, which the order and the columns leave as the only one. Adding 0 keeps the order of the
# index: otherwise SQLite would sort.
_OF_ALL: Final = """
    SELECT * FROM (
        SELECT 0, listener, seq, seq, reason, 0 FROM exception
        WHERE organization = $1 AND (listener, seq) {0} ($2, $3) AND state = 'missed' AND stream + 0 = 0
        ORDER BY listener {1}, seq {1} LIMIT $4) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT 1, listener, seq, seq, reason, 0 FROM exception
        WHERE organization = $1 AND (listener, stream, seq) {0} ($2, 0, $3) AND state = 'ended' AND stream + 0 = 0
            AND reason <> ''
        ORDER BY listener {1}, stream {1}, seq {1} LIMIT $4) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT 2, listener, seq_from, seq_to, reason, missed_at FROM missed_range
        WHERE organization = $1 AND (listener, seq_from) {0} ($2, $3)
        ORDER BY listener {1}, seq_from {1} LIMIT $4) AS looked_at"""
_OF_LISTENER: Final = """
    SELECT * FROM (
        SELECT 0, listener, seq, seq, reason, 0 FROM exception
        WHERE organization = $1 AND listener = $2 AND seq {0} $3 AND state = 'missed' AND stream + 0 = 0{2}
        ORDER BY seq {1} LIMIT {3}) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT 1, listener, seq, seq, reason, 0 FROM exception
        WHERE organization = $1 AND listener = $2 AND seq {0} $3 AND state = 'ended' AND stream = 0 AND reason <> ''{2}
        ORDER BY seq {1} LIMIT {3}) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT 2, listener, seq_from, seq_to, reason, missed_at FROM missed_range
        WHERE organization = $1 AND listener = $2 AND seq_from {0} $3{2}
        ORDER BY seq_from {1} LIMIT {3}) AS looked_at"""
"""The spans of one listener, of one reason if `_OF_REASON` is inserted: the database passes those of other reasons."""
_OF_REASON: Final = " AND reason = $4"
_RANGE_AROUND: Final = """
    UNION ALL
    SELECT * FROM (
        SELECT 3, listener, seq_from, seq_to, reason, missed_at FROM missed_range
        WHERE organization = $1 AND listener = $2 AND seq_from <= $3
        ORDER BY seq_from DESC LIMIT 1) AS looked_at"""
"""Upwards, a range that begins before the span may reach into it."""

_LISTENERS_AT_ONCE: Final = 20
"""How many listeners of a queue that have missed something are read at once, each up to the limit of a part."""
_LISTENERS_LOOKED_AT: Final = 1_000
"""How many listeners of a queue are looked at to find these."""
_LISTENER_PART: Final = 4
"""The part with the listeners themselves."""
_LAST_PART: Final = 5
"""The part with the last listener that was looked at, if others may follow."""
_LISTENERS: Final = """FROM listener
    WHERE organization = $1 AND queue = (
            SELECT q.id FROM queue q WHERE q.organization = $1 AND q.public_id = $4 AND q.deleted_at IS NULL)
        AND id {before}= $2 AND deleted_at IS NULL
    ORDER BY id {order}"""
# SQLite numbers parameters as they appear: the organization, the listener and the seq come first.
_OF_QUEUE: Final = """
    WITH given (listener, bound) AS (
        SELECT id, CASE WHEN organization = $1 AND id = $2 THEN CAST($3 AS BIGINT) ELSE {bound} END
        FROM (SELECT organization, id {listeners} LIMIT {looked_at}) AS looked_at
        WHERE EXISTS (
            SELECT 1 FROM exception x
            WHERE x.organization = $1 AND x.listener = looked_at.id AND x.state = 'missed' AND x.stream + 0 = 0)
        OR EXISTS (
            SELECT 1 FROM exception x
            WHERE x.organization = $1 AND x.listener = looked_at.id AND x.stream = 0 AND x.state = 'ended'
                AND x.reason <> '')
        OR EXISTS (SELECT 1 FROM missed_range x WHERE x.organization = $1 AND x.listener = looked_at.id)
        ORDER BY id {order} LIMIT {at_once})
    {parts}
    UNION ALL SELECT 4, given.listener, 0, 0, '', 0 FROM given
    UNION ALL SELECT * FROM (
        SELECT 5, id, 0, 0, '', 0 {listeners} LIMIT 1 OFFSET {looked_at} - 1) AS looked_at"""
# The last row of each listener is found first, by an index alone; then the rows up to there are read. SQLite keeps the
# order of a CROSS JOIN.
_OF_EACH: Final = """
    SELECT {part}, e.listener, e.{first}, e.{last}, e.reason, {missed_at} FROM (
        SELECT given.listener, given.bound, coalesce((
            SELECT x.{first} FROM {table} x
            WHERE x.organization = $1 AND x.listener = given.listener AND x.{first} {before} given.bound{of_x}
            ORDER BY x.{first} {order} LIMIT 1 OFFSET $5), {end}) AS last
        FROM given) AS span
    CROSS JOIN {table} e
    WHERE e.organization = $1 AND e.listener = span.listener AND e.{first} {up_to} span.last
        AND e.{first} {before} span.bound{of_e}"""
_CONDITIONS: Final = (
    " AND {0}.state = 'missed' AND {0}.stream + 0 = 0",
    " AND {0}.state = 'ended' AND {0}.stream = 0 AND {0}.reason <> ''",
)


class Candidates(NamedTuple):
    """The next candidates of a list."""

    rows: list[Row]
    """At most so many of each part as were asked for; in a queue, of each part of each listener."""
    last_listener: int | None = None
    """The last listener that was looked at, if others of the queue may follow."""


async def read_of_all(tx: Transaction, organization: int, start: Key, count: int, *, newest_first: bool) -> Candidates:
    """Read the candidates of any listener that follow a key."""
    sql = _OF_ALL.format(*_order(newest_first=newest_first))
    return Candidates(await _read(tx, sql, (organization, *start, count), newest_first=newest_first))


async def read_of_listener(
    tx: Transaction, organization: int, start: Key, count: int, *, reason: str | None, newest_first: bool
) -> Candidates:
    """Read the candidates of one listener that follow a key; for one reason if it is given."""
    condition, reasons = ("", ()) if reason is None else (_OF_REASON, (reason,))
    sql = _OF_LISTENER.format(*_order(newest_first=newest_first), condition, f"${4 + len(reasons)}")
    return Candidates(await _read(tx, sql, (organization, *start, *reasons, count), newest_first=newest_first))


async def read_of_queue(
    tx: Transaction, organization: int, start: Key, count: int, *, queue: str, newest_first: bool
) -> Candidates:
    """Read the candidates of the next listeners of a queue, which has a public id, that follow a key."""
    looked_at, at_once = _LISTENERS_LOOKED_AT, _LISTENERS_AT_ONCE
    sql = _of_queue(looked_at, at_once, newest_first=newest_first)
    rows = await _read(tx, sql, (organization, *start, queue, count - 1), newest_first=newest_first)
    listeners = [row[1] for row in rows if row[0] == _LISTENER_PART]
    ends = listeners if len(listeners) == at_once else [row[1] for row in rows if row[0] == _LAST_PART]
    last = min(ends, default=None) if newest_first else max(ends, default=None)
    return Candidates([row for row in rows if row[0] not in {_LISTENER_PART, _LAST_PART}], last)


def _order(*, newest_first: bool) -> tuple[str, str]:
    return ("<", "DESC") if newest_first else (">", "ASC")


async def _read(tx: Transaction, sql: str, values: tuple[Value, ...], *, newest_first: bool) -> list[Row]:
    return await tx.rows(sql if newest_first else sql + _RANGE_AROUND, *values)


@cache
def _of_queue(looked_at: int, at_once: int, *, newest_first: bool) -> str:
    before, order = _order(newest_first=newest_first)
    up_to, end, bound = (">=", 0, LARGEST) if newest_first else ("<=", LARGEST, 0)
    signs = {"before": before, "order": order, "up_to": up_to, "end": end}

    def part(number: int, condition: str) -> str:
        return _OF_EACH.format(
            part=number,
            table="exception" if condition else "missed_range",
            first="seq" if condition else "seq_from",
            last="seq" if condition else "seq_to",
            missed_at="0" if condition else "e.missed_at",
            of_x=condition.format("x"),
            of_e=condition.format("e"),
            **signs,
        )

    return _OF_QUEUE.format(
        bound=bound,
        order=order,
        listeners=_LISTENERS.format(before=before, order=order),
        looked_at=looked_at,
        at_once=at_once,
        parts=" UNION ALL ".join(part(number, condition) for number, condition in enumerate((*_CONDITIONS, ""))),
    )
