"""Messages as the API shows them: found by id, by queue or across the queues of an organization."""

from collections.abc import Collection
from typing import Final

from discue.domain.messages import decode_options
from discue.domain.model import Queue, StoredMessage
from discue.store import message_lists, message_log, scheduled
from discue.store.engine import Row, Transaction
from discue.store.message_log import BODY, WAITING, LiveQueues
from discue.store.pagination import Listing, RowPage, Selection

_GET: Final = f"""
    SELECT l.seq, l.alias, coalesce(l.published_at, l.stored_at), l.updated_at, l.codec, {BODY}, l.expires_at, l.extra,
        l.kind, l.origin_seq
    FROM log l
    WHERE l.organization = $1 AND l.id = $2 AND l.queue = $3"""
_SET_ALIAS: Final = """
    UPDATE log SET alias = $1, updated_at = $2 WHERE organization = $3 AND queue = $4 AND seq = $5"""
_DELETE: Final = "DELETE FROM log WHERE organization = $1 AND queue = $2 AND seq = $3 RETURNING size, body_id"
# Lanes that find no message give up its deliveries; those that wait for another attempt do so now.
_MAKE_DUE: Final = """
    UPDATE exception SET due_at = 0 WHERE organization = $1 AND queue = $2 AND seq = $3 AND state = 'retry'"""

_JSON = 1


async def get(tx: Transaction, queue: Queue, public_id: str) -> StoredMessage | None:
    """The message with its body."""
    row = await tx.row(_GET, queue.organization, public_id, queue.id)
    if row is None:
        return None
    seq, alias, stored_at, updated_at, codec, body, expires_at, extra, kind, origin_seq = row
    return StoredMessage(
        organization=queue.organization,
        queue=queue.id,
        queue_public_id=queue.public_id,
        seq=seq,
        id=public_id,
        alias=alias or public_id,
        stored_at=stored_at,
        updated_at=updated_at or stored_at,
        is_json=codec == _JSON,
        body=bytes(body),
        expires_at=expires_at or 0,
        options=decode_options(extra),
        waits=kind == WAITING,
        origin_seq=origin_seq or seq,
    )


async def page_of_queue(
    tx: Transaction, queue: Queue, selection: Selection, only: Collection[str] | None = None
) -> Listing[StoredMessage]:
    """The queue's messages without their bodies, or those of `only` (ids).

    Raises BadRequest when the selection names a listener that is not one of the queue's.
    """
    found = await message_lists.of_queue(tx, queue.organization, queue.id, selection, only)
    return await _listing(tx, queue.organization, found, LiveQueues(queue.organization))


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[StoredMessage]:
    """The organization's messages without their bodies, or those of `only`: ids of messages and of queues.

    Raises BadRequest when the selection names a listener that is not one of the organization's.
    """
    live = LiveQueues(organization)
    return await _listing(
        tx, organization, await message_lists.of_organization(tx, organization, live, selection, only), live
    )


async def set_alias(tx: Transaction, message: StoredMessage, alias: str, now: int) -> bool:
    """False when the message is gone."""
    values = (alias, now, message.organization, message.queue, message.seq)
    return await tx.execute(_SET_ALIAS, *values) == 1


async def delete(tx: Transaction, message: StoredMessage) -> bool:
    """Lanes settle the hole that it leaves in the log. False when it was gone."""
    key = (message.organization, message.queue, message.seq)
    if message.waits:
        await scheduled.forget(tx, key[:2], message.seq)
    await tx.execute(_MAKE_DUE, *key)
    return await message_log.release_bodies(tx, message.organization, await tx.rows(_DELETE, *key)) == 1


async def _listing(tx: Transaction, organization: int, found: RowPage, live: LiveQueues) -> Listing[StoredMessage]:
    items = [
        _from_row(row, organization, queue_public_id)
        for row in found.rows
        if (queue_public_id := await live.public_id(tx, row[1][1])) is not None
    ]
    return Listing(tuple(items), found.has_next, found.has_previous, found.resumes_after, found.resumes_before)


def _from_row(row: Row, organization: int, queue_public_id: str) -> StoredMessage:
    _, (stored_at, queue, seq), public_id, alias, updated_at, codec, published_at, kind, _ = row
    created_at = published_at or stored_at
    return StoredMessage(
        organization=organization,
        queue=queue,
        queue_public_id=queue_public_id,
        seq=seq,
        id=public_id,
        alias=alias or public_id,
        stored_at=created_at,
        updated_at=updated_at or created_at,
        is_json=codec == _JSON,
        waits=kind == WAITING,
    )
