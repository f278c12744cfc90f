"""Messages as the API shows them: one by id, or lists of a queue, an organization or a listener."""

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from discue.domain.errors import malformed
from discue.domain.messages import MessageState, StoredMessage, decode_options
from discue.domain.model import Queue
from discue.domain.reservations import BYTES_A_PAGE, SMALL_READ_BYTES
from discue.store import direct_appends, message_filters, message_log, queues
from discue.store.across_queues import AcrossQueues, page_of_matching
from discue.store.engine import QueueKey, Transaction
from discue.store.message_log import (
    BODY,
    SIZE_OF_DATA,
    LiveQueues,
    MessageRow,
    OneLog,
    PageBounds,
    bodies_by_seq,
    bounds_of,
    listed_columns,
    rows_by_id,
    rows_named_by_id,
)
from discue.store.pagination import (
    InMemoryRows,
    Listing,
    Merged,
    RowsInOrder,
    Selection,
    Source,
    browse,
)
from discue.store.recipients import (
    LISTENERS_AT_MOST,
    LISTENERS_OF_ANY_QUEUE,
    Recipient,
    find_recipient_within,
    states_for,
    states_of_queues,
)
from discue.store.tables import rows_among

# Includes a small body. A larger body is read once its size is reserved.
_FIND: Final = f"""
    SELECT {queues.OF_QUEUE}, {listed_columns("l")}, l.expires_at,
        CASE WHEN {SIZE_OF_DATA} <= {SMALL_READ_BYTES} THEN {BODY} END
    FROM queue
    JOIN log l ON l.organization = queue.organization AND l.queue = queue.id
    WHERE queue.organization = $1 AND queue.public_id = $2 AND queue.deleted_at IS NULL AND l.id = $3"""
_SET_ALIAS: Final = """
    UPDATE log SET alias = $1, updated_at = $2 WHERE organization = $3 AND queue = $4 AND seq = $5"""
_DELETE: Final = "DELETE FROM log WHERE organization = $1 AND queue = $2 AND seq IN ({}) RETURNING size, body_id"
# Lanes drop the deliveries of a missing message; those that wait for a retry do so now.
_MAKE_DUE: Final = """
    UPDATE delivery SET due_at = 0 WHERE organization = $1 AND queue = $2 AND seq IN ({})
    AND state = 'retry' RETURNING seq"""


async def find(
    tx: Transaction, organization: int, queue_public_id: str, public_id: str
) -> tuple[Queue, StoredMessage] | None:
    """Read a message, with its body if that is small, and its queue."""
    row = await tx.row(_FIND, organization, queue_public_id, public_id)
    if row is None:
        return None
    queue = queues.from_row(row[: queues.OF_QUEUE_WIDTH])
    *listed, expires_at, body = row[queues.OF_QUEUE_WIDTH :]
    found = _from_row(MessageRow._make(listed), organization, queue_public_id)
    body = None if body is None else bytes(body)
    return queue, msgspec.structs.replace(found, expires_at=expires_at or 0, body=body)


async def page_of_queue(
    tx: Transaction, queue: Queue, selection: Selection, only: Collection[str] | None = None
) -> Listing[StoredMessage]:
    """Read a page of the queue's messages, or of those in `only` (ids). Bodies are read if the selection says so.

    Raises BadRequest if the selection names a listener that is not one of the queue's.
    """
    log = (queue.organization, queue.id)
    if selection.listener is not None:
        return await _page_for_listener(tx, queue.organization, selection, only, queue=queue.id)
    found = await _rows(tx, log, selection, only, bounds=await bounds_of(tx, *log, selection))
    return await _listing(tx, found, LiveQueues(queue.organization, {queue.id: queue.public_id}), selection)


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[StoredMessage]:
    """Read a page of the organization's messages, or of those in `only`: ids of messages and of queues.

    Raises BadRequest if the selection names a listener that is not one of the organization's.
    """
    if selection.listener is not None:
        return await _page_for_listener(tx, organization, selection, only)
    if only is not None and len(only) == 1 and (queue := await queues.get(tx, organization, *only)) is not None:
        # Its log has no messages of other queues, of which there may be millions.
        return await page_of_queue(tx, queue, selection)
    live = LiveQueues(organization)
    # An id does not say whether it is that of a queue or of a message: both are looked up.
    chosen = frozenset(() if only is None else await queues.ids_of(tx, organization, only))
    if chosen or message_filters.has_filters(selection):
        found = await page_of_matching(tx, live, selection, only=only, chosen=chosen)
    else:
        found = await browse(tx, await _of_all(tx, live, selection, only), selection)
    return await _listing(tx, found, live, selection)


async def copies_of(tx: Transaction, organization: int, public_id: str, limit: int) -> tuple[StoredMessage, ...]:
    """Read a message in the queues that have it, without bodies: a topic routes it into several."""
    rows, live = await rows_by_id(tx, organization, [public_id]), LiveQueues(organization)
    found = Listing(tuple(rows[:limit]), has_next=False, has_previous=False)
    return (await _listing(tx, found, live, Selection())).items


async def states_of_all(
    tx: Transaction, organization: int, found: Mapping[int, Sequence[StoredMessage]]
) -> Mapping[tuple[int, int], MessageState]:
    """Read the states by queue and seq of messages of several queues, as far as reading them takes not too long."""
    at_most = max(LISTENERS_AT_MOST // max(len(found), 1), LISTENERS_OF_ANY_QUEUE)
    of_queues = await states_of_queues(tx, organization, found, listeners_at_most=at_most)
    return {
        (queue, seq): state
        for queue, read in of_queues.items()
        if read is not None
        for seq, state in read.states.items()
    }


async def set_alias(tx: Transaction, message: StoredMessage, alias: str, now: int) -> bool:
    """Set the alias. Returns False if the message was deleted."""
    values = (alias, now, message.organization, message.queue, message.seq)
    return await tx.execute(_SET_ALIAS, *values) == 1


async def delete(tx: Transaction, message: StoredMessage) -> bool:
    """Delete a message. Returns False if it was deleted already."""
    return await delete_at(tx, (message.organization, message.queue), [message.seq]) == 1


async def delete_at(tx: Transaction, queue: QueueKey, seqs: Sequence[int]) -> int:
    """Delete messages; lanes settle their seqs as holes in the log. Returns how many were still there."""
    await direct_appends.cancel_delayed(tx, queue, seqs)
    await rows_among(tx, _MAKE_DUE, queue, seqs)
    return await message_log.release_bodies(tx, queue[0], await rows_among(tx, _DELETE, queue, seqs))


async def _listing(
    tx: Transaction, found: Listing[MessageRow], live: LiveQueues, selection: Selection
) -> Listing[StoredMessage]:
    organization = live.organization
    await live.learn(tx, {row.queue for row in found.items})
    items = [
        _from_row(row, organization, queue_public_id)
        for row in found.items
        if (queue_public_id := live.public_id(row.queue)) is not None
    ]
    return found.with_items(await _with_bodies(tx, organization, items) if selection.data == "true" else items)


async def _with_bodies(tx: Transaction, organization: int, found: Sequence[StoredMessage]) -> list[StoredMessage]:
    """Return messages with their bodies, except those that exceed what is left of the limit of a page."""
    seqs: dict[int, list[int]] = {}
    left = BYTES_A_PAGE
    for message in found:
        if message.size <= left:
            left -= message.size
            seqs.setdefault(message.queue, []).append(message.seq)
    bodies = {
        (queue, seq): bytes(body)
        for queue, among in seqs.items()
        for seq, body in (await bodies_by_seq(tx, (organization, queue), among)).items()
    }
    return [msgspec.structs.replace(each, body=bodies.get((each.queue, each.seq))) for each in found]


def _from_row(row: MessageRow, organization: int, queue_public_id: str) -> StoredMessage:
    return StoredMessage(
        organization=organization,
        queue=row.queue,
        queue_public_id=queue_public_id,
        seq=row.seq,
        id=row.id,
        alias=row.name,
        stored_at=row.created_at,
        updated_at=row.updated_at or row.created_at,
        codec=row.codec,
        options=decode_options(row.extra),
        is_delayed=row.is_delayed,
        origin_seq=row.origin_seq,
        size=row.size,
    )


async def _of_log(
    tx: Transaction,
    log: tuple[int, int],
    selection: Selection,
    only: Collection[str] | None,
    *,
    bounds: PageBounds,
    floor: int = 0,
) -> Source[MessageRow]:
    """Return the messages of one queue that pass the filters: above a seq, or among the ids of `only`."""
    organization, queue = log
    source = OneLog(log, bounds, selection.alias, floor=floor)
    if only is not None:
        rows = await rows_by_id(tx, organization, only)
        return InMemoryRows(_passing(rows, selection, queue, floor), source.locate)
    called = _passing(await rows_named_by_id(tx, organization, selection.alias), selection, queue, floor)
    return Merged(source, called) if called else source


async def _of_all(
    tx: Transaction, live: LiveQueues, selection: Selection, only: Collection[str] | None
) -> Source[MessageRow]:
    """Return the messages of all queues that pass the filters, or those with the ids of `only`."""
    source = AcrossQueues(live, selection)
    if only is None:
        rows = await rows_named_by_id(tx, live.organization, selection.alias)
    else:
        rows = await rows_by_id(tx, live.organization, only)
    await live.learn(tx, {row.queue for row in rows})
    found = [row for row in _passing(rows, selection) if live.public_id(row.queue) is not None]
    # If a message has several copies, the copy in its newest queue is shown.
    by_id = {row.id: row._replace(key=row.id) for row in sorted(found, key=attrgetter("queue"))}
    if only is not None:
        return InMemoryRows(list(by_id.values()), source.locate)
    return Merged(source, list(by_id.values())) if by_id else source


async def _page_for_listener(
    tx: Transaction,
    organization: int,
    selection: Selection,
    only: Collection[str] | None,
    *,
    queue: int | None = None,
) -> Listing[StoredMessage]:
    """Read messages that were stored for a listener, with their states. Raises BadRequest unless it is in `queue`."""
    found = await find_recipient_within(tx, organization, selection.listener or "", selection)
    if found is None or queue not in {None, found[0].queue}:
        raise malformed(
            "?listener", f"must be the id of a listener{' of this queue' if queue else ''}", code="invalid_parameter"
        )
    of, bounds = found
    if only is not None and of.queue_public_id in only:
        only = None
    rows = await _rows(tx, (organization, of.queue), selection, only, bounds=bounds, of=of)
    page = await _listing(tx, rows, LiveQueues(organization, {of.queue: of.queue_public_id}), selection)
    states = {} if selection.state is not None else await states_for(tx, of, page.items)
    return page.with_items(
        msgspec.structs.replace(message, state=states.get(message.seq, selection.state)) for message in page.items
    )


async def _rows(
    tx: Transaction,
    log: tuple[int, int],
    selection: Selection,
    only: Collection[str] | None,
    *,
    bounds: PageBounds,
    of: Recipient | None = None,
) -> Listing[MessageRow]:
    """Read messages of a queue, or those that were stored for a listener.

    With a key, a header or a state, searches the given ids, the messages with the alias or the key, or all.
    """
    if not message_filters.has_filters(selection):
        floor = 0 if of is None else of.start_seq
        return await browse(tx, await _of_log(tx, log, selection, only, bounds=bounds, floor=floor), selection)
    source: RowsInOrder[MessageRow] | None = None
    if only is not None or selection.alias is not None:
        source = await _of_log(tx, log, selection, only, bounds=bounds)
    elif selection.key is not None:
        source = message_filters.WithKey(*log, selection.key)
    return await message_filters.page_of_queue(tx, log, source, selection, bounds=bounds, of=of)


def _passing(
    rows: Sequence[MessageRow], selection: Selection, queue: int | None = None, floor: int = 0
) -> list[MessageRow]:
    """Return the rows that pass the filters, and are in the queue if one is given."""
    return [
        row
        for row in rows
        if queue in (None, row.queue)
        and row.origin_seq > floor
        and selection.alias in (None, row.name)
        and selection.admits(row.created_at)
    ]
