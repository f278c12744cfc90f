"""What a listener has missed: to be seen, and to be made due again."""

from discue.control.context import ControlContext, require_found
from discue.domain.model import Listener
from discue.domain.scopes import Access, Principal
from discue.store import deliveries, listener_messages, listeners
from discue.store.deliveries import Recipient
from discue.store.engine import Transaction
from discue.store.listener_messages import MissedMessage
from discue.store.pagination import FIRST_PAGE, Listing, Selection

Path = tuple[str, str]
"""The ids of a queue and of one of its listeners."""


async def page(
    control: ControlContext, principal: Principal, path: Path, selection: Selection = FIRST_PAGE
) -> Listing[MissedMessage]:
    async def work(tx: Transaction) -> Listing[MissedMessage]:
        return await listener_messages.missed_page(
            tx, await recipient_of(tx, await listener_at(tx, principal, "read", path)), selection
        )

    return await control.store.read(work)


async def listener_at(tx: Transaction, principal: Principal, access: Access, path: Path) -> Listener:
    """Raises NotFound, and Forbidden where the key does not reach."""
    queue_public_id, public_id = path
    principal.require("listeners", access, public_id, queue_public_id)
    listener = require_found(await listeners.get(tx, principal.organization, public_id))
    return require_found(listener if listener.queue_public_id == queue_public_id else None)


async def recipient_of(tx: Transaction, listener: Listener) -> Recipient:
    return require_found(await deliveries.recipient(tx, listener.organization, listener.public_id))
