"""What happened: the deliveries of a message, and attempts, each with what is kept of it."""

import msgspec

from discue.control.context import ControlContext, require_found
from discue.domain.attempt_detail import AttemptDetail, unpacked
from discue.domain.errors import BadRequest, Fault
from discue.domain.model import Delivery, Listener, StoredAttempt, StoredMessage
from discue.domain.scopes import Principal
from discue.store import attempts, listeners, messages, queues
from discue.store import deliveries as stored_deliveries
from discue.store.engine import Transaction
from discue.store.pagination import Listing, Selection

Path = tuple[str, ...]
"""The ids of the queue and of the message, or the listener."""


class AttemptDetails(msgspec.Struct, frozen=True):
    """An attempt, and what is kept of it beside its record: None where that is nothing."""

    attempt: StoredAttempt
    detail: AttemptDetail | None


async def deliveries(
    control: ControlContext, principal: Principal, path: Path, selection: Selection
) -> Listing[Delivery]:
    """Of the message, for each listener that was there when it was stored."""

    async def work(tx: Transaction) -> Listing[Delivery]:
        return await stored_deliveries.page_of_message(tx, await _message(tx, principal, path), selection)

    return await control.store.read(work)


async def page_of_message(
    control: ControlContext, principal: Principal, path: Path, selection: Selection
) -> Listing[StoredAttempt]:
    """Raises BadRequest when the selection names a listener that is not one of the queue's."""

    async def work(tx: Transaction) -> Listing[StoredAttempt]:
        message = await _message(tx, principal, path)
        if selection.listener is not None:
            await _require_listener(tx, message, selection.listener)
        return await attempts.of_message(tx, message, selection)

    return await control.store.read(work)


async def page_of_listener(
    control: ControlContext, principal: Principal, path: Path, selection: Selection
) -> Listing[StoredAttempt]:
    async def work(tx: Transaction) -> Listing[StoredAttempt]:
        return await attempts.of_listener(tx, await _listener(tx, principal, path), selection)

    return await control.store.read(work)


async def get_of_message(control: ControlContext, principal: Principal, path: Path, public_id: str) -> AttemptDetails:
    async def work(tx: Transaction) -> AttemptDetails:
        return await _details(tx, await _message(tx, principal, path), public_id)

    return await control.store.read(work)


async def get_of_listener(control: ControlContext, principal: Principal, path: Path, public_id: str) -> AttemptDetails:
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
