"""System queues: each organization has one, to which the service publishes its events."""

from typing import Final

from discue.control.context import ControlContext
from discue.domain.model import Queue
from discue.domain.system_events import SYSTEM_QUEUE_ALIAS
from discue.store import aliases, queues
from discue.store.engine import Transaction

_ORGANIZATIONS_A_STEP: Final = 100


def new_system_queue(control: ControlContext, organization: int) -> Queue:
    """Return the system queue of an organization that is created now."""
    now = control.clock.now()
    return Queue(
        organization=organization,
        id=control.row_ids.next(),
        public_id=control.public_ids.next(),
        alias=SYSTEM_QUEUE_ALIAS,
        retention_seconds=None,
        max_message_bytes=None,
        config_version=1,
        created_at=now,
        updated_at=now,
        is_system=True,
    )


async def create_missing(control: ControlContext, after: int) -> int | None:
    """Create the system queues that are missing: in organizations that an earlier version of the program created.

    Looks at the next organizations after a row id. Returns the last one's id, None if there is none. An organization
    whose own queue has the alias has no system queue until that queue is renamed or deleted.
    """

    seen = await control.store.read(lambda tx: queues.system_queues_after(tx, after, _ORGANIZATIONS_A_STEP))
    made = [new_system_queue(control, organization) for organization, queue in seen if queue is None]

    async def work(tx: Transaction) -> None:
        for queue in made:
            # Another leader may have been faster.
            if await aliases.find(tx, "queue", queue.organization, queue.alias) is None:
                await queues.insert(tx, queue)

    if made:
        await control.store.write_exclusively(work)
    return seen[-1][0] if seen else None
