"""Schemas of queues, to be read: they are set through their queues."""

from discue.control.context import ControlContext, require_found
from discue.domain.errors import NotFound
from discue.domain.model import Queue
from discue.domain.scopes import Principal
from discue.store import queues
from discue.store.engine import Transaction


async def get(control: ControlContext, principal: Principal, queue_public_id: str, schema_id: str) -> Queue:
    """The queue that has this schema now. Raises NotFound for another one, also for one that it had before."""
    principal.require("schemas", "read", schema_id, queue_public_id)

    async def work(tx: Transaction) -> Queue:
        return require_found(await queues.get(tx, principal.organization, queue_public_id))

    queue = await control.store.read(work)
    if queue.schema_id != schema_id:
        raise NotFound
    return queue
