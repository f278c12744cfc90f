"""Schemas of queues, to be read: they are set through their queues."""

from discue.access import Principal
from discue.control.control import Control, present
from discue.errors import NotFound
from discue.model import Queue
from discue.store import queues
from discue.store.engine import Transaction


async def get(control: Control, principal: Principal, queue_public_id: str, schema_id: str) -> Queue:
    """The queue that has this schema now. Raises NotFound for another one, also for one that it had before."""
    principal.require("schemas", "read", schema_id, queue_public_id)

    async def work(tx: Transaction) -> Queue:
        return present(await queues.get(tx, principal.organization, queue_public_id))

    queue = await control.store.read(work)
    if queue.schema_id != schema_id:
        raise NotFound
    return queue
