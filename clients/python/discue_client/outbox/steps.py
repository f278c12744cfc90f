"""The transactions of a relay, as generators: they yield statements and are sent rows, so that any driver can run them.

A batch is named on its rows before it is sent, and its name is the idempotency key of every request for it. A relay
that finds the name after a crash sends the same bytes under the same key, and the service publishes them once. So no
relay has to know whether another one lives: `claimed_at` only saves work. A queue has one batch at a time, which keeps
the order.

A refusal does not end a batch: an earlier request for it, whose response was lost, may still take effect. So the rest
of the batch is sent under the same key. The first request that the service stores uses up the key, and no other one can
take effect after it. Only then are the rows that it did not contain free for another batch. `attempts` records on each
row which of the requests contained it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from discue_client.outbox.rows import Row
from discue_client.outbox.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

T = TypeVar("T")


class Statement(NamedTuple):
    """SQL with `?` for each value."""

    sql: str
    values: tuple[Any, ...] = ()


Step = Generator[Statement, "list[Any]", T]
"""A transaction. It is sent the rows of each statement."""


async def run(step: Step[T], execute: Callable[[Statement], Awaitable[list[Any]]]) -> T:
    """Run a transaction, and return its result. `execute` runs a statement and returns its rows."""
    rows: list[Any] | None = None
    while True:
        try:
            statement = step.send(rows)  # type: ignore[arg-type] # None starts it
        except StopIteration as end:
            result: T = end.value
            return result
        rows = await execute(statement)


class Batch(NamedTuple):
    """Rows that are published under one idempotency key."""

    queue: str
    key: str
    """The idempotency key."""
    attempts: tuple[tuple[Row, ...], ...]
    """The rows of each request so far, in their order. The last one is the request to send now."""
    claimed_at: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows to send now."""
        return self.attempts[-1]


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
_OF_BATCH = "WHERE queue = ? AND batch = ?"
_NAMED = f"""
SELECT batch, claimed_at FROM {TABLE}
WHERE queue = ? AND batch IS NOT NULL AND error IS NULL ORDER BY id LIMIT 1
"""
_TAKE = f"UPDATE {TABLE} SET claimed_at = ? {_OF_BATCH} RETURNING attempts, {_ROW}"
_NAME = f"""
UPDATE {TABLE} SET batch = ?, attempts = '1', claimed_at = ? WHERE id IN (
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
) RETURNING attempts, {_ROW}
"""
_WITHOUT_REFUSED = f"""
UPDATE {TABLE} SET attempts = attempts || CASE WHEN error IS NULL THEN '1' ELSE '0' END
{_OF_BATCH} RETURNING attempts, {_ROW}
"""
# Two relays may divide a batch at once: the second one finds one attempt more than it knows.
_DIVIDE = f"""
UPDATE {TABLE} SET claimed_at = NULL,
    attempts = attempts || CASE WHEN id <= ? AND substr(attempts, ?, 1) = '1' THEN '1' ELSE '0' END
{_OF_BATCH} AND length(attempts) = ?
"""
_DELETE = f"DELETE FROM {TABLE} {_OF_BATCH} AND substr(attempts, ?, 1) = '1'"
_FREE = f"UPDATE {TABLE} SET batch = NULL, attempts = NULL, claimed_at = NULL {_OF_BATCH}"
_RELEASE = f"UPDATE {TABLE} SET claimed_at = NULL {_OF_BATCH}"
_REFUSE = f"UPDATE {TABLE} SET error = ? {_OF_BATCH} AND id = ?"


def waiting_queues() -> Step[list[str]]:
    """Return the queues that have messages to publish."""
    rows = yield Statement(_QUEUES)
    return [queue for (queue,) in rows]


def claim(queue: str, new_key: str, now: int, limits: Limits, *, held: int | None = None) -> Step[Batch | Taken | None]:
    """Return the batch of the queue to send now, which is named when this commits; None if the queue is empty.

    A batch that was named before comes first. `held` is when this relay claimed a batch that it has not finished. Takes
    place under the lock of the queue.
    """
    named = yield Statement(_NAMED, (queue,))
    if not named:
        rows = yield Statement(_NAME, (new_key, now, queue, limits.max_messages, limits.max_bytes))
        return _batch(queue, new_key, rows, now) if rows else None
    [(key, claimed_at)] = named
    # A clock that is wrong delays a batch by the lease, at most.
    age = limits.lease_ms if claimed_at in (None, held) else abs(now - claimed_at)
    if age < limits.lease_ms:
        return Taken((limits.lease_ms - age) / 1_000)
    batch = _batch(queue, key, (yield Statement(_TAKE, (now, queue, key))), now)
    if any(row.error for row in batch.rows):
        batch = _batch(queue, key, (yield Statement(_WITHOUT_REFUSED, (queue, key))), now)
    return batch


def _batch(queue: str, key: str, found: Iterable[Any], now: int) -> Batch:
    # Databases return the rows of an UPDATE in any order.
    rows = sorted(((attempts, _row(values)) for attempts, *values in found), key=lambda each: each[1].id)
    sent = range(len(rows[0][0]))
    return Batch(queue, key, tuple(tuple(row for attempts, row in rows if attempts[each] == "1") for each in sent), now)


def _row(values: Iterable[Any]) -> Row:
    number, key, payload, *others = values
    # SQLite keeps text as text and numbers as numbers, whatever the column is.
    content = bytes(payload) if isinstance(payload, (bytes, memoryview)) else str(payload).encode()
    return Row(number, key, content, *others)


def delete(batch: Batch, attempt: int) -> Step[None]:
    """Delete the rows of the attempt that the service has stored. The other ones are free for another batch."""
    yield Statement(_DELETE, (batch.queue, batch.key, attempt + 1))
    yield Statement(_FREE, (batch.queue, batch.key))


def release(batch: Batch) -> Step[None]:
    """Let any relay send the batch at once."""
    yield Statement(_RELEASE, (batch.queue, batch.key))


def divide(batch: Batch) -> Step[None]:
    """Send the first half of the batch next, which has several rows."""
    number = len(batch.attempts)
    last = batch.rows[len(batch.rows) // 2 - 1]
    yield Statement(_DIVIDE, (last.id, number, batch.queue, batch.key, number))


def refuse(batch: Batch, errors: Mapping[int, str]) -> Step[None]:
    """Leave rows of a batch in the table, with the error of each id. They are not sent again.

    They stay in the batch, as an earlier request that contained them may still take effect.
    """
    for number, error in errors.items():
        yield Statement(_REFUSE, (error, batch.queue, batch.key, number))
    yield Statement(_RELEASE, (batch.queue, batch.key))
