"""Published messages, their deliveries and attempts. The content of a message never changes."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from discue.control.context import ControlContext, require_found
from discue.control.listeners import ListenerDetails, ListenerPath, own_listener, own_queue, public_id_of, seen_by
from discue.domain.aliases import NameFields, changed_alias
from discue.domain.attempts import AttemptDetail, StoredAttempt, decode_detail
from discue.domain.errors import malformed
from discue.domain.messages import MessageState, StoredMessage
from discue.domain.model import Delivery, Listener, Queue
from discue.domain.scopes import Access, Principal
from discue.publishing.publish import Pause
from discue.store import attempts, deliveries, feed, listeners, messages
from discue.store.deliveries import FilterDecisions
from discue.store.engine import Transaction, Work
from discue.store.pagination import FIRST_PAGE, Listing, Selection

T = TypeVar("T")

TIMELINE_ATTEMPTS: Final = 100
"""Attempts that a timeline shows."""


class MessageFields(NameFields, frozen=True):
    """The fields of a message that a request can change: its alias, which need not be unique."""


class MessageDetails(msgspec.Struct, frozen=True):
    """A message with its body and state, and its deliveries to the oldest listeners, at most 100."""

    message: StoredMessage
    state: MessageState | None
    """Not in the message: its ETag must not change with its deliveries."""
    deliveries: tuple[Delivery, ...]


async def get(control: ControlContext, principal: Principal, queue_public_id: str, message_id: str) -> MessageDetails:
    filters = FilterDecisions(asks_later=True)

    async def work(tx: Transaction) -> tuple[StoredMessage, MessageDetails]:
        message = await _own(tx, principal, "read", (queue_public_id, message_id))
        states = await messages.states(tx, (message.organization, message.queue), [message], None)
        found = await deliveries.list_of_message(tx, message, filters)
        return message, MessageDetails(message, states.get(message.seq), tuple(found))

    return await _read_with_filters(control, work, filters)


class TimelineAttempt(msgspec.Struct, frozen=True):
    """An attempt, with its stored request and response, None if they are not kept."""

    attempt: StoredAttempt
    detail: AttemptDetail | None


class MessageTimeline(msgspec.Struct, frozen=True):
    """A message, and what has happened to it at some of its listeners."""

    message: StoredMessage
    queue: Queue
    deliveries: Listing[Delivery]
    """By listener, the newest first."""
    attempts: Mapping[str, Sequence[TimelineAttempt]]
    """By listener, the oldest first. Of all attempts, the newest 100."""
    names: Mapping[str, str]
    """The aliases of the listeners; for a customer, their URLs."""


async def timeline(
    control: ControlContext, principal: Principal, path: tuple[str, ...], selection: Selection
) -> MessageTimeline:
    """Return a message with the selected deliveries and their attempts, from one snapshot.

    A customer sees only those of their own listeners. Raises NotFound for a message that was for none of these.
    """
    filters = FilterDecisions(asks_later=True)

    selection = seen_by(principal, selection)
    of_attempts = Selection(per_page=TIMELINE_ATTEMPTS, customer=selection.customer)
    is_seen = True

    async def work(tx: Transaction) -> tuple[StoredMessage, MessageTimeline]:
        nonlocal is_seen
        principal.require("messages" if principal.customer is None else "listeners", "read", path[1], path[0])
        queue = await own_queue(tx, principal, path[0])
        message = require_found(await messages.get(tx, queue, path[1]))
        found = await deliveries.page_of_message(tx, message, selection, filters)
        made = (await attempts.of_message(tx, message, of_attempts)).items
        if principal.customer is not None:
            is_meant = await deliveries.concerns(tx, message, principal.customer, filters)
            # Messages from before the listener was created reach it by a replay.
            is_seen = is_meant or bool(made)
        kept = await attempts.contents(tx, message.organization, [each.id for each in made])
        by_listener: dict[str, list[TimelineAttempt]] = {}
        for each in reversed(made):
            detail = decode_detail(kept[each.id]) if each.id in kept else None
            by_listener.setdefault(each.listener_public_id, []).append(TimelineAttempt(each, detail))
        shown = [each.listener_public_id for each in found.items]
        # A customer knows a listener by its URL: aliases are the organization's.
        names_of = listeners.aliases_of if principal.customer is None else listeners.urls_of
        names = await names_of(tx, message.organization, shown)
        return message, MessageTimeline(message, queue, found, by_listener, names)

    timeline = await _read_with_filters(control, work, filters)
    # Only now that the filters were asked is it known whether a customer may see it.
    return require_found(timeline if is_seen else None)


async def _read_with_filters(
    control: ControlContext, work: Work[tuple[StoredMessage, T]], filters: FilterDecisions
) -> T:
    """Read a message and something that depends on the filters of its listeners, which are asked with pauses."""
    message, found = await control.store.read(work)
    while filters.unasked:
        pause = Pause()
        for text in tuple(filters.unasked):
            filters.ask(message, text)
            if pause.is_due:
                await pause.take()
        message, found = await control.store.read(work)
    return found


async def page(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[StoredMessage]:
    """Return messages of all queues, with bodies if the selection says so."""
    targets = principal.targets_of("messages", "read")
    found = await control.store.search(lambda tx: messages.page(tx, principal.organization, selection, targets))
    return await _with_states(control, found, selection.listener)


async def page_of_queue(
    control: ControlContext, principal: Principal, queue: Queue | str, selection: Selection = FIRST_PAGE
) -> Listing[StoredMessage]:
    """Return messages of a queue, with bodies if the selection says so.

    `queue` is a public id, or a queue that the caller has just read.
    """
    targets = principal.targets_of("messages", "read")
    only = None if targets is not None and public_id_of(queue) in targets else targets

    async def work(tx: Transaction) -> Listing[StoredMessage]:
        return await messages.page_of_queue(tx, await own_queue(tx, principal, queue), selection, only)

    return await _with_states(control, await control.store.search(work), selection.listener)


async def _with_states(
    control: ControlContext, found: Listing[StoredMessage], listener: str | None
) -> Listing[StoredMessage]:
    """Add the state of each message, for one listener or for all of its queue."""
    of_queues: dict[int, list[StoredMessage]] = {}
    for message in found.items:
        of_queues.setdefault(message.queue, []).append(message)

    async def work(tx: Transaction) -> dict[tuple[int, int], MessageState]:
        states = {}
        for queue, those in of_queues.items():
            log = (those[0].organization, queue)
            of_queue = await messages.states(tx, log, those, listener, queues=len(of_queues))
            states.update({(queue, seq): state for seq, state in of_queue.items()})
        return states

    states = await control.store.search(work)
    return found.with_items(
        msgspec.structs.replace(message, state=states.get((message.queue, message.seq))) for message in found.items
    )


async def change(
    control: ControlContext, principal: Principal, queue_public_id: str, message_id: str, *, fields: MessageFields
) -> StoredMessage:
    """Change the alias of a message. Raises Unprocessable if it is invalid."""
    now = control.clock.now()

    async def work(tx: Transaction) -> StoredMessage:
        stored = control.require_match(await _own(tx, principal, "write", (queue_public_id, message_id)))
        alias = changed_alias(fields, stored.alias)
        await messages.set_alias(tx, stored, alias, now)
        return msgspec.structs.replace(stored, alias=alias, updated_at=now)

    # Not `control.write`: no worker caches the alias, and it need not be unique.
    return await control.store.write_exclusively(work)


async def delete(control: ControlContext, principal: Principal, queue_public_id: str, message_id: str) -> None:
    """Delete a message. It is not delivered any more: lanes that have buffered it read the log again."""

    async def work(tx: Transaction) -> None:
        stored = control.require_match(await _own(tx, principal, "write", (queue_public_id, message_id)))
        await messages.delete(tx, stored)
        # Lanes may hold the message in memory. The entry is for the queue: a lane reads its log again as a whole.
        await feed.record(tx, "message", stored.organization, stored.queue)

    await control.write(work)


async def _own(tx: Transaction, principal: Principal, access: Access, path: tuple[str, ...]) -> StoredMessage:
    queue_public_id, message_id = path
    principal.require("messages", access, message_id, queue_public_id)
    return require_found(await messages.get(tx, await own_queue(tx, principal, queue_public_id), message_id))


class AttemptDetails(msgspec.Struct, frozen=True):
    """An attempt, and its stored request and response, None if they are not kept."""

    attempt: StoredAttempt
    detail: AttemptDetail | None


async def page_of_deliveries(
    control: ControlContext, principal: Principal, path: tuple[str, ...], selection: Selection
) -> Listing[Delivery]:
    """Return the deliveries of a message, one for each listener that existed when it was stored."""

    filters = FilterDecisions(asks_later=True)

    async def work(tx: Transaction) -> tuple[StoredMessage, Listing[Delivery]]:
        message = await _own(tx, principal, "read", path)
        return message, await deliveries.page_of_message(tx, message, selection, filters)

    return await _read_with_filters(control, work, filters)


async def page_of_attempts(
    control: ControlContext, principal: Principal, path: tuple[str, ...], selection: Selection
) -> Listing[StoredAttempt]:
    """Return attempts of a message. Raises BadRequest if the selected listener does not belong to the queue."""

    async def work(tx: Transaction) -> Listing[StoredAttempt]:
        message = await _own(tx, principal, "read", path)
        if selection.listener is not None:
            listener = await listeners.get(tx, message.organization, selection.listener)
            if listener is None or listener.queue != message.queue:
                rule = "must be the id of a listener of this queue"
                raise malformed("?listener", rule, code="invalid_parameter")
        return await attempts.of_message(tx, message, selection)

    return await control.store.read(work)


async def page_of_listener_attempts(
    control: ControlContext, principal: Principal, at: ListenerPath | ListenerDetails, selection: Selection
) -> Listing[StoredAttempt]:
    async def work(tx: Transaction) -> Listing[StoredAttempt]:
        return await attempts.of_listener(tx, await own_listener(tx, principal, "read", at), selection)

    return await control.store.read(work)


async def get_attempt(
    control: ControlContext, principal: Principal, path: tuple[str, ...], public_id: str
) -> AttemptDetails:
    async def work(tx: Transaction) -> AttemptDetails:
        return await _details(tx, await _own(tx, principal, "read", path), public_id)

    return await control.store.read(work)


async def get_listener_attempt(
    control: ControlContext, principal: Principal, path: tuple[str, ...], public_id: str
) -> AttemptDetails:
    async def work(tx: Transaction) -> AttemptDetails:
        return await _details(tx, await own_listener(tx, principal, "read", path), public_id)

    return await control.store.read(work)


async def _details(tx: Transaction, of: StoredMessage | Listener, public_id: str) -> AttemptDetails:
    attempt = require_found(await attempts.get(tx, of.organization, public_id, of))
    content = await attempts.content(tx, of.organization, public_id)
    return AttemptDetails(attempt, decode_detail(content) if content is not None else None)
