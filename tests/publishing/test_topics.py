"""Topics: who may make and change them and their channels, and where what is published to them goes."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import msgspec
import pytest

from discue.control import messages, queues, topics
from discue.control.queues import QueueFields
from discue.control.topics import ChannelFields
from discue.domain.aliases import NameFields
from discue.domain.errors import Forbidden, NotFound, PayloadTooLarge, QuotaExceeded, Unprocessable
from discue.domain.message_data import JSON_VALUE, TEXT
from discue.domain.messages import NO_KEY_HASH, MessageOptions, hash_key
from discue.domain.model import Channel, Queue, Topic
from discue.domain.schemas import parse_schema
from discue.domain.scopes import Scope
from discue.publishing.publish import NewMessage, Publisher
from discue.publishing.topics import MAX_ROWS, RoutedMessages, publish_to_topic
from discue.store.pagination import Selection
from tests.support.cast import Cast, control_of, publisher_of


async def a_topic(cast: Cast) -> Topic:
    return (await topics.create(cast.control, cast.alice.principal, NameFields())).topic


async def a_queue(cast: Cast, **fields: Any) -> Queue:
    return (await queues.create(cast.control, cast.alice.principal, QueueFields(**fields))).queue


async def a_channel(cast: Cast, topic: Topic, queue: Queue, **fields: Any) -> Channel:
    asked = ChannelFields(queue=queue.public_id, **fields)
    return await topics.create_channel(cast.control, cast.alice.principal, topic.public_id, asked)


def a_draft(data: bytes = b'{"n":1}', **options: Any) -> NewMessage:
    return NewMessage(data, codec=JSON_VALUE, options=MessageOptions(**options))


async def published(publisher: Publisher, topic: Topic, *drafts: NewMessage) -> RoutedMessages:
    record = await publisher.cache.topic(topic.organization, topic.public_id)
    return await publish_to_topic(publisher, record, drafts)


async def ids_in(cast: Cast, *of: Queue) -> list[list[str]]:
    """The ids of the messages in each queue, the oldest first."""
    found = []
    for queue in of:
        page = await messages.page_of_queue(cast.control, cast.alice.principal, queue.public_id, Selection(100))
        found.append([message.id for message in page.items][::-1])
    return found


async def test_message_is_routed_by_every_channel_that_matches(cast: Cast) -> None:
    topic, into = await a_topic(cast), [await a_queue(cast) for _ in range(4)]
    await a_channel(cast, topic, into[0])
    await a_channel(cast, topic, into[1], pattern="orders.*.paid")
    await a_channel(cast, topic, into[2], filter='{"data": {"n": {"$gt": 1}}}')
    await a_channel(cast, topic, into[3], pattern="orders.>", filter='{"key": "x"}')
    drafts = [
        a_draft(),
        a_draft(b'{"n":2}', type="orders.eu.paid"),
        a_draft(b'{"n":3}', type="orders.eu", key="x"),
        a_draft(b'{"n":0}', type="stock.eu", key="x"),
    ]
    answer = await published(publisher_of(cast.control), topic, *drafts)
    expected = [[0], [0, 1, 2], [0, 2, 3], [0]]
    assert [sorted(message.queues) for message in answer.messages] == [
        sorted(into[number].public_id for number in numbers) for numbers in expected
    ]
    ids = [message.id for message in answer.messages]
    assert await ids_in(cast, *into) == [
        [ids[number] for number in range(4) if queue in expected[number]] for queue in range(4)
    ]


async def test_worker_with_an_outdated_cache_routes_by_new_channels(cast: Cast) -> None:
    topic, one, other = await a_topic(cast), await a_queue(cast), await a_queue(cast)
    elsewhere = control_of(cast.control.store, cast.clock)
    await elsewhere.cache.open()
    publisher = publisher_of(elsewhere)
    assert (await published(publisher, topic, a_draft())).messages[0].queues == ()
    channel = await a_channel(cast, topic, one)
    assert (await published(publisher, topic, a_draft())).messages[0].queues == (one.public_id,)
    await topics.delete_channel(cast.control, cast.alice.principal, topic.public_id, channel.public_id)
    await a_channel(cast, topic, other)
    assert (await published(publisher, topic, a_draft())).messages[0].queues == (other.public_id,)
    await queues.delete(cast.control, cast.alice.principal, other.public_id)
    assert (await published(publisher, topic, a_draft())).messages[0].queues == ()
    await topics.delete(cast.control, cast.alice.principal, topic.public_id)
    with pytest.raises(NotFound):
        await published(publisher, topic, a_draft())


async def test_worker_with_an_outdated_cache_accepts_what_a_queue_allows_now(cast: Cast) -> None:
    topic, queue = await a_topic(cast), await a_queue(cast, max_message_bytes=10)
    await a_channel(cast, topic, queue)
    elsewhere = control_of(cast.control.store, cast.clock)
    await elsewhere.cache.open()
    draft = NewMessage(b"x" * 11, TEXT)
    for limit in (10, 11, 10):
        await queues.change(cast.control, cast.alice.principal, queue.public_id, QueueFields(max_message_bytes=limit))
        with nullcontext() if limit == 11 else pytest.raises(PayloadTooLarge):
            await published(publisher_of(elsewhere), topic, draft)
    assert [len(ids) for ids in await ids_in(cast, queue)] == [1]


async def refused(cast: Cast, topic: Topic, into: Sequence[Queue], *drafts: NewMessage) -> Exception:
    """Return the error of a publish; no queue has stored anything."""
    with pytest.raises((Unprocessable, PayloadTooLarge, QuotaExceeded)) as caught:
        await published(publisher_of(cast.control), topic, *drafts)
    assert await ids_in(cast, *into) == [[] for _ in into]
    return caught.value


async def test_message_that_violates_one_schema_is_stored_in_no_queue(cast: Cast) -> None:
    topic, plain = await a_topic(cast), await a_queue(cast)
    schema = parse_schema(b'{"n": {"type": "number", "min": 5}}', "rules")
    strict = await a_queue(cast, schema=schema)
    await a_channel(cast, topic, plain)
    channel = await a_channel(cast, topic, strict, alias="strict", pattern="orders.>")
    broken = msgspec.structs.replace(a_draft(type="orders.eu"), pointer="/messages/1/data")
    error = await refused(cast, topic, (plain, strict), a_draft(b'{"n":7}'), broken)
    assert isinstance(error, Unprocessable)
    assert [fault.pointer for fault in error.faults] == ["/messages/1/data/n"]
    assert all(text in str(error) for text in (channel.alias, strict.public_id))
    # A message that is not routed into that queue need not fit.
    assert (await published(publisher_of(cast.control), topic, a_draft())).messages[0].queues == (plain.public_id,)


async def test_message_too_large_for_one_queue_is_stored_in_no_queue(cast: Cast) -> None:
    topic, large, small = (
        await a_topic(cast),
        await a_queue(cast),
        await a_queue(cast, max_message_bytes=4),
    )
    await a_channel(cast, topic, large)
    await a_channel(cast, topic, small, alias="small")
    error = await refused(cast, topic, (large, small), a_draft(b"12345"))
    assert isinstance(error, PayloadTooLarge)
    assert "small" in str(error)
    assert error.faults[0].pointer == "/data"


async def test_request_stores_at_most_5000_rows_in_all_queues(cast: Cast) -> None:
    topic, into = await a_topic(cast), [await a_queue(cast) for _ in range(6)]
    for queue in into:
        await a_channel(cast, topic, queue, filter='{"data": {"n": {"$exists": true}}}')
    error = await refused(cast, topic, into, *[a_draft()] * (MAX_ROWS // 6 + 1))
    assert isinstance(error, Unprocessable)
    assert error.faults[0].pointer == "/messages"


async def test_concurrent_publishes_have_one_order_in_all_queues(cast: Cast) -> None:
    topic, into = await a_topic(cast), [await a_queue(cast) for _ in range(2)]
    for queue in into:
        await a_channel(cast, topic, queue)
    publisher = publisher_of(cast.control)
    answers = await asyncio.gather(*[published(publisher, topic, a_draft()) for _ in range(40)])
    one, other = await ids_in(cast, *into)
    assert one == other
    assert sorted(one) == sorted(answer.messages[0].id for answer in answers)


async def test_message_without_a_key_has_a_key_hash_only_in_ordered_queues(cast: Cast) -> None:
    topic, ordered, plain = await a_topic(cast), await a_queue(cast, ordered=True), await a_queue(cast)
    for queue in (ordered, plain):
        await a_channel(cast, topic, queue)
    await published(publisher_of(cast.control), topic, a_draft(key="k"), a_draft())
    sql = "SELECT key_hash FROM log WHERE queue = $1 ORDER BY seq"
    for queue, expected in ((ordered, [hash_key("k"), NO_KEY_HASH]), (plain, [hash_key("k"), None])):
        rows = await cast.control.store.read(lambda tx, of=queue.id: tx.rows(sql, of))  # type: ignore[misc]
        assert [row[0] for row in rows] == expected


async def test_channel_needs_a_queue_of_its_own_organization(cast: Cast) -> None:
    topic = await a_topic(cast)
    theirs = (await queues.create(cast.control, cast.charlie.principal, QueueFields())).queue
    for queue in (theirs, msgspec.structs.replace(theirs, public_id="0" * 21)):
        with pytest.raises(Unprocessable) as caught:
            await a_channel(cast, topic, queue)
        assert caught.value.faults[0].pointer == "/queue_id"
    with pytest.raises(NotFound):
        await cast.control.cache.topic(cast.charlie.principal.organization, topic.public_id)


async def test_limited_key_creates_channels_between_its_targets(cast: Cast) -> None:
    topic, one, other = await a_topic(cast), await a_queue(cast), await a_queue(cast)
    bob = await cast.bob({"channels": Scope("write", (topic.public_id, one.public_id))})
    create = partial(topics.create_channel, cast.control, bob.principal, topic.public_id)
    with pytest.raises(Forbidden):
        await create(ChannelFields(queue=other.public_id))
    made = await create(ChannelFields(queue=one.public_id))
    assert (made.queue_public_id, made.topic_public_id) == (one.public_id, topic.public_id)


async def test_channel_is_found_only_under_its_topic(cast: Cast) -> None:
    topic, other = await a_topic(cast), await a_topic(cast)
    made = await a_channel(cast, topic, await a_queue(cast))
    with pytest.raises(NotFound):
        await topics.get_channel(cast.control, cast.alice.principal, other.public_id, made.public_id)
