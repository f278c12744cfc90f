"""Published messages, their deliveries and attempts, and missed messages. The content of a message never changes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar, cast

import msgspec

from discue.control.context import ControlContext, reading, require_found, searching
from discue.control.listeners import (
    ListenerDetails,
    ListenerPath,
    own_listener,
    own_queue,
    own_with_facts,
    recipient_of,
    seen_by,
    targets_in,
)
from discue.domain.aliases import NameFields, changed_alias
from discue.domain.attempts import AttemptDetail, StoredAttempt, decode_detail
from discue.domain.errors import Forbidden, malformed
from discue.domain.message_data import Codec
from discue.domain.messages import MessageState, StoredMessage
from discue.domain.model import Delivery, Listener, Queue
from discue.domain.scopes import Access, Principal
from discue.domain.waiting import SendingDefaults
from discue.store import attempts, deliveries, feed, listeners, message_log, messages, missed, missed_groups
from discue.store.attempts import Glance, MessageKey
from discue.store.deliveries import FilterDecisions, MessageFacts
from discue.store.engine import Transaction
from discue.store.missed_groups import MissedGroup
from discue.store.missed_scan import MissedMessage
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.time_slice import ON_THREAD_BYTES, TimeSlice

T = TypeVar("T")

Reserve = Callable[[int, Codec], Awaitable[None]]
"""Reserves a read of data of a given size, and the response that shows it. Raises Overloaded."""

_FAILING: Final = ("retrying", "missed")

TIMELINE_ATTEMPTS: Final = 20


class MessageDetails(msgspec.Struct, frozen=True):
    """A message with its body and state, and its deliveries to the oldest listeners, at most 100."""

    message: StoredMessage
    state: MessageState | None
    """Not in the message: its ETag must not change with its deliveries."""
    deliveries: tuple[Delivery, ...]


async def get(
    control: ControlContext, principal: Principal, queue_public_id: str, message_id: str, *, reserve: Reserve
) -> MessageDetails:
    """Return a message with its body. `reserve` is called with the size of the body before that is read."""
    filters = FilterDecisions(asks_later=True)

    async def work(tx: Transaction) -> MessageDetails:
        message = await _own(tx, principal, "read", (queue_public_id, message_id))
        states = await messages.states_of_all(tx, message.organization, {message.queue: [message]})
        facts = await deliveries.read_facts(tx, message, filters, _defaults(control))
        found = await deliveries.list_of_message(tx, facts)
        return MessageDetails(message, states.get((message.queue, message.seq)), tuple(found))

    details = await control.store.read(work)
    message = await _with_body(control, details.message, reserve)
    await _ask(filters, message)
    shown = tuple(map(filters.applied, details.deliveries))
    return msgspec.structs.replace(details, message=message, deliveries=shown)


class AttemptDetails(msgspec.Struct, frozen=True):
    """An attempt, and its stored request and response, None if they are not kept."""

    attempt: StoredAttempt
    detail: AttemptDetail | None


class MessageTimeline(msgspec.Struct, frozen=True):
    """A message, and what has happened to it at some of its listeners."""

    message: StoredMessage
    queue: Queue
    deliveries: Listing[Delivery]
    """By listener, the newest first, without those in `attention`."""
    attempts: Mapping[str, Sequence[AttemptDetails]]
    """By listener, the oldest first. Of all these attempts, the newest 20."""
    names: Mapping[str, str]
    """The aliases of the listeners; for a customer, their URLs, or their ids if they have none."""
    attention: tuple[Delivery, ...] = ()
    """The deliveries that need attention, on the first of several pages: missed first, then failing, then waiting."""
    urls: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The URLs of listeners in push mode, by public id. Listeners in pull mode are left out."""

    @property
    def all_deliveries(self) -> tuple[Delivery, ...]:
        return (*self.attention, *self.deliveries.items)


async def timeline(
    control: ControlContext, principal: Principal, path: tuple[str, ...], selection: Selection, *, reserve: Reserve
) -> MessageTimeline:
    """Return a message with the selected deliveries and their attempts, from one snapshot, and then its body.

    `reserve` is called with the size of the body before that is read. A customer sees only deliveries to their own
    listeners. Raises NotFound for a message without such a delivery.
    """
    filters = FilterDecisions(asks_later=True)
    selection = seen_by(principal, selection)
    customer = principal.customer

    async def work(tx: Transaction) -> tuple[MessageTimeline, Sequence[str] | None]:
        principal.require("messages" if customer is None else "listeners", "read", path[1], path[0])
        queue, message = require_found(await messages.find(tx, principal.organization, path[0], path[1]))
        rows = await attempts.rows_of_message(tx, message, customer)
        last = deliveries.last_of(rows)
        facts = MessageFacts(message, last, filters, _defaults(control))
        first, found = await deliveries.timeline_page(tx, facts, selection)
        named = (*first, *found.items)
        shown_ids = {each.listener: each.delivery.listener_public_id for each in named}
        made = attempts.newest_of(rows, message, shown_ids, TIMELINE_ATTEMPTS)
        kept = await attempts.contents(tx, message.organization, [each.id for each in made])
        by_listener: dict[str, list[AttemptDetails]] = {}
        for each in made:
            detail = decode_detail(kept[each.id]) if each.id in kept else None
            by_listener.setdefault(each.listener_public_id, []).append(AttemptDetails(each, detail))
        settings: Sequence[str] | None = None
        # Attempts are shown whatever the filters say: a replay sends messages from before the listener was created.
        if customer is not None and not rows:
            settings = await deliveries.settings_of_customer(tx, message, customer, filters)
        # A customer knows a listener by its URL: aliases are the organization's.
        names = {
            each.delivery.listener_public_id: each.alias
            if customer is None
            else each.notify_url or each.delivery.listener_public_id
            for each in named
        }
        shown = found.with_items(each.delivery for each in found.items)
        attention = tuple(each.delivery for each in first)
        urls = {each.delivery.listener_public_id: each.notify_url for each in named if each.notify_url}
        return MessageTimeline(message, queue, shown, by_listener, names, attention, urls), settings

    timeline, settings = await control.store.read(work)
    message = await _with_body(control, timeline.message, reserve)
    await _ask(filters, message)
    is_for_caller = settings is None or any(not filters.rejects(message, each) for each in settings)
    require_found(timeline if is_for_caller else None)
    shown = timeline.deliveries.with_items(map(filters.applied, timeline.deliveries.items))
    return msgspec.structs.replace(timeline, message=message, deliveries=shown)


def _defaults(control: ControlContext) -> SendingDefaults:
    settings = control.settings
    return SendingDefaults(settings.listener_max_in_flight, settings.delivery_timeout_seconds)


async def _ask(filters: FilterDecisions, message: StoredMessage) -> None:
    """Let the filters decide that a read has noted, with pauses: there may be many."""
    time_slice = TimeSlice()
    for criteria in tuple(filters.unasked):
        filters.ask(message, criteria)
        # The slowest filter on the longest message takes many times as long as a time slice.
        await time_slice.pause_if_over(rests=True)


async def _with_body(control: ControlContext, message: StoredMessage, reserve: Reserve) -> StoredMessage:
    """Return a message with its body. Raises NotFound if it was deleted meanwhile."""
    if message.body is not None:
        return message
    await reserve(message.size, message.codec)
    read = control.store.load if message.size > ON_THREAD_BYTES else control.store.read
    work = partial(message_log.bodies_by_seq, queue=(message.organization, message.queue), seqs=[message.seq])
    body = require_found((await read(work)).get(message.seq))
    return msgspec.structs.replace(message, body=bytes(body))


async def page(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[StoredMessage]:
    """Return messages of all queues, with bodies if the selection says so."""
    targets = principal.targets_of("messages", "read")
    found = await control.store.search(lambda tx: messages.page(tx, principal.organization, selection, targets))
    return await _with_states(control, found, selection)


async def page_of_queue(
    control: ControlContext, principal: Principal, queue: Queue | str, selection: Selection = FIRST_PAGE
) -> Listing[StoredMessage]:
    """Return messages of a queue, with bodies if the selection says so.

    `queue` is a public id, or a queue that the caller has just read.
    """
    only = targets_in(principal, "messages", queue)

    async def work(tx: Transaction) -> Listing[StoredMessage]:
        return await messages.page_of_queue(tx, await own_queue(tx, principal, queue), selection, only)

    return await _with_states(control, await control.store.search(work), selection)


async def _with_states(
    control: ControlContext, found: Listing[StoredMessage], selection: Selection
) -> Listing[StoredMessage]:
    """Add the state of each message for all listeners of its queue, unless it is known for the one of the selection."""
    if selection.listener is not None or not found.items:
        return found
    if selection.state is not None:
        # All have the state that the page was just searched for.
        given = cast("MessageState", selection.state)
        return found.with_items(msgspec.structs.replace(message, state=given) for message in found.items)
    of_queues: dict[int, list[StoredMessage]] = {}
    for message in found.items:
        of_queues.setdefault(message.queue, []).append(message)
    organization = found.items[0].organization
    states = await control.store.search(lambda tx: messages.states_of_all(tx, organization, of_queues))
    return found.with_items(
        msgspec.structs.replace(message, state=states.get((message.queue, message.seq))) for message in found.items
    )


async def glances(
    control: ControlContext, principal: Principal, found: Sequence[StoredMessage], most: int
) -> Mapping[MessageKey, Glance]:
    """Return the first bytes of the data of messages, and the last failed attempt of those that are retried or missed.

    Messages that the caller may not read are left out.
    """
    failing = {
        (each.queue, each.seq): each.state in _FAILING
        for each in found
        if principal.may("messages", "read", each.id, each.queue_public_id)
    }
    own = principal.organization
    return await control.store.search(lambda tx: attempts.glances(tx, own, failing, most))


async def change(
    control: ControlContext, principal: Principal, queue_public_id: str, message_id: str, *, fields: NameFields
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
    _, message = require_found(await messages.find(tx, principal.organization, queue_public_id, message_id))
    return message


async def page_of_deliveries(
    control: ControlContext, principal: Principal, path: tuple[str, ...], selection: Selection, *, reserve: Reserve
) -> Listing[Delivery]:
    """Return the deliveries of a message, one for each listener that existed when it was stored.

    Filters may need the body: `reserve` is called with its size before it is read.
    """

    filters = FilterDecisions(asks_later=True)

    async def work(tx: Transaction) -> tuple[StoredMessage, Listing[Delivery]]:
        message = await _own(tx, principal, "read", path)
        facts = await deliveries.read_facts(tx, message, filters, _defaults(control))
        return message, await deliveries.page_of_message(tx, facts, selection)

    message, found = await control.store.read(work)
    if not filters.unasked:
        return found
    message = await _with_body(control, message, reserve)
    if selection.state is None:
        await _ask(filters, message)
        return found.with_items(map(filters.applied, found.items))
    # Which deliveries are on the page depends on the filters.
    while filters.unasked:
        await _ask(filters, message)
        _, found = await control.store.read(work)
    return found


@reading
async def page_of_attempts(
    tx: Transaction, principal: Principal, path: tuple[str, ...], selection: Selection
) -> Listing[StoredAttempt]:
    """Return attempts of a message. Raises BadRequest if the selected listener does not belong to the queue."""
    message = await _own(tx, principal, "read", path)
    if selection.listener is not None:
        listener = await listeners.get(tx, message.organization, selection.listener)
        if listener is None or listener.queue != message.queue:
            rule = "must be the id of a listener of this queue"
            raise malformed("?listener", rule, code="invalid_parameter")
    return await attempts.of_message(tx, message, selection)


async def last_failures_of_listeners(
    control: ControlContext, organization: int, ids: Sequence[int]
) -> Mapping[int, StoredAttempt]:
    """Return the last failed attempt of each listener, by row id. The caller has checked that they may be read."""
    if not ids:
        return {}
    return await control.store.read(lambda tx: attempts.last_failures_of_listeners(tx, organization, ids))


@reading
async def page_of_listener_attempts(
    tx: Transaction, principal: Principal, at: ListenerPath | ListenerDetails, selection: Selection
) -> Listing[StoredAttempt]:
    return await attempts.of_listener(tx, await own_listener(tx, principal, "read", at), selection)


@reading
async def get_attempt(
    tx: Transaction, principal: Principal, path: tuple[str, ...], public_id: str, *, of_listener: bool = False
) -> AttemptDetails:
    """Return an attempt of the message, or of the listener, that a path names."""
    of: Listener | StoredMessage = await (own_listener if of_listener else _own)(tx, principal, "read", path)
    attempt = require_found(await attempts.get(tx, of.organization, public_id, of))
    content = (await attempts.contents(tx, of.organization, [public_id])).get(public_id)
    return AttemptDetails(attempt, None if content is None else decode_detail(content))


@searching
async def page_of_missed(
    tx: Transaction,
    principal: Principal,
    at: ListenerPath | ListenerDetails,
    selection: Selection = FIRST_PAGE,
    *,
    by_position: bool = False,
) -> Listing[MissedMessage]:
    """Return the messages that a listener has missed. The page continues at their ids.

    With `by_position`, it continues at positions, as in the list of all listeners, and takes fewer statements.
    """
    read = missed.page_of_one if by_position else missed.page_of_listener
    of = recipient_of(*await own_with_facts(tx, principal, "read", at))
    return await _with_failures(tx, principal.organization, await read(tx, of, selection))


@searching
async def page_of_all_missed(
    tx: Transaction, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[MissedMessage]:
    """Return the messages that any listener of the organization has missed, as far as the caller may read it."""
    targets = principal.targets_of("listeners", "read")
    if principal.customer is not None:
        raise Forbidden("A customer sees the missed messages of one listener at a time.")
    found = await missed.page(tx, principal.organization, selection, targets)
    return await _with_failures(tx, principal.organization, found)


async def page_of_missed_groups(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[MissedGroup]:
    """Return the groups of missed messages, the largest first, as far as the caller may read their listeners."""
    targets = principal.targets_of("listeners", "read")
    if principal.customer is not None:
        raise Forbidden("A customer sees the missed messages of one listener at a time.")
    read = partial(missed_groups.page, organization=principal.organization, selection=selection, only=targets)
    # It reads an entry of an index for each missed message, on a thread.
    return await control.store.load(read)


async def groups_of_listener(
    control: ControlContext, principal: Principal, at: ListenerPath | ListenerDetails
) -> Sequence[MissedGroup]:
    """Return the first page of the groups of messages that a listener has missed: the largest ones."""

    async def work(tx: Transaction) -> Sequence[MissedGroup]:
        listener = await own_listener(tx, principal, "read", at)
        selection = Selection(listener=listener.public_id)
        return (await missed_groups.page(tx, listener.organization, selection)).items

    return await control.store.load(work)


async def _with_failures(tx: Transaction, organization: int, found: Listing[MissedMessage]) -> Listing[MissedMessage]:
    """Add the last failed attempt of each message that was sent."""
    tried = [each.delivery for each in found.items if each.attempts]
    failures = await attempts.last_failures_of_deliveries(tx, organization, tried)
    return found.with_items(
        msgspec.structs.replace(each, last_failure=failures.get(each.delivery)) for each in found.items
    )
