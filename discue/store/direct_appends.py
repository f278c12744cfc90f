"""Messages that a work appends in its own transaction: those of schedules, and of the intake."""

from collections.abc import Sequence
from typing import Final

import msgspec

from discue.domain.model import Organization
from discue.domain.quotas import PublishUsage, Quotas, fits, quotas_of, reported_use
from discue.domain.system_events import QuotaNear
from discue.store import accounts, system_events, tallies
from discue.store.batch_rows import ENTRY_COLUMNS, Values, entry_values
from discue.store.engine import NewEntry, QueueKey, Row, Transaction
from discue.store.tables import LOG, SCHEDULED, insert_rows, read_number
from discue.store.tallies import TallyEntry

_RAISE_HEAD: Final = """
    UPDATE queue_head SET head = head + $1,
        last_stored_at = CASE WHEN last_stored_at < $2 THEN $2 ELSE last_stored_at END
    WHERE organization = $3 AND queue = $4 AND closed_at IS NULL RETURNING head, last_stored_at"""
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
            messages = await accounts.count_messages(tx, owner.account, tallies.day_of(now))
            used = PublishUsage(messages, await accounts.bytes_stored(tx, owner.account))
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


async def append_directly(tx: Transaction, queue: QueueKey, entries: Sequence[NewEntry], now: int) -> int | None:
    """Append messages, and return the new head; None if the queue was closed meanwhile."""
    raised = await tx.row(_RAISE_HEAD, len(entries), now, *queue)
    if raised is None:
        return None
    head, stored_at = raised
    numbered = list(enumerate(entries, head - len(entries) + 1))
    rows = []
    for seq, entry in numbered:
        is_long = len(entry.body) > tx.inline_bytes
        body_id = await _store_body(tx, queue[0], entry.body) if is_long else None
        rows.append(_log_row(queue, seq, stored_at, entry_values(entry, body_id)))
    await insert_rows(tx, LOG, rows)
    delayed = [(seq, entry) for seq, entry in numbered if entry.due_at is not None]
    await insert_rows(tx, SCHEDULED, [(*queue, seq, each.due_at, each.size, each.key_hash) for seq, each in delayed])
    counted = (
        TallyEntry(queue[0], tallies.period_of(now), tallies.MESSAGE_ADDED, len(entries)),
        TallyEntry(queue[0], tallies.CURRENT, tallies.BYTES_STORED, sum(entry.size for entry in entries)),
    )
    await tallies.add(tx, counted)
    return int(head)


async def _store_body(tx: Transaction, organization: int, body: bytes) -> int:
    """Store a body that is too long for its row, and return its id."""
    return await read_number(tx, _INSERT_BODY, organization, len(body), body)


def _log_row(queue: QueueKey, seq: int, stored_at: int, from_entry: Values) -> Row:
    values = dict(zip(ENTRY_COLUMNS, from_entry, strict=True))
    values |= {"organization": queue[0], "queue": queue[1], "seq": seq, "stored_at": stored_at}
    return tuple(values.get(column) for column in LOG.columns)
