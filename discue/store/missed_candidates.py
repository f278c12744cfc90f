"""Spans of a log in which listeners may have missed messages: the first of two steps to find these messages.

These candidates are rows `(part, listener, first, last, reason, missed_at)`, with both seqs included. Only ranges have
a time.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

from discue.store.engine import Row, Transaction, Value
from discue.store.missed_messages import Key
from discue.store.pagination import LARGEST
from discue.store.tables import padded, shifted

PARTS: Final = 3
"""The number of parts that are read by an index each, up to a limit."""
OF_RANGES: Final = frozenset({2, 3})
"""The parts that have ranges. The last one has the range that the first key may be in."""

# Each part is read by one index, which the order and the columns leave as the only one. Adding 0 keeps the order of the
# index: otherwise SQLite would sort.
_OF_ALL: Final = """
    SELECT * FROM (
        SELECT 0, listener, seq, seq, reason, 0 FROM delivery
        WHERE organization = $1 AND (listener, seq) {0} ($2, $3) AND state = 'missed' AND stream + 0 = 0
        ORDER BY listener {1}, seq {1} LIMIT $4) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT 1, listener, seq, seq, reason, 0 FROM delivery
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
        SELECT 0, listener, seq, seq, reason, 0 FROM delivery
        WHERE organization = $1 AND listener = $2 AND seq {0} $3 AND state = 'missed' AND stream + 0 = 0{2}
        ORDER BY seq {1} LIMIT {3}) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT 1, listener, seq, seq, reason, 0 FROM delivery
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

_LISTENERS_AT_ONCE: Final = 16
"""How many listeners of a queue that have missed something are read at once, each up to the limit of a part."""
_LISTENERS_LOOKED_AT: Final = 1_000
"""How many listeners of a queue are looked at to find these."""
_LISTENERS: Final = """FROM listener
        WHERE organization = $1 AND queue = (
            SELECT q.id FROM queue q WHERE q.organization = $1 AND q.public_id = $2 AND q.deleted_at IS NULL)
        AND id {before}= $3 AND deleted_at IS NULL ORDER BY id {order}"""
# PostgreSQL would read all delivery rows once to answer EXISTS for many listeners.
_THAT_MISSED: Final = """
    SELECT * FROM (
        SELECT 0, id FROM (SELECT organization, id {listeners} LIMIT {looked_at}) AS looked_at
        WHERE coalesce((
            SELECT x.seq FROM delivery x
            WHERE x.organization = $1 AND x.listener = looked_at.id AND x.state = 'missed' AND x.stream + 0 = 0
            ORDER BY x.seq LIMIT 1), (
            SELECT x.seq FROM delivery x
            WHERE x.organization = $1 AND x.listener = looked_at.id AND x.stream = 0 AND x.state = 'ended'
                AND x.reason <> ''
            ORDER BY x.seq LIMIT 1), (
            SELECT x.seq_from FROM missed_range x WHERE x.organization = $1 AND x.listener = looked_at.id
            ORDER BY x.seq_from LIMIT 1)) IS NOT NULL
        ORDER BY id {order} LIMIT {at_once}) AS looked_at
    UNION ALL
    SELECT * FROM (SELECT 1, id {listeners} LIMIT 1 OFFSET {looked_at} - 1) AS looked_at"""
"""The next listeners of a queue that have missed something; and the last one looked at, if others may follow."""
_NO_LISTENER: Final = 0
_WIDTH: Final = 4
"""The number of parameters of `_OF_LISTENER` without a reason."""


class Candidates(NamedTuple):
    """The next candidates of a list."""

    rows: list[Row]
    """At most as many of each part as were asked for; in a queue, of each part of each listener."""
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
    before, order = _order(newest_first=newest_first)
    listeners = _LISTENERS.format(before=before, order=order)
    limits = {"looked_at": _LISTENERS_LOOKED_AT, "at_once": _LISTENERS_AT_ONCE}
    sql = _THAT_MISSED.format(listeners=listeners, order=order, **limits)
    found = await tx.rows(sql, organization, queue, start[0])
    given = sorted((listener for part, listener in found if not part), reverse=newest_first)
    ends = given if len(given) == _LISTENERS_AT_ONCE else [listener for part, listener in found if part]
    if not given:
        return Candidates([], *ends)
    bounds = dict.fromkeys(given, LARGEST if newest_first else 0) | {start[0]: start[1]}
    some = padded(given, _NO_LISTENER)
    values = [value for each in some for value in (organization, each, bounds.get(each, 0), count)]
    rows = await _read(tx, _of_listeners(len(some), newest_first=newest_first), values, newest_first=newest_first)
    last = min(ends, default=None) if newest_first else max(ends, default=None)
    return Candidates(rows, last)


@cache
def _of_listeners(count: int, *, newest_first: bool) -> str:
    sql = _OF_LISTENER.format(*_order(newest_first=newest_first), "", f"${_WIDTH}")
    return " UNION ALL ".join(shifted(sql, place * _WIDTH) for place in range(count))


def _order(*, newest_first: bool) -> tuple[str, str]:
    return ("<", "DESC") if newest_first else (">", "ASC")


async def _read(tx: Transaction, sql: str, values: Sequence[Value], *, newest_first: bool) -> list[Row]:
    return await tx.rows(sql if newest_first else sql + _RANGE_AROUND, *values)
