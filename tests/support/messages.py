"""Messages in the store."""

from discue.domain.messages import StoredMessage
from discue.domain.model import Queue
from discue.store import messages
from discue.store.engine import Transaction


async def read_message(tx: Transaction, queue: Queue, public_id: str) -> StoredMessage | None:
    """Read a message of a queue by its id."""
    found = await messages.find(tx, queue.organization, queue.public_id, public_id)
    return None if found is None else found[1]
