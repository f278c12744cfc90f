"""Topics and their channels."""

from functools import partial

import msgspec
import pytest

from discue.domain.model import Channel, Queue, Topic
from discue.store import purge, topics
from discue.store.engine import Transaction, UniqueViolation
from discue.store.pagination import Selection
from discue.store.purge import Job
from discue.store.store import Store
from tests.store.rows import public_id, row_id
from tests.store.test_topic_appends import OURS, THEIRS, stored_topic, three_queues
from tests.support.clocks import NOON


def a_channel(topic: Topic, queue: Queue, number: int) -> Channel:
    return Channel(
        topic.organization,
        row_id(number),
        public_id(number),
        topic.id,
        topic.public_id,
        queue.id,
        queue.public_id,
        f"channel-{number}",
        "orders.>",
        '{"key": "x"}',
        NOON,
        NOON,
    )


async def stored_channel(store: Store, topic: Topic, queue: Queue, number: int) -> Channel:
    channel = a_channel(topic, queue, number)
    await store.write(lambda tx: topics.insert_channel(tx, channel))
    return channel


async def test_a_topics_channels_are_found_changed_and_removed(store: Store) -> None:
    topic, into = await stored_topic(store, 5), await three_queues(store)
    made = [await stored_channel(store, topic, queue, number) for queue, number in zip(into, (40, 41, 42), strict=True)]
    assert await store.read(lambda tx: topics.get(tx, OURS, topic.public_id)) == topic
    assert await store.read(lambda tx: topics.get_channel(tx, OURS, made[0].public_id)) == made[0]
    assert await store.read(lambda tx: topics.get_channel(tx, THEIRS, made[0].public_id)) is None
    assert await store.read(lambda tx: topics.channels_of(tx, topic)) == made
    page = await store.read(lambda tx: topics.channel_page(tx, topic, Selection(2)))
    assert (page.items, page.has_next) == ((made[2], made[1]), True)
    changed = msgspec.structs.replace(made[0], alias="renamed", pattern=None, filter=None, updated_at=NOON + 1)
    await store.write(lambda tx: topics.update_channel(tx, changed))
    assert await store.read(lambda tx: topics.get_channel(tx, OURS, changed.public_id)) == changed
    assert await store.write(lambda tx: topics.delete_channels_into(tx, THEIRS, into[0].id)) == []
    assert await store.write(lambda tx: topics.delete_channels_into(tx, OURS, into[0].id)) == [topic.id]
    await store.write(lambda tx: topics.delete_channel(tx, OURS, made[1].id))
    assert await store.read(lambda tx: topics.channels_of(tx, topic)) == [made[2]]
    await store.write(lambda tx: topics.delete_channels_of(tx, OURS, topic.id))
    await store.write(lambda tx: topics.delete(tx, OURS, topic.id))
    assert await store.read(lambda tx: topics.channels_of(tx, topic)) == []
    assert await store.read(lambda tx: topics.get(tx, OURS, topic.public_id)) is None


async def test_an_alias_is_one_topics_and_in_a_topic_one_channels(store: Store) -> None:
    topic, other = await stored_topic(store, 5), await stored_topic(store, 6)
    one, two, _ = await three_queues(store)
    channel = await stored_channel(store, topic, one, 40)
    namesake = msgspec.structs.replace(a_channel(topic, two, 41), alias=channel.alias)
    with pytest.raises(UniqueViolation):
        await store.write(lambda tx: topics.insert_channel(tx, namesake))
    with pytest.raises(UniqueViolation):
        await store.write(lambda tx: topics.update(tx, msgspec.structs.replace(other, alias=topic.alias)))
    elsewhere = msgspec.structs.replace(namesake, topic=other.id, topic_public_id=other.public_id)
    await store.write(lambda tx: topics.insert_channel(tx, elsewhere))
    assert await store.read(lambda tx: topics.leads_into(tx, OURS, topic.id, one.id))
    assert not await store.read(lambda tx: topics.leads_into(tx, OURS, topic.id, two.id))


async def test_topics_and_channels_go_with_their_organization_alone(store: Store) -> None:
    ours, theirs = await stored_topic(store, 5), await stored_topic(store, 6, THEIRS)
    await stored_channel(store, ours, (await three_queues(store))[0], 40)
    job = Job(OURS, row_id(90), "purge_organization")
    while not await store.write(lambda tx: purge.step(tx, job)):
        pass
    assert await store.read(lambda tx: topics.get(tx, OURS, ours.public_id)) is None
    assert await store.read(lambda tx: tx.rows("SELECT id FROM channel")) == []
    assert await store.read(lambda tx: topics.get(tx, THEIRS, theirs.public_id)) == theirs


async def test_a_topic_has_room_for_so_many_channels_and_so_has_a_queue(store: Store) -> None:
    topic, (queue, other, _) = await stored_topic(store, 5), await three_queues(store)
    channel = a_channel(topic, queue, 400)

    async def fill(tx: Transaction, column: str, count: int) -> None:
        for number in range(count):
            full = {"topic": msgspec.structs.replace(channel, queue=other.id + number)}
            full["queue"] = msgspec.structs.replace(channel, topic=topic.id + 1 + number)
            row = msgspec.structs.replace(
                full[column], id=row_id(500 + number), public_id=public_id(500 + number), alias=f"filling-{number}"
            )
            await topics.insert_channel(tx, row)

    for column, most in (("topic", topics.MAX_PER_TOPIC), ("queue", topics.MAX_PER_QUEUE)):
        await store.write(partial(fill, column=column, count=most - 1))
        assert await store.read(lambda tx: topics.has_room(tx, channel))
        await store.write(lambda tx: topics.insert_channel(tx, msgspec.structs.replace(channel)))
        assert not await store.read(lambda tx: topics.has_room(tx, channel))
        await store.write(lambda tx: tx.execute("DELETE FROM channel"))
