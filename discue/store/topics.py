"""Topics, and the channels that lead from them into queues."""

from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Final

from discue.domain.model import Channel, Topic
from discue.store import idempotency
from discue.store.engine import AlreadyDone, IdempotencyRecord, Row, StaleConfiguration, Transaction
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.queues import ResourceRef
from discue.store.tables import placeholders, read_number, read_one, row_reader, rows_among

_COLUMNS: Final = "id, organization, public_id, alias, routes_version, created_at, updated_at"
_BY_PUBLIC_ID: Final = f"SELECT {_COLUMNS} FROM topic WHERE public_id = $1 AND organization = $2"
_LIST: Final = f"SELECT {_COLUMNS} FROM topic WHERE organization = $1"
_INSERT: Final = f"INSERT INTO topic ({_COLUMNS}) VALUES ({placeholders(1, 7)})"
_UPDATE: Final = "UPDATE topic SET alias = $1, updated_at = $2 WHERE organization = $3 AND id = $4"
_REROUTE: Final = "UPDATE topic SET routes_version = routes_version + 1 WHERE organization = $1 AND id = $2"
_DELETE: Final = "DELETE FROM topic WHERE organization = $1 AND id = $2"
_ROUTES_VERSION: Final = "SELECT routes_version FROM topic WHERE organization = $1 AND id = $2"

_from_row = row_reader(Topic, _COLUMNS)
_values: Callable[[Topic], Row] = attrgetter(*_COLUMNS.split(", "))


async def get(tx: Transaction, organization: int, public_id: str) -> Topic | None:
    return await read_one(tx, _from_row, _BY_PUBLIC_ID, public_id, organization)


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[Topic]:
    """Read a page of the organization's topics, or of those in `only` (public ids)."""
    return await listed(tx, Table("topic", _LIST, (organization,)), selection, _from_row, only=only)


async def insert(tx: Transaction, topic: Topic) -> None:
    """Insert a topic. Raises UniqueViolation if its alias is taken."""
    await tx.execute(_INSERT, *_values(topic))


async def update(tx: Transaction, topic: Topic) -> None:
    """Update the alias. Raises UniqueViolation if it is taken."""
    await tx.execute(_UPDATE, topic.alias, topic.updated_at, topic.organization, topic.id)


async def reroute(tx: Transaction, organization: int, topic: int) -> None:
    """Note that the topic's channels changed: messages routed by the previous ones are not stored any more."""
    await tx.execute(_REROUTE, organization, topic)


async def delete(tx: Transaction, organization: int, topic: int) -> None:
    await tx.execute(_DELETE, organization, topic)


async def store_unrouted(
    tx: Transaction, key: tuple[int, int, int], idempotency_record: IdempotencyRecord | None, now: int
) -> None:
    """Check a topic, and store the idempotency record, for messages that no channel accepts.

    `key` is the organization, row id and `routes_version`. Raises StaleConfiguration if the topic has changed, and
    AlreadyDone if the idempotency key was used before.
    """
    organization, topic, routes_version = key
    row = await tx.row(_ROUTES_VERSION, organization, topic)
    if row is None or row[0] != routes_version:
        raise StaleConfiguration
    if idempotency_record is not None and not await idempotency.store_key(tx, organization, idempotency_record, now):
        raise AlreadyDone


MAX_PER_TOPIC: Final = 50
"""A message goes into that many queues at most."""

MAX_PER_QUEUE: Final = 100
"""Deleting a queue deletes the channels that lead into it in the same transaction."""

_CHANNEL_COLUMNS: Final = (
    "channel.id, channel.organization, channel.public_id, channel.topic, topic.public_id, channel.queue, "
    "queue.public_id, channel.alias, channel.pattern, channel.filter, channel.created_at, channel.updated_at"
)
_CHANNELS: Final = f"""
    SELECT {_CHANNEL_COLUMNS} FROM channel
    JOIN topic ON topic.organization = channel.organization AND topic.id = channel.topic
    JOIN queue ON queue.organization = channel.organization AND queue.id = channel.queue
    WHERE channel.organization = $1"""
_CHANNEL: Final = f"{_CHANNELS} AND channel.public_id = $2"
_CHANNELS_OF_TOPIC: Final = f"{_CHANNELS} AND channel.topic = $2"
_CHANNEL_REFERENCES: Final = """
    SELECT topic, public_id, alias FROM channel WHERE organization = $1 AND topic IN ({}) ORDER BY topic, id"""
_CHANNEL_COUNT: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM channel WHERE organization = $1 AND {} = $2 LIMIT $3) AS counted"
)
_CHANNEL_INTO: Final = "SELECT 1 FROM channel WHERE organization = $1 AND queue = $2 AND topic = $3"
_STORED_OF_CHANNEL: Final = "id, organization, public_id, topic, queue, alias, pattern, filter, created_at, updated_at"
_INSERT_CHANNEL: Final = f"INSERT INTO channel ({_STORED_OF_CHANNEL}) VALUES ({placeholders(1, 10)})"
_UPDATE_CHANNEL: Final = """
    UPDATE channel SET alias = $1, pattern = $2, filter = $3, updated_at = $4 WHERE organization = $5 AND id = $6"""
_DELETE_CHANNEL: Final = "DELETE FROM channel WHERE organization = $1 AND id = $2"
_DELETE_CHANNELS_OF_TOPIC: Final = "DELETE FROM channel WHERE organization = $1 AND topic = $2"
_DELETE_CHANNELS_INTO: Final = "DELETE FROM channel WHERE organization = $1 AND queue = $2 RETURNING topic"

_channel_values: Callable[[Channel], Row] = attrgetter(*_STORED_OF_CHANNEL.split(", "))


async def get_channel(tx: Transaction, organization: int, public_id: str) -> Channel | None:
    return await read_one(tx, _channel_from_row, _CHANNEL, organization, public_id)


async def channel_page(
    tx: Transaction, topic: Topic, selection: Selection, only: Collection[str] | None = None
) -> Listing[Channel]:
    """Read a page of the topic's channels, or of those in `only` (public ids)."""
    table = Table("channel", _CHANNELS_OF_TOPIC, (topic.organization, topic.id), "channel.id", prefix="channel.")
    return await listed(tx, table, selection, _channel_from_row, only=only)


async def channels_of(tx: Transaction, topic: Topic) -> list[Channel]:
    """Read all channels of a topic, oldest first."""
    rows = await tx.rows(
        f"{_CHANNELS_OF_TOPIC} ORDER BY channel.id LIMIT $3", topic.organization, topic.id, MAX_PER_TOPIC
    )
    return [_channel_from_row(row) for row in rows]


async def channel_references(tx: Transaction, organization: int, topics: Sequence[int]) -> dict[int, list[ResourceRef]]:
    """Read references to the channels of each topic, by row id, oldest first."""
    found: dict[int, list[ResourceRef]] = {}
    for topic, public_id, alias in await rows_among(tx, _CHANNEL_REFERENCES, (organization,), topics):
        found.setdefault(topic, []).append(ResourceRef(public_id, alias))
    return found


async def has_room(tx: Transaction, channel: Channel) -> bool:
    """Return whether the channel's topic and its queue may have one more."""
    # Counting stops at the limit, so that the check costs no more than the limit allows.
    bounds = (("topic", channel.topic, MAX_PER_TOPIC), ("queue", channel.queue, MAX_PER_QUEUE))
    for column, owner, most in bounds:
        if await read_number(tx, _CHANNEL_COUNT.format(column), channel.organization, owner, most) >= most:
            return False
    return True


async def leads_into(tx: Transaction, organization: int, topic: int, queue: int) -> bool:
    """Return whether a channel leads from the topic into the queue."""
    return await tx.row(_CHANNEL_INTO, organization, queue, topic) is not None


async def insert_channel(tx: Transaction, channel: Channel) -> None:
    """Insert a channel. Raises UniqueViolation if its alias is taken."""
    await tx.execute(_INSERT_CHANNEL, *_channel_values(channel))


async def update_channel(tx: Transaction, channel: Channel) -> None:
    """Update the alias, pattern and filter. Raises UniqueViolation if the alias is taken."""
    values = (channel.alias, channel.pattern, channel.filter, channel.updated_at)
    await tx.execute(_UPDATE_CHANNEL, *values, channel.organization, channel.id)


async def delete_channel(tx: Transaction, organization: int, channel: int) -> None:
    await tx.execute(_DELETE_CHANNEL, organization, channel)


async def delete_channels_of(tx: Transaction, organization: int, topic: int) -> None:
    await tx.execute(_DELETE_CHANNELS_OF_TOPIC, organization, topic)


async def delete_channels_into(tx: Transaction, organization: int, queue: int) -> list[int]:
    """Delete all channels that lead into a queue. Returns the row ids of their topics, in order."""
    return sorted(row[0] for row in await tx.rows(_DELETE_CHANNELS_INTO, organization, queue))


def _channel_from_row(row: Row) -> Channel:
    channel, organization, public_id, topic, topic_public_id, queue, queue_public_id, *rest = row
    return Channel(organization, channel, public_id, topic, topic_public_id, queue, queue_public_id, *rest)
