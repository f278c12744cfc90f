"""Rows of channels: ways from topics into queues."""

from collections.abc import Collection, Sequence
from typing import Final

from discue.domain.model import Channel, Topic
from discue.store.engine import Row, Transaction
from discue.store.listeners import ResourceRef
from discue.store.pagination import Listing, RowPage, Selection, Table, listed
from discue.store.tables import placeholders

A_TOPIC: Final = 50
"""At most so many channels has a topic: a message goes into as many queues."""

A_QUEUE: Final = 100
"""At most so many lead into a queue: they go with it at once."""

_COLUMNS: Final = (
    "channel.id, channel.organization, channel.public_id, channel.topic, topic.public_id, channel.queue, "
    "queue.public_id, channel.alias, channel.pattern, channel.filter, channel.created_at, channel.updated_at"
)
_ALL: Final = f"""
    SELECT {_COLUMNS} FROM channel
    JOIN topic ON topic.organization = channel.organization AND topic.id = channel.topic
    JOIN queue ON queue.organization = channel.organization AND queue.id = channel.queue
    WHERE channel.organization = $1"""
_BY_PUBLIC_ID: Final = f"{_ALL} AND channel.public_id = $2"
_OF_TOPIC: Final = f"{_ALL} AND channel.topic = $2"
_ANCHOR: Final = "SELECT id FROM channel WHERE organization = $1 AND public_id = $2"
_REFERENCES: Final = """
    SELECT topic, public_id, alias FROM channel WHERE organization = $1 AND topic IN ({}) ORDER BY topic, id"""
_COUNTED: Final = "SELECT count(*) FROM (SELECT 1 FROM channel WHERE organization = $1 AND {} = $2 LIMIT $3) AS counted"
_INTO: Final = "SELECT 1 FROM channel WHERE organization = $1 AND queue = $2 AND topic = $3"
_INSERT: Final = """
    INSERT INTO channel (id, organization, public_id, topic, queue, alias, pattern, filter, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"""
_UPDATE: Final = """
    UPDATE channel SET alias = $1, pattern = $2, filter = $3, updated_at = $4 WHERE organization = $5 AND id = $6"""
_DELETE: Final = "DELETE FROM channel WHERE organization = $1 AND id = $2"
_DELETE_OF_TOPIC: Final = "DELETE FROM channel WHERE organization = $1 AND topic = $2"
_DELETE_INTO: Final = "DELETE FROM channel WHERE organization = $1 AND queue = $2 RETURNING topic"


async def get(tx: Transaction, organization: int, public_id: str) -> Channel | None:
    row = await tx.row(_BY_PUBLIC_ID, organization, public_id)
    return _from_row(row) if row is not None else None


async def page_of_topic(
    tx: Transaction, topic: Topic, selection: Selection, only: Collection[str] | None = None
) -> Listing[Channel]:
    """The topic's channels, or those of `only` (public ids)."""
    values = (topic.organization, topic.id)
    table = Table(_OF_TOPIC, values, "channel.id", _ANCHOR, (topic.organization,), prefix="channel.")
    return _listing(await listed(tx, table, selection, only))


async def of_topic(tx: Transaction, topic: Topic) -> list[Channel]:
    """All of them, the oldest first."""
    rows = await tx.rows(f"{_OF_TOPIC} ORDER BY channel.id LIMIT $3", topic.organization, topic.id, A_TOPIC)
    return [_from_row(row) for row in rows]


async def references_of(tx: Transaction, organization: int, topics: Sequence[int]) -> dict[int, list[ResourceRef]]:
    """The channels of each of the topics, by their row ids, the oldest first."""
    found: dict[int, list[ResourceRef]] = {}
    if topics:
        sql = _REFERENCES.format(placeholders(2, len(topics)))
        for topic, public_id, alias in await tx.rows(sql, organization, *topics):
            found.setdefault(topic, []).append(ResourceRef(public_id, alias))
    return found


async def has_room(tx: Transaction, channel: Channel) -> bool:
    """Whether its topic and its queue may have one more."""
    bounds = (("topic", channel.topic, A_TOPIC), ("queue", channel.queue, A_QUEUE))
    for column, owner, most in bounds:
        row = await tx.row(_COUNTED.format(column), channel.organization, owner, most)
        if row is not None and row[0] >= most:
            return False
    return True


async def leads_into(tx: Transaction, organization: int, topic: int, queue: int) -> bool:
    """Whether a channel goes from the one into the other."""
    return await tx.row(_INTO, organization, queue, topic) is not None


async def insert(tx: Transaction, channel: Channel) -> None:
    """Raises UniqueViolation when the alias is taken."""
    await tx.execute(
        _INSERT,
        channel.id,
        channel.organization,
        channel.public_id,
        channel.topic,
        channel.queue,
        channel.alias,
        channel.pattern,
        channel.filter,
        channel.created_at,
        channel.updated_at,
    )


async def update(tx: Transaction, channel: Channel) -> None:
    """What it is called and lets through. Raises UniqueViolation when the alias is taken."""
    values = (channel.alias, channel.pattern, channel.filter, channel.updated_at)
    await tx.execute(_UPDATE, *values, channel.organization, channel.id)


async def delete(tx: Transaction, organization: int, channel: int) -> None:
    await tx.execute(_DELETE, organization, channel)


async def delete_of_topic(tx: Transaction, organization: int, topic: int) -> None:
    await tx.execute(_DELETE_OF_TOPIC, organization, topic)


async def delete_into(tx: Transaction, organization: int, queue: int) -> list[int]:
    """All that lead into a queue; the row ids of the topics that they came from, in order."""
    return sorted(row[0] for row in await tx.rows(_DELETE_INTO, organization, queue))


def _listing(found: RowPage) -> Listing[Channel]:
    return Listing(tuple(_from_row(row) for row in found.rows), found.has_next, found.has_previous)


def _from_row(row: Row) -> Channel:
    channel, organization, public_id, topic, topic_public_id, queue, queue_public_id, *rest = row
    return Channel(organization, channel, public_id, topic, topic_public_id, queue, queue_public_id, *rest)
