"""Spans of a log in which listeners may have missed messages: the first of two steps to find these messages."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Final, NamedTuple

from discue.store.engine import Transaction, Value
from discue.store.missed_messages import Key
from discue.store.tables import padded, placeholders, shifted

# Each part is read by one index, which the order and the columns leave as the only one. Adding 0 keeps the order of the
# index: otherwise SQLite would sort.
_OF_ALL: Final = """
    SELECT * FROM (
        SELECT listener, seq, seq, 0, reason, due_at, attempts FROM delivery
        WHERE organization = $1 AND (listener, seq) {0} ($2, $3) AND state = 'missed' AND stream + 0 = 0
        ORDER BY listener {1}, seq {1} LIMIT $4) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT listener, seq, seq, 0, reason, due_at, attempts FROM delivery
        WHERE organization = $1 AND (listener, stream, seq) {0} ($2, 0, $3) AND state = 'ended' AND stream + 0 = 0
            AND reason <> ''
        ORDER BY listener {1}, stream {1}, seq {1} LIMIT $4) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT listener, seq_from, seq_to, 1, reason, missed_at, 0 FROM missed_range
        WHERE organization = $1 AND (listener, seq_from) {0} ($2, $3)
        ORDER BY listener {1}, seq_from {1} LIMIT $4) AS looked_at"""
_OF_LISTENER: Final = """
    SELECT * FROM (
        SELECT listener, seq, seq, 0, reason, due_at, attempts FROM delivery
        WHERE organization = $1 AND listener = $2 AND seq {0} $3 AND state = 'missed' AND stream + 0 = 0{2}
        ORDER BY seq {1} LIMIT {3}) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT listener, seq, seq, 0, reason, due_at, attempts FROM delivery
        WHERE organization = $1 AND listener = $2 AND seq {0} $3 AND state = 'ended' AND stream = 0 AND reason <> ''{2}
        ORDER BY seq {1} LIMIT {3}) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT listener, seq_from, seq_to, 1, reason, missed_at, 0 FROM missed_range
        WHERE organization = $1 AND listener = $2 AND seq_from {0} $3{2}
        ORDER BY seq_from {1} LIMIT {3}) AS looked_at"""
"""The spans of one listener, of one reason if `_OF_REASON` is inserted: the database passes those of other reasons."""
_OF_REASON: Final = " AND reason = $4"
_RANGE_AROUND: Final = """
    UNION ALL
    SELECT * FROM (
        SELECT listener, seq_from, seq_to, 1, reason, missed_at, 0 FROM missed_range
        WHERE organization = $1 AND listener = $2 AND seq_from <= $3
        ORDER BY seq_from DESC LIMIT 1) AS looked_at
    WHERE seq_to > $3"""
"""Upwards, a range that begins before the span may reach into it."""

_LISTENERS_AT_ONCE: Final = 16
"""How many listeners that have missed something are read at once, each up to the limit of a part."""
_LISTENERS_LOOKED_AT: Final = 1_000
"""How many listeners of a queue are looked at to find these."""
_CHOSEN_LOOKED_AT: Final = 128
"""How many of some given listeners are looked at to find these."""
_OF_QUEUE: Final = """FROM listener
        WHERE organization = $1 AND queue = (
            SELECT q.id FROM queue q WHERE q.organization = $1 AND q.public_id = $2 AND q.deleted_at IS NULL)
        AND id {before}= $3 AND deleted_at IS NULL ORDER BY id {order}"""
_CHOSEN: Final = "FROM listener WHERE organization = $1 AND id IN ({given}) AND deleted_at IS NULL ORDER BY id {order}"
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
        ORDER BY id {order} LIMIT {at_once}) AS looked_at"""
_LAST_LOOKED_AT: Final = """
    UNION ALL
    SELECT * FROM (SELECT 1, id {listeners} LIMIT 1 OFFSET {looked_at} - 1) AS looked_at"""
_MORE: Final = 2
"""Additional candidates: the last one says up to where the others are complete, and another one can begin there."""
_NO_LISTENER: Final = 0
_WIDTH: Final = 4
"""The number of parameters of `_OF_LISTENER` without a reason."""


class Candidate(NamedTuple):
    """A span in which a listener may have missed messages: one message that has a delivery row, or a missed range."""

    listener: int
    low: int
    """Included, like the other end."""
    high: int
    is_range: int
    """1 for a range. Its messages were missed unless they have a delivery row; 0 otherwise."""
    reason: str
    missed_at: int
    attempts: int

    def before(self, *, newest_first: bool) -> Key:
        """Return the last key before the list reaches the span."""
        return self.listener, self.high + 1 if newest_first else self.low - 1


class Candidates(NamedTuple):
    """The next candidates of a list, in order."""

    spans: list[Candidate]
    end: Key | None
    """The key up to which they are complete; None if no others follow."""


async def read_of_all(tx: Transaction, organization: int, start: Key, count: int, *, newest_first: bool) -> Candidates:
    """Read the candidates of any listener that follow a key."""
    sql = _parts(_OF_ALL, newest_first=newest_first)
    return await _read(tx, sql, (organization, *start, count + _MORE), count, newest_first=newest_first)


async def read_of_listener(
    tx: Transaction, organization: int, start: Key, count: int, *, reason: str | None, newest_first: bool
) -> Candidates:
    """Read the candidates of one listener that follow a key; for one reason if it is given."""
    condition, reasons = ("", ()) if reason is None else (_OF_REASON, (reason,))
    sql = _parts(_OF_LISTENER, condition, f"${_WIDTH + len(reasons)}", newest_first=newest_first)
    return await _read(tx, sql, (organization, *start, *reasons, count + _MORE), count, newest_first=newest_first)


async def read_of_listeners(
    tx: Transaction, organization: int, starts: Mapping[int, int], count: int, *, newest_first: bool
) -> Candidates:
    """Read the candidates of several listeners, each from a seq on, by the listeners' row ids in order."""
    some = padded(list(starts), _NO_LISTENER)
    values = [value for each in some for value in (organization, each, starts.get(each, 0), count + _MORE)]
    return await _read(
        tx, _of_listeners(len(some), newest_first=newest_first), values, count, newest_first=newest_first
    )


async def that_missed(
    tx: Transaction, organization: int, among: str | Sequence[int], start: int, *, newest_first: bool
) -> tuple[list[int], int | None]:
    """Return the next of several listeners that have missed something, from one on: row ids, in order.

    They are those of a queue, which is given by its public id, or with row ids, in order. The second result is the last
    one that was looked at if others may follow.
    """
    before, order = _order(newest_first=newest_first)
    values: Sequence[Value] = ()
    last = None
    if isinstance(among, str):
        sql, values, looked_at = _THAT_MISSED + _LAST_LOOKED_AT, (among, start), _LISTENERS_LOOKED_AT
        listeners = _OF_QUEUE.format(before=before, order=order)
    else:
        chosen = among[: bisect_right(among, start)][::-1] if newest_first else among[bisect_left(among, start) :]
        last = chosen[_CHOSEN_LOOKED_AT - 1] if len(chosen) > _CHOSEN_LOOKED_AT else None
        values = padded(chosen[:_CHOSEN_LOOKED_AT] or [_NO_LISTENER], _NO_LISTENER)
        sql, looked_at = _THAT_MISSED, len(values)
        listeners = _CHOSEN.format(given=placeholders(2, looked_at), order=order)
    sql = sql.format(listeners=listeners, order=order, looked_at=looked_at, at_once=_LISTENERS_AT_ONCE)
    found = await tx.rows(sql, organization, *values)
    given = sorted((listener for part, listener in found if not part), reverse=newest_first)
    if len(given) == _LISTENERS_AT_ONCE:
        return given, given[-1]
    return given, next((listener for part, listener in found if part), last)


@cache
def _of_listeners(count: int, *, newest_first: bool) -> str:
    sql = _parts(_OF_LISTENER, "", f"${_WIDTH}", newest_first=newest_first)
    return " UNION ALL ".join(shifted(sql, place * _WIDTH) for place in range(count))


def _parts(sql: str, *conditions: str, newest_first: bool) -> str:
    parts = sql.format(*_order(newest_first=newest_first), *conditions)
    return parts if newest_first else parts + _RANGE_AROUND


def _order(*, newest_first: bool) -> tuple[str, str]:
    return ("<", "DESC") if newest_first else (">", "ASC")


async def _read(tx: Transaction, parts: str, values: Sequence[Value], count: int, *, newest_first: bool) -> Candidates:
    """Read the first candidates of the parts. The last value is the number that is read of each part."""
    rows = await tx.rows(parts, *values)
    # By where the list reaches them. No part has others before the last one that counts.
    rows.sort(key=itemgetter(0, 2 if newest_first else 1), reverse=newest_first)
    found = list(map(Candidate._make, rows[: count + _MORE]))
    if len(found) < count + _MORE:
        return Candidates(found, None)
    return Candidates(found[:-1], found[-1].before(newest_first=newest_first))
