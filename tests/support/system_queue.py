"""The contents of an organization's queue of system events."""

from typing import Any

import msgspec

from discue.domain.system_events import SYSTEM_QUEUE_ALIAS
from discue.store import aliases
from discue.store.store import Store


async def system_events(store: Store, organization: int) -> list[dict[str, Any]]:
    """Return the stored events, oldest first."""
    queue = await store.read(lambda tx: aliases.find(tx, "queue", organization, SYSTEM_QUEUE_ALIAS))
    assert queue is not None
    page = await store.page(organization, queue.id, 0, 1_000, max_bytes=1 << 20)
    return [msgspec.json.decode(entry.body) for entry in page.entries]
