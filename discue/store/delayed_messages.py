"""Messages that are not due yet: which ones come next, and giving them their place in the log when they are."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from typing import Final

import msgspec

from discue.store.engine import QueueKey, Transaction, Value
from discue.store.tables import chunks

MESSAGES_A_STEP: Final = 500
BYTES_A_STEP: Final = 1 << 20

_NEXT: Final = "SELECT due_at FROM scheduled WHERE due_at >= 0 ORDER BY due_at LIMIT 1"
_DUE: Final = """
    SELECT organization, queue, origin_seq, size FROM scheduled WHERE due_at <= $1
    ORDER BY due_at, organization, queue, origin_seq LIMIT $2"""
_CANCEL: Final = "DELETE FROM scheduled WHERE organization = $1 AND queue = $2 AND origin_seq = $3"
_RAISE_HEAD: Final = """
    UPDATE queue_head SET head = head + $1, moved = moved + $1,
        last_stored_at = CASE WHEN last_stored_at < $2 THEN $2 ELSE last_stored_at END
    WHERE organization = $3 AND queue = $4 AND closed_at IS NULL RETURNING head, last_stored_at"""


class DueMessage(msgspec.Struct, frozen=True, gc=False):
    """A message whose time has come, by where it was published. `size` is that of its body."""

    queue: QueueKey
    origin_seq: int
    size: int


async def next_at(tx: Transaction) -> int | None:
    """When the next message of all is due."""
    row = await tx.row(_NEXT)
    return None if row is None else int(row[0])


async def due(tx: Transaction, now: int) -> list[DueMessage]:
    """What is due, the oldest first: as much as one step takes."""
    rows = await tx.rows(_DUE, now, MESSAGES_A_STEP)
    return _within_bytes([DueMessage((row[0], row[1]), row[2], row[3]) for row in rows])


async def append_due(tx: Transaction, messages: Sequence[DueMessage], now: int) -> dict[QueueKey, int]:
    """Give each of them the next seq of its log; the last one given in each queue.

    Whoever removes a message's row here is who gives it that: of several that try, one does. What was deleted meanwhile
    has none. To be called in an exclusive transaction: whoever changes or deletes a message has read where it stands.
    """
    heads: dict[QueueKey, int] = {}
    # Heads are locked in the order of their keys. Within a queue the order stays.
    for queue, group in groupby(sorted(messages, key=_queue), key=_queue):
        head = await _append_to(tx, queue, [message.origin_seq for message in group], now)
        if head is not None:
            heads[queue] = head
    return heads


async def cancel(tx: Transaction, queue: QueueKey, origin_seq: int) -> None:
    """The message was deleted: it will not be due."""
    await tx.execute(_CANCEL, *queue, origin_seq)


async def _append_to(tx: Transaction, queue: QueueKey, origins: Sequence[int], now: int) -> int | None:
    """The new head; None where nothing is left to append, or the queue was deleted."""
    taken: dict[int, int | None] = {}
    for chunk in chunks(origins):
        taken.update({row[0]: row[1] for row in await tx.rows(_take(len(chunk)), *queue, *chunk)})
    seqs = [seq for seq in origins if seq in taken]
    raised = await tx.row(_RAISE_HEAD, len(seqs), now, *queue) if seqs else None
    if raised is None:
        return None
    head, stored_at = raised
    first = head - len(seqs) + 1
    for chunk in chunks(seqs):
        values: tuple[Value, ...] = (first, *chunk, *[taken[seq] for seq in chunk], stored_at, *queue)
        await tx.execute(_move(len(chunk)), *values)
        first += len(chunk)
    return int(head)


@cache
def _take(count: int) -> str:
    among = ", ".join(f"${number}" for number in range(3, 3 + count))
    return f"""
        DELETE FROM scheduled WHERE organization = $1 AND queue = $2 AND origin_seq IN ({among})
        RETURNING origin_seq, key_hash"""


@cache
def _move(count: int) -> str:
    """Moves rows to consecutive seqs, from the first one on. Values that are written out keep every plan to the key."""
    numbers = range(2, 2 + count)
    places = " ".join(f"WHEN ${number} THEN {place}" for place, number in enumerate(numbers))
    keys = " ".join(f"WHEN ${number} THEN CAST(${number + count} AS BIGINT)" for number in numbers)
    among = ", ".join(f"${number}" for number in numbers)
    last = 1 + 2 * count
    return f"""
        UPDATE log SET seq = CAST($1 AS BIGINT) + CASE seq {places} END, key_hash = CASE seq {keys} END,
            origin_seq = seq, kind = 0, published_at = stored_at, stored_at = ${last + 1}
        WHERE organization = ${last + 2} AND queue = ${last + 3} AND seq IN ({among})"""


def _within_bytes(messages: Iterable[DueMessage]) -> list[DueMessage]:
    """The first of them, one at least, as far as their bodies are not too much for one transaction."""
    chosen: list[DueMessage] = []
    size = 0
    for message in messages:
        size += message.size
        if chosen and size > BYTES_A_STEP:
            break
        chosen.append(message)
    return chosen


def _queue(message: DueMessage) -> QueueKey:
    return message.queue
