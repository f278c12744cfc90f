"""Finding a queue, listener or message by its id or its name, as far as the caller may read it."""

import msgspec

from discue.control.context import ControlContext
from discue.domain.ids import is_public_id
from discue.domain.messages import StoredMessage
from discue.domain.model import Listener, Queue
from discue.domain.scopes import Principal
from discue.store import listeners, messages, queues
from discue.store.engine import Transaction
from discue.store.message_log import rows_by_id
from discue.store.pagination import Selection

SHOWN: int = 10
"""The largest number of results of each kind."""


class Found(msgspec.Struct, frozen=True):
    """The results of a search, the newest first."""

    queues: tuple[Queue, ...] = ()
    listeners: tuple[Listener, ...] = ()
    messages: tuple[StoredMessage, ...] = ()


async def find(control: ControlContext, principal: Principal, text: str) -> Found:
    """Return the queues, listeners and messages with this id or alias that the caller may read."""

    async def work(tx: Transaction) -> Found:
        return await (_by_id if is_public_id(text) else _by_name)(tx, principal, text)

    found = await control.store.search(work)
    return Found(
        tuple(each for each in found.queues if principal.may("queues", "read", each.public_id)),
        tuple(
            each for each in found.listeners if principal.may("listeners", "read", each.public_id, each.queue_public_id)
        ),
        tuple(each for each in found.messages if principal.may("messages", "read", each.id, each.queue_public_id)),
    )


async def _by_id(tx: Transaction, principal: Principal, public_id: str) -> Found:
    organization = principal.organization
    queue = await queues.get(tx, organization, public_id)
    listener = await listeners.get(tx, organization, public_id)
    shown = []
    for _, (_, owner, _), *_ in (await rows_by_id(tx, organization, [public_id]))[:SHOWN]:
        # A message that a topic has routed has the same id in several queues.
        held = await queues.by_id(tx, organization, owner)
        message = None if held is None else await messages.get(tx, held, public_id)
        shown += [] if message is None else [message]
    return Found((queue,) if queue else (), (listener,) if listener else (), tuple(shown))


async def _by_name(tx: Transaction, principal: Principal, name: str) -> Found:
    organization, named = principal.organization, Selection(alias=name, per_page=SHOWN)
    return Found(
        (await queues.page(tx, organization, named)).items,
        (await listeners.page(tx, organization, named)).items,
        (await messages.page(tx, organization, named)).items,
    )
