"""Messages that a relay publishes."""

from contextlib import closing
from typing import Any

from discue_client import AsyncDiscue, outbox
from tests.clients.python.outbox.databases import connect, waiting

HOUR = 3_600.0
HOUR_MS = 3_600_000


def store(url: str, *data: object, queue: str = "orders", key: str | None = None) -> None:
    """Store messages in one transaction."""
    with closing(connect(url)) as connection:
        connection.execute("BEGIN")
        for each in data:
            outbox.publish(connection, queue, each, key=key)
        connection.execute("COMMIT")


async def published(client: AsyncDiscue, queue: str = "orders") -> list[Any]:
    """Return the data of all messages, the oldest first."""
    found = [message.data async for message in client.messages.list(queue, data="true")]
    return found[::-1]


def is_empty(url: str) -> bool:
    return waiting(url) == []
