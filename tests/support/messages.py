"""Messages in the store, and their deliveries."""

from discue.domain.messages import StoredMessage
from discue.domain.model import Delivery, Queue
from discue.domain.waiting import SendingDefaults
from discue.store import deliveries, messages
from discue.store.deliveries import FilterDecisions, MessageFacts
from discue.store.engine import Transaction


async def read_message(tx: Transaction, queue: Queue, public_id: str) -> StoredMessage | None:
    """Read a message of a queue by its id."""
    found = await messages.find(tx, queue.organization, queue.public_id, public_id)
    return None if found is None else found[1]


async def facts_of(tx: Transaction, message: StoredMessage, defaults: SendingDefaults | None = None) -> MessageFacts:
    """Read the facts about a message. Its filters are asked at once."""
    return await deliveries.read_facts(tx, message, FilterDecisions(), defaults or SendingDefaults())


async def read_deliveries(
    tx: Transaction, message: StoredMessage, defaults: SendingDefaults | None = None
) -> list[Delivery]:
    """Read the deliveries of a message, oldest listener first."""
    return await deliveries.list_of_message(tx, await facts_of(tx, message, defaults))
