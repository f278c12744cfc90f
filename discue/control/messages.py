"""Messages after they were published: their content never changes."""

import msgspec

from discue.control.context import ControlContext, require_found
from discue.domain.aliases import changed_alias
from discue.domain.attempt_detail import AttemptDetail, unpacked
from discue.domain.errors import BadRequest, Fault
from discue.domain.model import Delivery, Listener, Queue, StoredAttempt, StoredMessage
from discue.domain.scopes import Access, Principal
from discue.store import attempts, deliveries, feed, listeners, messages, queues
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection


class MessageFields(msgspec.Struct, frozen=True):
    """What a request may change of a message: its name, which need not be unique."""

    alias: str | None = None
    name: str | None = None


class MessageDetails(msgspec.Struct, frozen=True):
    """A message with its body, and what became of it for each listener: the oldest ones, at most 100."""

    message: StoredMessage
    deliveries: tuple[Delivery, ...]


async def get(control: ControlContext, principal: Principal, queue_public_id: str, message_id: str) -> MessageDetails:
    async def work(tx: Transaction) -> MessageDetails:
        message = await _own(tx, principal, "read", (queue_public_id, message_id))
        return MessageDetails(message, tuple(await deliveries.list_of_message(tx, message)))

    return await control.store.read(work)


async def page(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[StoredMessage]:
    """The messages of all queues, without their bodies."""
    targets = principal.targets_of("messages", "read")
    return await control.store.read(lambda tx: messages.page(tx, principal.organization, selection, targets))


async def page_of_queue(
    control: ControlContext, principal: Principal, queue_public_id: str, selection: Selection = FIRST_PAGE
) -> Listing[StoredMessage]:
    """The queue's messages, without their bodies."""
    targets = principal.targets_of("messages", "read")
    only = None if targets is not None and queue_public_id in targets else targets

    async def work(tx: Transaction) -> Listing[StoredMessage]:
        return await messages.page_of_queue(tx, await _queue(tx, principal, queue_public_id), selection, only)

    return await control.store.read(work)


async def change(
    control: ControlContext,
    principal: Principal,
    queue_public_id: str,
    message_id: str,
    fields: MessageFields,
) -> StoredMessage:
    """Raises Unprocessable for an unfit alias."""
    now = control.clock.now()

    async def work(tx: Transaction) -> StoredMessage:
        stored = await _own(tx, principal, "write", (queue_public_id, message_id))
        control.require_match(stored)
        alias = changed_alias(fields, stored.alias)
        await messages.set_alias(tx, stored, alias, now)
        return msgspec.structs.replace(stored, alias=alias, updated_at=now)

    return await control.store.write_exclusively(work)


async def delete(control: ControlContext, principal: Principal, queue_public_id: str, message_id: str) -> None:
    """Deliveries not yet made are not made: lanes that have read the message already read again."""

    async def work(tx: Transaction) -> None:
        stored = await _own(tx, principal, "write", (queue_public_id, message_id))
        control.require_match(stored)
        await messages.delete(tx, stored)
        await feed.record(tx, "message", stored.organization, stored.queue)

    await control.write(work)


async def _queue(tx: Transaction, principal: Principal, public_id: str) -> Queue:
    return require_found(await queues.get(tx, principal.organization, public_id))


async def _own(tx: Transaction, principal: Principal, access: Access, path: tuple[str, str]) -> StoredMessage:
    queue_public_id, message_id = path
    principal.require("messages", access, message_id, queue_public_id)
    return require_found(await messages.get(tx, await _queue(tx, principal, queue_public_id), message_id))


Path = tuple[str, ...]
"""The ids of the queue and of the message, or the listener."""


class AttemptDetails(msgspec.Struct, frozen=True):
    """An attempt, and what is kept of it beside its record: None where that is nothing."""

    attempt: StoredAttempt
    detail: AttemptDetail | None


async def page_of_deliveries(
    control: ControlContext, principal: Principal, path: Path, selection: Selection
) -> Listing[Delivery]:
    """Of the message, for each listener that was there when it was stored."""

    async def work(tx: Transaction) -> Listing[Delivery]:
        return await deliveries.page_of_message(tx, await _message(tx, principal, path), selection)

    return await control.store.read(work)


async def page_of_attempts(
    control: ControlContext, principal: Principal, path: Path, selection: Selection
) -> Listing[StoredAttempt]:
    """Raises BadRequest when the selection names a listener that is not one of the queue's."""

    async def work(tx: Transaction) -> Listing[StoredAttempt]:
        message = await _message(tx, principal, path)
        if selection.listener is not None:
            await _require_listener(tx, message, selection.listener)
        return await attempts.of_message(tx, message, selection)

    return await control.store.read(work)


async def page_of_listener_attempts(
    control: ControlContext, principal: Principal, path: Path, selection: Selection
) -> Listing[StoredAttempt]:
    async def work(tx: Transaction) -> Listing[StoredAttempt]:
        return await attempts.of_listener(tx, await _listener(tx, principal, path), selection)

    return await control.store.read(work)


async def get_attempt(control: ControlContext, principal: Principal, path: Path, public_id: str) -> AttemptDetails:
    async def work(tx: Transaction) -> AttemptDetails:
        return await _details(tx, await _message(tx, principal, path), public_id)

    return await control.store.read(work)


async def get_listener_attempt(
    control: ControlContext, principal: Principal, path: Path, public_id: str
) -> AttemptDetails:
    async def work(tx: Transaction) -> AttemptDetails:
        return await _details(tx, await _listener(tx, principal, path), public_id)

    return await control.store.read(work)


async def _details(tx: Transaction, of: StoredMessage | Listener, public_id: str) -> AttemptDetails:
    attempt = require_found(await attempts.get(tx, of.organization, public_id, of))
    content = await attempts.content(tx, of.organization, public_id)
    return AttemptDetails(attempt, unpacked(content) if content is not None else None)


async def _message(tx: Transaction, principal: Principal, path: Path) -> StoredMessage:
    queue_public_id, message_id = path
    principal.require("messages", "read", message_id, queue_public_id)
    queue = require_found(await queues.get(tx, principal.organization, queue_public_id))
    return require_found(await messages.get(tx, queue, message_id))


async def _listener(tx: Transaction, principal: Principal, path: Path) -> Listener:
    queue_public_id, public_id = path
    principal.require("listeners", "read", public_id, queue_public_id)
    listener = require_found(await listeners.get(tx, principal.organization, public_id))
    return require_found(listener if listener.queue_public_id == queue_public_id else None)


async def _require_listener(tx: Transaction, message: StoredMessage, public_id: str) -> None:
    listener = await listeners.get(tx, message.organization, public_id)
    if listener is None or listener.queue != message.queue:
        rule = "must be the id of a listener of this queue"
        raise BadRequest(f"The query parameter listener {rule}.", faults=(Fault("?listener", rule),))
