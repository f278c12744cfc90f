"""Messages as the API shows them: one by id, or lists of a queue, an organization or a listener."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from discue.domain.errors import BadRequest, Fault
from discue.domain.messages import MessageState, StoredMessage, decode_options
from discue.domain.model import Queue
from discue.domain.reservations import BYTES_A_PAGE, SMALL_READ_BYTES
from discue.store import delayed_messages, message_filters, message_log, queues
from discue.store.across_queues import AcrossQueues, ids_of_times
from discue.store.engine import Row, Transaction
from discue.store.log_bounds import PageBounds, bounds_of, span_of_times
from discue.store.merged_logs import MergedLogs
from discue.store.message_log import (
    BODY,
    SIZE_OF_DATA,
    WAITING,
    LiveQueues,
    MessageRow,
    OneLog,
    bodies_by_seq,
    rows_by_id,
    rows_named_by_id,
)
from discue.store.message_states import LISTENERS_AT_MOST, LISTENERS_OF_ANY_QUEUE, states_for, states_of_queues
from discue.store.pagination import (
    LARGEST,
    MERGED_ROWS,
    Bounds,
    InMemoryRows,
    Listing,
    Merged,
    Part,
    RowsInOrder,
    Selection,
    Source,
    Span,
    browse,
    intersect,
    too_far,
)
from discue.store.recipients import Recipient, find_recipient_within

_MESSAGE: Final = f"""
    l.seq, l.alias, coalesce(l.published_at, l.stored_at), l.updated_at, l.codec, {SIZE_OF_DATA}, l.expires_at,
    l.extra, l.kind, l.origin_seq, CASE WHEN {SIZE_OF_DATA} <= {SMALL_READ_BYTES} THEN {BODY} END"""
"""Includes a small body. A larger body is read once its size is reserved."""
_GET: Final = f"SELECT {_MESSAGE} FROM log l WHERE l.organization = $1 AND l.id = $2 AND l.queue = $3"
_FIND: Final = f"""
    SELECT {queues.OF_QUEUE}, {_MESSAGE} FROM queue
    JOIN log l ON l.organization = queue.organization AND l.queue = queue.id
    WHERE queue.organization = $1 AND queue.public_id = $2 AND queue.deleted_at IS NULL AND l.id = $3"""
_SET_ALIAS: Final = """
    UPDATE log SET alias = $1, updated_at = $2 WHERE organization = $3 AND queue = $4 AND seq = $5"""
_DELETE: Final = "DELETE FROM log WHERE organization = $1 AND queue = $2 AND seq = $3 RETURNING size, body_id"
# Lanes drop the deliveries of a missing message; those that wait for a retry do so now.
_MAKE_DUE: Final = """
    UPDATE delivery SET due_at = 0 WHERE organization = $1 AND queue = $2 AND seq = $3 AND state = 'retry'"""


async def get(tx: Transaction, queue: Queue, public_id: str) -> StoredMessage | None:
    """Read a message, with its body if that is small."""
    row = await tx.row(_GET, queue.organization, public_id, queue.id)
    return _message(row, queue, public_id) if row is not None else None


async def find(
    tx: Transaction, organization: int, queue_public_id: str, public_id: str
) -> tuple[Queue, StoredMessage] | None:
    """Read a message, with its body if that is small, and its queue."""
    row = await tx.row(_FIND, organization, queue_public_id, public_id)
    if row is None:
        return None
    queue = queues.from_row(row[: queues.OF_QUEUE_WIDTH])
    return queue, _message(row[queues.OF_QUEUE_WIDTH :], queue, public_id)


def _message(row: Row, queue: Queue, public_id: str) -> StoredMessage:
    seq, alias, stored_at, updated_at, codec, size, expires_at, extra, kind, origin_seq, body = row
    return StoredMessage(
        organization=queue.organization,
        queue=queue.id,
        queue_public_id=queue.public_id,
        seq=seq,
        id=public_id,
        alias=alias or public_id,
        stored_at=stored_at,
        updated_at=updated_at or stored_at,
        codec=codec,
        body=None if body is None else bytes(body),
        expires_at=expires_at or 0,
        options=decode_options(extra),
        is_delayed=kind == WAITING,
        origin_seq=origin_seq or seq,
        size=size,
    )


async def page_of_queue(
    tx: Transaction, queue: Queue, selection: Selection, only: Collection[str] | None = None
) -> Listing[StoredMessage]:
    """Read a page of the queue's messages, or of those in `only` (ids). Bodies are read if the selection says so.

    Raises BadRequest if the selection names a listener that is not one of the queue's.
    """
    log = (queue.organization, queue.id)
    if selection.listener is not None:
        return await _page_for_listener(tx, queue.organization, selection, only, queue=queue.id)
    if message_filters.has_filters(selection):
        source, bounds = await _candidates(tx, log, selection, only), await bounds_of(tx, *log, selection)
        found = await message_filters.page_of_queue(tx, log, source, selection, bounds=bounds)
    else:
        found = await browse(tx, await _of_log(tx, *log, selection, only=only), selection)
    return await _listing(tx, found, LiveQueues(queue.organization, {queue.id: queue.public_id}), selection)


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[StoredMessage]:
    """Read a page of the organization's messages, or of those in `only`: ids of messages and of queues.

    Raises BadRequest if the selection names a listener that is not one of the organization's.
    """
    if selection.listener is not None:
        return await _page_for_listener(tx, organization, selection, only)
    live = LiveQueues(organization)
    if message_filters.has_filters(selection):
        found = await _filtered(tx, live, selection, only)
    elif only is None:
        found = await browse(tx, await _of_all(tx, organization, live, selection), selection)
    else:
        found = await browse(tx, await _of_targets(tx, organization, live, selection, only=only), selection)
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
    """Delete the message; lanes settle its seq as a hole in the log. Returns False if it was deleted already."""
    key = (message.organization, message.queue, message.seq)
    if message.is_delayed:
        await delayed_messages.cancel_delayed(tx, key[:2], message.seq)
    await tx.execute(_MAKE_DUE, *key)
    return await message_log.release_bodies(tx, message.organization, await tx.rows(_DELETE, *key)) == 1


async def _listing(
    tx: Transaction, found: Listing[MessageRow], live: LiveQueues, selection: Selection
) -> Listing[StoredMessage]:
    organization = live.organization
    await live.learn(tx, {row.queue for row in found.items})
    items = [
        _from_row(row, organization, queue_public_id)
        for row in found.items
        if (queue_public_id := await live.public_id(tx, row.queue)) is not None
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
    _, stored_at, queue, seq, public_id, alias, updated_at, codec, published_at, kind, origin_seq, size, extra = row
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
        codec=codec,
        options=decode_options(extra),
        is_delayed=kind == WAITING,
        origin_seq=origin_seq or seq,
        size=size,
    )


async def _of_log(
    tx: Transaction,
    organization: int,
    queue: int,
    selection: Selection,
    *,
    only: Collection[str] | None = None,
    floor: int = 0,
    times: Span | None = None,
) -> Source[MessageRow]:
    """Return the messages of one queue that pass the filters: above a seq, or among the ids of `only`.

    `times` are the seqs whose messages pass the time filters, if they are known.
    """
    times = times or await span_of_times(tx, organization, queue, selection)
    within = intersect((floor, LARGEST), times)
    log = OneLog(organization, queue, within, selection.alias, floor=floor)
    if only is not None:
        return InMemoryRows(_passing(await rows_by_id(tx, organization, only), selection, queue, floor), log.locate)
    called = _passing(await rows_named_by_id(tx, organization, selection.alias), selection, queue, floor)
    return Merged([log, InMemoryRows(called, log.locate)], log.locate) if called else log


async def _of_all(tx: Transaction, organization: int, live: LiveQueues, selection: Selection) -> Source[MessageRow]:
    """Return the messages of all queues that pass the filters."""
    everything = AcrossQueues(organization, live, selection)
    called = _passing(await rows_named_by_id(tx, organization, selection.alias), selection)
    by_id = [row._replace(key=row.id) for row in await _living(tx, called, live)]
    if not by_id:
        return everything
    return Merged([everything, InMemoryRows(by_id, everything.locate)], everything.locate)


async def _of_targets(
    tx: Transaction, organization: int, live: LiveQueues, selection: Selection, *, only: Collection[str]
) -> Source[MessageRow]:
    """Return the messages that pass the filters, in the queues or among the messages that `only` names."""
    # An id does not say whether it is that of a queue or of a message: both are looked up.
    found = set(await queues.ids_of(tx, organization, only))
    await live.learn(tx, found)

    async def listed(tx: Transaction, rows: Sequence[MessageRow]) -> list[MessageRow]:
        passing = await _living(tx, _passing(rows, selection), live)
        return [row for row in passing if row.id in only or row.queue in found]

    logs = await MergedLogs.of(tx, organization, sorted(found), selection)
    named = await rows_named_by_id(tx, organization, selection.alias)
    rows = await listed(tx, [*await rows_by_id(tx, organization, only), *named])
    rows = [row._replace(key=row.place) for row in rows]
    parts: list[RowsInOrder[MessageRow]] = [InMemoryRows(rows, logs.locate), logs]
    merged = Merged(parts, logs.locate)
    return _EachOnce(organization, merged, len(found) + 1, listed)


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
        raise _no_listener(f"must be the id of a listener{' of this queue' if queue else ''}")
    of, bounds = found
    rows = await _of_recipient(tx, of, bounds, selection, only=only)
    page = await _listing(tx, rows, LiveQueues(organization, {of.queue: of.queue_public_id}), selection)
    states = {} if selection.state is not None else await states_for(tx, of, page.items)
    return page.with_items(
        msgspec.structs.replace(message, state=states.get(message.seq, selection.state)) for message in page.items
    )


async def _of_recipient(
    tx: Transaction, of: Recipient, bounds: PageBounds, selection: Selection, *, only: Collection[str] | None
) -> Listing[MessageRow]:
    """Read messages that were stored for a listener, in a state if the selection has one."""
    if only is not None and of.queue_public_id in only:
        only = None
    if not message_filters.has_filters(selection):
        listed = await _of_log(
            tx, of.organization, of.queue, selection, only=only, floor=of.start_seq, times=bounds.within
        )
        return await browse(tx, listed, selection)
    log = (of.organization, of.queue)
    source = await _candidates(tx, log, selection, only)
    return await message_filters.page_of_queue(tx, log, source, selection, bounds=bounds, of=of)


async def _candidates(
    tx: Transaction, log: tuple[int, int], selection: Selection, only: Collection[str] | None
) -> RowsInOrder[MessageRow] | None:
    """Return where to search in a queue: among some ids, under an alias, or under a key. None: anywhere."""
    organization, queue = log
    whole = OneLog(organization, queue, alias=selection.alias)
    if only is not None:
        return InMemoryRows(_passing(await rows_by_id(tx, organization, only), selection, queue), whole.locate)
    if selection.alias is not None:
        called = _passing(await rows_named_by_id(tx, organization, selection.alias), selection, queue)
        return Merged([whole, InMemoryRows(called, whole.locate)], whole.locate)
    return None if selection.key is None else message_filters.WithKey(organization, queue, selection.key)


async def _filtered(
    tx: Transaction, live: LiveQueues, selection: Selection, only: Collection[str] | None
) -> Listing[MessageRow]:
    """Read messages of all queues by key, header or state; of `only`, ids of messages and of queues."""
    found = set() if only is None else set(await queues.ids_of(tx, live.organization, only))

    def passes(row: MessageRow) -> bool:
        is_listed = only is None or row.id in only or row.queue in found
        return is_listed and bool(_passing([row], selection))

    within = ids_of_times(selection)
    return await message_filters.page_of_all(tx, live, selection, within=within, passes=passes)


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


async def _living(tx: Transaction, rows: Sequence[MessageRow], live: LiveQueues) -> list[MessageRow]:
    return [row for row in rows if await live.public_id(tx, row.queue) is not None]


def _no_listener(rule: str) -> BadRequest:
    return BadRequest(
        f"The query parameter listener {rule}.", code="invalid_parameter", faults=(Fault("?listener", rule),)
    )


_DEEPEST: Final = 1_000
"""A numbered page looks up every message before it."""

_Listed = Callable[[Transaction, Sequence[MessageRow]], Awaitable[list[MessageRow]]]
"""Returns which of some rows the list can contain."""


class _EachOnce:
    """A list of several logs that shows one copy of each message: that in the queue that was made last."""

    def __init__(self, organization: int, source: Source[MessageRow], logs: int, listed: _Listed) -> None:
        self._organization = organization
        self._source = source
        self._logs = logs
        self._listed = listed

    async def locate(self, tx: Transaction, public_id: str) -> Bounds:
        row = (await self._shown(tx, [public_id])).get(public_id)
        return (row.place, row.place) if row is not None else await self._source.locate(tx, public_id)

    async def read(self, tx: Transaction, part: Part) -> Sequence[MessageRow]:
        if part.offset > _DEEPEST or part.offset * self._logs > MERGED_ROWS:
            raise too_far()
        found: list[MessageRow] = []
        wanted = part.offset + part.limit
        some = part._replace(limit=wanted, offset=0)
        while True:
            # Dropped copies leave the page short, so reading goes on until it is full.
            rows = await self._source.read(tx, some)
            shown = await self._shown(tx, [row.id for row in rows])
            found += [row for row in rows if row.id not in shown or shown[row.id].place == row.place]
            if len(found) >= wanted or len(rows) < wanted:
                return found[part.offset : wanted]
            some = Part.beyond((rows[-1].key, rows[-1].key), wanted, newest_first=part.newest_first)

    async def _shown(self, tx: Transaction, public_ids: Collection[str]) -> dict[str, MessageRow]:
        """Return the copy that the list shows, for each of these messages."""
        shown: dict[str, MessageRow] = {}
        if public_ids:
            for row in await self._listed(tx, await rows_by_id(tx, self._organization, public_ids)):
                known = shown.get(row.id)
                if known is None or known.queue < row.queue:
                    shown[row.id] = row
        return shown
