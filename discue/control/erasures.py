"""Erasures of the messages of a queue with one key."""

from functools import partial

from discue.control.context import ControlContext, reading, require_found
from discue.control.listeners import own_queue
from discue.domain.ids import event_id_of
from discue.domain.model import Erasure, Queue
from discue.domain.scopes import Principal
from discue.store import erasures, events
from discue.store.engine import Transaction
from discue.store.erasures import ERASURE_TABLE
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.purge import Job


async def create(control: ControlContext, principal: Principal, queue_public_id: str, key: str) -> Erasure:
    """Erase the messages of a queue with a key. Returns once all that were in the log at the start are erased.

    If the process ends before, the leader finishes it. Later messages are kept. Raises NotFound, and QuotaExceeded.
    """
    principal.require("messages", "write", queue_public_id)
    now, occurrence = control.clock.now(), control.occurrence(principal)
    row_id = occurrence.id

    async def begin(tx: Transaction) -> Job:
        queue = await own_queue(tx, principal, queue_public_id)
        await control.count_creation(tx, principal, queue.organization, row_id)
        # Without the key: it may name a person, and events are kept longer than erasures.
        await events.record(tx, occurrence, "erasure_added", queue.organization, ref=queue.public_id, name=queue.alias)
        return await erasures.begin(tx, (queue.organization, queue.id), row_id, key=key, now=now)

    job = await control.store.write_exclusively(begin)
    while not await control.store.write(partial(erasures.step, job=job, now=control.clock.now())):
        pass

    async def ended(tx: Transaction) -> Erasure:
        return require_found(await ERASURE_TABLE.get(tx, principal.organization, event_id_of(row_id)))

    # Stores the response for the idempotency key only now: a request that is repeated earlier erases messages itself.
    return await control.write(ended)


@reading
async def get(tx: Transaction, principal: Principal, queue_public_id: str, public_id: str) -> Erasure:
    """Return an erasure of the queue. Raises NotFound."""
    principal.require("messages", "read", queue_public_id)
    queue = await own_queue(tx, principal, queue_public_id)
    found = await ERASURE_TABLE.get(tx, queue.organization, public_id)
    return require_found(found if found is not None and found.queue == queue.id else None)


@reading
async def page(
    tx: Transaction, principal: Principal, at: Queue | str, selection: Selection = FIRST_PAGE
) -> Listing[Erasure]:
    """Return the erasures of a queue, newest first."""
    queue = await own_queue(tx, principal, at)
    principal.require("messages", "read", queue.public_id)
    return await ERASURE_TABLE.page(tx, queue.organization, queue.id, selection)
