"""Messages that a work appends in its own transaction: messages of schedules, of the intake, and delayed messages.

A delayed message is in the log from its publish on. When it is due, it gets the next seq.
"""

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec

from discue.domain.model import Organization
from discue.domain.quotas import PublishUsage, Quotas, fits, quotas_of, reported_use
from discue.domain.system_events import QuotaNear
from discue.store import organizations, system_events, tallies
from discue.store.batch_rows import ENTRY_COLUMNS, Values, entry_values
from discue.store.engine import NewEntry, QueueKey, Row, Transaction, Value
from discue.store.tables import LOG, SCHEDULED, chunks, insert_rows, placeholders, read_number, rows_among, within_bytes
from discue.store.tallies import TallyEntry

_RAISE_HEAD: Final = """
    UPDATE queue_head SET head = head + $1, moved = moved + $2,
        last_stored_at = CASE WHEN last_stored_at < $3 THEN $3 ELSE last_stored_at END
    WHERE organization = $4 AND queue = $5 AND closed_at IS NULL RETURNING head, last_stored_at"""
_INSERT_BODY: Final = """
    INSERT INTO body (id, organization, size, uses, bytes)
    VALUES ((SELECT coalesce(max(id), 0) + 1 FROM body), $1, $2, 1, $3) RETURNING id"""


class PublishBudget(msgspec.Struct):
    """The messages that an organization may still publish."""

    account: int
    is_active: bool
    quotas: Quotas
    used: PublishUsage

    @classmethod
    async def of(cls, tx: Transaction, owner: Organization, now: int, defaults: Quotas) -> "PublishBudget":
        """`defaults` are the quotas of organizations without their own."""
        quotas = quotas_of(owner.settings, defaults)
        used = PublishUsage()
        if quotas.limit_publishing:
            messages = await organizations.count_messages(tx, owner.account, tallies.day_of(now))
            used = PublishUsage(messages, await organizations.bytes_stored(tx, owner.account))
        return cls(owner.account, owner.state == "active", quotas, used)

    def take(self, load: PublishUsage) -> bool:
        """Count more messages. Returns False, and counts none, if they exceed the quotas."""
        if not fits(self.quotas, self.used, load):
            return False
        self.used += load
        return True

    async def report(self, tx: Transaction, now: int, event_ids: Sequence[int]) -> None:
        """Record the system events of quotas that are nearly used up."""
        for event_id, (name, quota, used) in zip(event_ids, reported_use(self.quotas, self.used), strict=False):
            event = QuotaNear(at=now, quota=name, limit=quota, used=used)
            await system_events.record_quota(tx, self.account, event_id, event)


async def append_directly(tx: Transaction, queue: QueueKey, entries: Sequence[NewEntry], now: int) -> bool:
    """Append messages. Returns False if the queue was closed meanwhile."""
    raised = await tx.row(_RAISE_HEAD, len(entries), 0, now, *queue)
    if raised is None:
        return False
    head, stored_at = raised
    numbered = list(enumerate(entries, head - len(entries) + 1))
    rows = []
    for seq, entry in numbered:
        is_long = len(entry.body) > tx.inline_bytes
        body_id = await read_number(tx, _INSERT_BODY, queue[0], len(entry.body), entry.body) if is_long else None
        rows.append(_log_row(queue, seq, stored_at, entry_values(entry, body_id)))
    await insert_rows(tx, LOG, rows)
    delayed = [(seq, entry) for seq, entry in numbered if entry.due_at is not None]
    await insert_rows(tx, SCHEDULED, [(*queue, seq, each.due_at, each.size, each.key_hash) for seq, each in delayed])
    counted = (
        TallyEntry(queue[0], tallies.period_of(now), tallies.MESSAGE_ADDED, len(entries)),
        TallyEntry(queue[0], tallies.CURRENT, tallies.BYTES_STORED, sum(entry.size for entry in entries)),
    )
    await tallies.add(tx, counted)
    tx.heads[queue] = head
    return True


def _log_row(queue: QueueKey, seq: int, stored_at: int, from_entry: Values) -> Row:
    values = dict(zip(ENTRY_COLUMNS, from_entry, strict=True))
    values |= {"organization": queue[0], "queue": queue[1], "seq": seq, "stored_at": stored_at}
    return tuple(values.get(column) for column in LOG.columns)


MESSAGES_A_STEP: Final = 500
BYTES_A_STEP: Final = 1 << 20

_DUE: Final = """
    SELECT organization, queue, origin_seq, size FROM scheduled WHERE due_at <= $1
    ORDER BY due_at, organization, queue, origin_seq LIMIT $2"""
_TAKE: Final = """
    DELETE FROM scheduled WHERE organization = $1 AND queue = $2 AND origin_seq IN ({})
    RETURNING origin_seq, key_hash"""
_CANCEL: Final = "DELETE FROM scheduled WHERE organization = $1 AND queue = $2 AND origin_seq IN ({}) RETURNING size"


class DueMessage(msgspec.Struct, frozen=True, gc=False):
    """A message whose time has come."""

    queue: QueueKey
    origin_seq: int
    """The seq that it got when it was published."""
    size: int
    """The size of its body and options."""


async def due_messages(tx: Transaction, now: int) -> list[DueMessage]:
    """Read messages that are due, oldest first: as many as one step handles."""
    rows = within_bytes(await tx.rows(_DUE, now, MESSAGES_A_STEP), BYTES_A_STEP)
    return [DueMessage((row[0], row[1]), row[2], row[3]) for row in rows]


async def append_due(tx: Transaction, messages: Sequence[DueMessage], now: int) -> None:
    """Give each message the next seq of its log.

    Of several workers that try, the one that deletes a message's row gives it its seq. A deleted message has no row.
    Call this in an exclusive transaction: changes and deletions of a message read its seq first.
    """
    # Heads are locked in the order of their keys. The order within a queue is kept.
    by_queue = attrgetter("queue")
    for queue, group in groupby(sorted(messages, key=by_queue), key=by_queue):
        await _append_to(tx, queue, [message.origin_seq for message in group], now)


async def cancel_delayed(tx: Transaction, queue: QueueKey, origins: Sequence[int]) -> None:
    """Cancel delayed messages that are being deleted."""
    await rows_among(tx, _CANCEL, queue, origins)


async def _append_to(tx: Transaction, queue: QueueKey, origins: Sequence[int], now: int) -> None:
    taken: dict[int, int | None] = dict(await rows_among(tx, _TAKE, queue, origins))
    # The head is raised only for rows that this transaction has deleted: otherwise seqs would stay empty.
    seqs = [seq for seq in origins if seq in taken]
    raised = await tx.row(_RAISE_HEAD, len(seqs), len(seqs), now, *queue) if seqs else None
    if raised is None:
        return
    head, stored_at = raised
    tx.heads[queue] = head
    first = head - len(seqs) + 1
    for chunk in chunks(seqs):
        values: tuple[Value, ...] = (first, *chunk, *[taken[seq] for seq in chunk], stored_at, *queue)
        await tx.execute(_move(len(chunk)), *values)
        first += len(chunk)


@cache
def _move(count: int) -> str:
    """Return the statement that moves rows to consecutive seqs from `$1` on.

    The values are written out, so that every plan goes by the key.
    """
    numbers = range(2, 2 + count)
    positions = " ".join(f"WHEN ${number} THEN {place}" for place, number in enumerate(numbers))
    keys = " ".join(f"WHEN ${number} THEN CAST(${number + count} AS BIGINT)" for number in numbers)
    last = 1 + 2 * count
    return f"""
        UPDATE log SET seq = CAST($1 AS BIGINT) + CASE seq {positions} END, key_hash = CASE seq {keys} END,
            origin_seq = seq, kind = 0, published_at = stored_at, stored_at = ${last + 1}
        WHERE organization = ${last + 2} AND queue = ${last + 3} AND seq IN ({placeholders(2, count)})"""
