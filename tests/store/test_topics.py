"""Topics and their channels."""

from functools import partial

import msgspec

from discue.domain.model import Channel, Queue, Topic
from discue.store import purge, topics
from discue.store.engine import Transaction
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
