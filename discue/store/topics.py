"""Topics, and the channels that lead from them into queues."""

from collections.abc import Collection, Sequence
from typing import Final

from discue.domain.model import Channel, Topic
from discue.store import idempotency
from discue.store.engine import AlreadyDone, IdempotencyRecord, Row, StaleConfiguration, Transaction
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.queues import ResourceRef
from discue.store.resource_table import ResourceTable
from discue.store.tables import read_number, read_one, rows_among

_TABLE: Final = ResourceTable(
    "topic",
    Topic,
    "id, organization, public_id, alias, routes_version, created_at, updated_at",
    changed="alias, updated_at",
)
get, page, insert, update, delete = _TABLE.get, _TABLE.page, _TABLE.insert, _TABLE.update, _TABLE.delete

_REROUTE: Final = "UPDATE topic SET routes_version = routes_version + 1 WHERE organization = $1 AND id = $2"
_ROUTES_VERSION: Final = "SELECT routes_version FROM topic WHERE organization = $1 AND id = $2"


async def reroute(tx: Transaction, organization: int, topic: int) -> None:
    """Note that the topic's channels changed: messages routed by the previous ones are not stored any more."""
    await tx.execute(_REROUTE, organization, topic)


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
_DELETE_CHANNELS_OF_TOPIC: Final = "DELETE FROM channel WHERE organization = $1 AND topic = $2"
_DELETE_CHANNELS_INTO: Final = "DELETE FROM channel WHERE organization = $1 AND queue = $2 RETURNING topic"

_CHANNEL_TABLE: Final = ResourceTable(
    "channel",
    Channel,
    "id, organization, public_id, topic, queue, alias, pattern, filter, created_at, updated_at",
    changed="alias, pattern, filter, updated_at",
)
insert_channel, update_channel, delete_channel = _CHANNEL_TABLE.insert, _CHANNEL_TABLE.update, _CHANNEL_TABLE.delete


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


async def delete_channels_of(tx: Transaction, organization: int, topic: int) -> None:
    await tx.execute(_DELETE_CHANNELS_OF_TOPIC, organization, topic)


async def delete_channels_into(tx: Transaction, organization: int, queue: int) -> list[int]:
    """Delete all channels that lead into a queue. Returns the row ids of their topics, in order."""
    return sorted(row[0] for row in await tx.rows(_DELETE_CHANNELS_INTO, organization, queue))


def _channel_from_row(row: Row) -> Channel:
    channel, organization, public_id, topic, topic_public_id, queue, queue_public_id, *rest = row
    return Channel(organization, channel, public_id, topic, topic_public_id, queue, queue_public_id, *rest)
