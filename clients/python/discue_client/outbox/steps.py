"""The transactions of a relay, as generators: they yield statements and are sent rows, so that any driver can run them.

A batch is named on its rows before it is sent, and its name is the idempotency key of the request. A relay that finds
the name after a crash sends the same bytes under the same key, and the service publishes them once. So no relay has to
know whether another one lives: `claimed_at` only saves work. A queue has one batch at a time, which keeps the order.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from discue_client.outbox.rows import Row
from discue_client.outbox.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class Statement(NamedTuple):
    """SQL with `?` for each value."""

    sql: str
    values: tuple[Any, ...] = ()


Step = Generator[Statement, "list[Any]", T]
"""A transaction. It is sent the rows of each statement."""


class Batch(NamedTuple):
    """Rows that are published in one request."""

    queue: str
    key: str
    """The idempotency key."""
    rows: tuple[Row, ...]


class Taken(NamedTuple):
    """Another relay works on the queue."""

    seconds: float
    """How long it has for that."""


class Limits(NamedTuple):
    """The size of a batch, and the time that a relay has for it."""

    max_messages: int
    max_bytes: int
    lease_ms: int


# A step from one queue to the next: the index has an entry for each row, and there may be millions of them.
_QUEUES = f"""
WITH RECURSIVE found (queue) AS (
    SELECT min(queue) FROM {TABLE} WHERE error IS NULL
    UNION ALL
    SELECT (SELECT min(queue) FROM {TABLE} WHERE error IS NULL AND queue > found.queue)
    FROM found WHERE found.queue IS NOT NULL
)
SELECT queue FROM found WHERE queue IS NOT NULL
"""
_ROW = ", ".join(Row._fields)
_NAMED = f"SELECT batch, claimed_at, {_ROW} FROM {TABLE} WHERE queue = ? AND batch IS NOT NULL ORDER BY id"
_TAKE_OVER = f"UPDATE {TABLE} SET claimed_at = ? WHERE queue = ? AND batch = ?"
_NAME = f"""
UPDATE {TABLE} SET batch = ?, claimed_at = ? WHERE id IN (
    SELECT id FROM (
        SELECT
            id,
            sum(length(payload) + length(fields)) OVER (ORDER BY id) AS bytes,
            row_number() OVER (ORDER BY id) AS place
        FROM (
            SELECT id, payload, fields FROM {TABLE}
            WHERE queue = ? AND error IS NULL AND batch IS NULL ORDER BY id LIMIT ?
        ) AS oldest
    ) AS measured WHERE place = 1 OR bytes <= ?
) RETURNING {_ROW}
"""
_DELETE = f"DELETE FROM {TABLE} WHERE queue = ? AND batch = ?"
_RELEASE = f"UPDATE {TABLE} SET claimed_at = NULL WHERE queue = ? AND batch = ?"
_RENAME = f"UPDATE {TABLE} SET batch = ?, claimed_at = NULL WHERE queue = ? AND batch = ? AND id BETWEEN ? AND ?"
_REFUSE = f"UPDATE {TABLE} SET error = ?, batch = NULL, claimed_at = NULL WHERE queue = ? AND batch = ?"


def waiting_queues() -> Step[list[str]]:
    """Return the queues that have messages to publish."""
    rows = yield Statement(_QUEUES)
    return [queue for (queue,) in rows]


def claim(queue: str, new_key: str, now: int, limits: Limits) -> Step[Batch | Taken | None]:
    """Return the batch of the queue to send now, which is named when this commits; None if the queue is empty.

    A batch that was named before comes first. Takes place under the lock of the queue.
    """
    named = yield Statement(_NAMED, (queue,))
    if named:
        key, claimed_at, *_ = named[0]
        # A clock that is wrong delays a batch by the lease, at most.
        age = limits.lease_ms if claimed_at is None else abs(now - claimed_at)
        if age < limits.lease_ms:
            return Taken((limits.lease_ms - age) / 1_000)
        yield Statement(_TAKE_OVER, (now, queue, key))
        return Batch(queue, key, tuple(_row(values[2:]) for values in named if values[0] == key))
    rows = yield Statement(_NAME, (new_key, now, queue, limits.max_messages, limits.max_bytes))
    # Databases return the rows of an UPDATE in any order.
    return Batch(queue, new_key, tuple(sorted(map(_row, rows)))) if rows else None


def _row(values: Sequence[Any]) -> Row:
    number, key, payload, form, fields = values
    # SQLite keeps text as text, whatever the column is.
    return Row(number, key, payload.encode() if isinstance(payload, str) else bytes(payload), form, fields)


def delete(batch: Batch) -> Step[None]:
    """Delete the rows of a batch, which is published."""
    yield Statement(_DELETE, (batch.queue, batch.key))


def release(batch: Batch) -> Step[None]:
    """Let any relay send the batch at once."""
    yield Statement(_RELEASE, (batch.queue, batch.key))


def split(batch: Batch, parts: Sequence[Sequence[Row]], new_key: Callable[[], str]) -> Step[None]:
    """Make batches of the parts of a batch that was refused, which are parts in its order."""
    for part in parts:
        yield Statement(_RENAME, (new_key(), batch.queue, batch.key, part[0].id, part[-1].id))


def refuse(batch: Batch, error: str) -> Step[None]:
    """Leave the rows of a batch in the table, with the reason. They are not sent again."""
    yield Statement(_REFUSE, (error, batch.queue, batch.key))
