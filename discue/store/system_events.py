"""System events: messages that the service appends to the system queue of an organization.

An event is recorded in the transaction that stores what it reports. It has the size 0, so it counts towards no quota.

The head of a system queue is locked before the change feed: transactions that do both never deadlock.
"""

from collections.abc import Mapping
from typing import Final

from discue.domain.ids import event_id_of
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import MessageOptions, encode_options
from discue.domain.quotas import QuotaName
from discue.domain.system_events import MAX_STORED, SYSTEM_QUEUE_ALIAS, QuotaNear, ResourceName, SystemEvent, encode
from discue.store import tallies
from discue.store.engine import Transaction

_RAISE_HEAD: Final = f"""
    UPDATE queue_head SET head = head + 1,
        last_stored_at = CASE WHEN last_stored_at < $1 THEN $1 ELSE last_stored_at END
    WHERE organization = $2 AND closed_at IS NULL AND head - tail < {MAX_STORED} AND queue = (
        SELECT id FROM queue
        WHERE organization = $2 AND alias = '{SYSTEM_QUEUE_ALIAS}' AND is_system = 1 AND deleted_at IS NULL)
    RETURNING queue, head, last_stored_at"""
_INSERT: Final = f"""
    INSERT INTO log (organization, queue, seq, stored_at, id, alias, size, codec, extra, body)
    VALUES ($1, $2, $3, $4, $5, $6, 0, {JSON_VALUE}, $7, $8)"""
_QUOTA_KINDS: Final[Mapping[QuotaName, int]] = {"messages_a_day": 1_001, "bytes_stored": 1_002}
"""Kinds of tallies: the quota was reported on the day that begins with the period."""
_MARK: Final = """
    INSERT INTO tally (organization, period, kind, slot, n) VALUES ($1, $2, $3, $4, 1)
    ON CONFLICT (organization, period, kind, slot) DO NOTHING"""
_LISTENER: Final = """
    SELECT l.public_id, l.alias, q.public_id, q.alias FROM listener l
    JOIN queue q ON q.organization = l.organization AND q.id = l.queue
    WHERE l.organization = $1 AND l.id = $2 AND l.deleted_at IS NULL AND q.deleted_at IS NULL"""


async def record(tx: Transaction, organization: int, event_id: int, event: SystemEvent) -> None:
    """Append an event to the system queue of an organization, unless too many are stored.

    `event_id` is a row id made before the transaction, from which the id of the message is derived.
    """
    row = await tx.row(_RAISE_HEAD, event.at, organization)
    if row is not None:
        queue, seq, stored_at = row
        options = encode_options(MessageOptions(type=event.type))
        values = (event_id_of(event_id), event.type, options, encode(event))
        await tx.execute(_INSERT, organization, queue, seq, stored_at, *values)
        tx.heads[organization, queue] = seq


async def record_quota(tx: Transaction, organization: int, event_id: int, event: QuotaNear) -> None:
    """Record that a publishing quota is nearly used up, once a day (UTC) for each."""
    today = tallies.day_of(event.at).start
    if await tx.execute(_MARK, organization, today, _QUOTA_KINDS[event.quota], tallies.WORK_SLOT):
        await record(tx, organization, event_id, event)


async def names_of(tx: Transaction, organization: int, listener: int) -> tuple[ResourceName, ResourceName] | None:
    """Return the names of a listener and its queue for an event; None if one of them is deleted."""
    row = await tx.row(_LISTENER, organization, listener)
    return None if row is None else (ResourceName(row[0], row[1]), ResourceName(row[2], row[3]))
