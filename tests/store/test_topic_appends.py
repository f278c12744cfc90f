"""Messages of topics: in all of their queues or in none, with one body and one id."""

import asyncio
from collections.abc import Iterable
from functools import partial

import msgspec
import pytest

from discue.domain.message_data import JSON_VALUE, TEXT
from discue.domain.model import Queue, Topic
from discue.store import attempts, direct_appends, messages, purge, queues, tallies, topics
from discue.store.engine import (
    AlreadyDone,
    Append,
    Appended,
    Batch,
    IdempotencyRecord,
    NewEntry,
    SharedBody,
    StaleConfiguration,
    TopicAppend,
)
from discue.store.pagination import Selection
from discue.store.purge import Job, LogToTrim
from discue.store.store import Store
from tests.store.rows import public_id, publish, row_id, stored_message, stored_queue
from tests.store.walks import Pages, check
from tests.support.clocks import NOON

OURS, THEIRS = row_id(1), row_id(2)
BODY = b'"shared by several"'
FRESH_KEY = IdempotencyRecord((7, 8), b"fingerprint", b"content", row_id(100))


async def stored_topic(store: Store, number: int, organization: int = OURS) -> Topic:
    topic = Topic(organization, row_id(number), public_id(number), f"topic-{number}", 1, NOON, NOON)
    await store.write(lambda tx: topics.insert(tx, topic))
    return topic


def topic_appends(
    topic: Topic,
    into: Iterable[Queue],
    number: int,
    *,
    idempotency_record: IdempotencyRecord | None = None,
    due_at: int | None = None,
    now: int = NOON,
) -> TopicAppend:
    """Return an append of a message whose body is shared by its queues, in the order of their keys."""
    body = SharedBody(row_id(number), BODY, 0)
    entry = NewEntry(public_id(number), JSON_VALUE, BODY, due_at=due_at, body_id=body.id)
    appends = [Append(topic.organization, queue.id, queue.config_version, now, (entry,)) for queue in into]
    if idempotency_record is not None:
        # Each request has an id of its own, also one that repeats another.
        appends[0] = msgspec.structs.replace(
            appends[0], idempotency_record=msgspec.structs.replace(idempotency_record, id=row_id(number))
        )
    shared = (msgspec.structs.replace(body, uses=len(appends)),)
    return TopicAppend(topic.organization, topic.id, topic.routes_version, tuple(appends), shared)


async def ids_in(store: Store, queue: Queue) -> list[str]:
    return [entry.id for entry in (await store.page(queue.organization, queue.id, 0, 100, max_bytes=1 << 20)).entries]


async def bodies_of(store: Store) -> list[int]:
    """Read how many rows use each shared body, oldest first."""
    return [row[0] for row in await store.read(lambda tx: tx.rows("SELECT uses FROM body ORDER BY id"))]


async def three_queues(store: Store) -> list[Queue]:
    return [await stored_queue(store, OURS, number) for number in (10, 11, 12)]


@pytest.fixture
def topic(runner: asyncio.Runner, store: Store) -> Topic:
    return runner.run(stored_topic(store, 5))


@pytest.fixture
def into(runner: asyncio.Runner, store: Store) -> list[Queue]:
    return runner.run(three_queues(store))


async def test_glance_has_the_first_bytes_of_a_shared_body(store: Store) -> None:
    topic, into = await stored_topic(store, 5), [await stored_queue(store, OURS, number) for number in (10, 11)]
    await store.append_to_topic(topic_appends(topic, into, 20))
    keys = {(queue.id, 1): False for queue in into}
    found = await store.read(lambda tx: attempts.glances(tx, OURS, keys, 7))
    assert [found[key].start for key in keys] == [BODY[:7], BODY[:7]]


async def test_a_message_is_in_each_queue_with_one_id_and_one_body(store: Store) -> None:
    topic, into = await stored_topic(store, 5), await three_queues(store)
    await publish(store, into[1], [public_id(20)])
    answers = await store.append_to_topic(topic_appends(topic, into, 30))
    assert [(answer.queue, answer.entries[0].seq) for answer in answers] == [
        (into[0].id, 1),
        (into[1].id, 2),
        (into[2].id, 1),
    ]
    assert {answer.entries[0].body for answer in answers} == {BODY}
    for queue in into:
        page = await store.page(OURS, queue.id, 0, 100, max_bytes=1 << 20)
        assert [entry.body for entry in page.entries if entry.id == public_id(30)] == [BODY]
        message = await stored_message(store, queue, public_id(30))
        assert (message.queue, message.body, message.codec) == (queue.id, BODY, JSON_VALUE)
    assert await bodies_of(store) == [3]
    held = await store.read(lambda tx: tx.rows("SELECT body, size FROM log WHERE id = $1", public_id(30)))
    assert [tuple(row) for row in held] == [(None, len(BODY))] * 3


async def test_a_page_is_cut_by_the_size_of_shared_bodies(store: Store, topic: Topic, into: list[Queue]) -> None:
    for number in (30, 31, 32):
        await store.append_to_topic(topic_appends(topic, into, number))
    page = await store.page(OURS, into[0].id, 0, 100, max_bytes=2 * len(BODY))
    assert ([entry.id for entry in page.entries], page.through) == ([public_id(30), public_id(31)], 2)


async def test_batch_is_routed_message_by_message(store: Store) -> None:
    topic, (one, other, _) = await stored_topic(store, 5), await three_queues(store)
    shared = SharedBody(row_id(30), BODY, 2)
    both = NewEntry(public_id(30), JSON_VALUE, BODY, body_id=shared.id)
    alone = NewEntry(public_id(31), TEXT, b"alone", "an alias", expires_at=NOON + 1)
    appends = (Append(OURS, one.id, 1, NOON, (both, alone)), Append(OURS, other.id, 1, NOON, (both,)))
    answers = await store.append_to_topic(TopicAppend(OURS, topic.id, 1, appends, (shared,)))
    for queue, answer in zip((one, other), answers, strict=True):
        assert (await store.page(OURS, queue.id, 0, 100, max_bytes=1 << 20)).entries == answer.entries
    assert [len(answer.entries) for answer in answers] == [2, 1]


async def test_publish_is_stored_nowhere_if_topic_or_queue_changed(store: Store) -> None:
    topic, into = await stored_topic(store, 5), await three_queues(store)
    changed = msgspec.structs.replace(into[2], config_version=2)
    assert await store.write(lambda tx: queues.update(tx, changed))
    with pytest.raises(StaleConfiguration):
        await store.append_to_topic(topic_appends(topic, into, 30))
    into[2] = changed
    await store.write(lambda tx: topics.reroute(tx, OURS, topic.id))
    with pytest.raises(StaleConfiguration):
        await store.append_to_topic(topic_appends(topic, into, 30))
    topic = msgspec.structs.replace(topic, routes_version=2)
    await store.write(lambda tx: queues.mark_deleted(tx, OURS, into[0].id, NOON))
    with pytest.raises(StaleConfiguration):
        await store.append_to_topic(topic_appends(topic, into, 30))
    assert [await ids_in(store, queue) for queue in into] == [[], [], []]
    assert await bodies_of(store) == []
    assert await store.read(lambda tx: tallies.bytes_stored(tx, OURS)) == 0
    await store.append_to_topic(topic_appends(topic, into[1:], 31))
    assert [await ids_in(store, queue) for queue in into] == [[], [public_id(31)], [public_id(31)]]


async def test_stale_topic_append_does_not_affect_the_others(store: Store, topic: Topic, into: list[Queue]) -> None:
    stale = msgspec.structs.replace(topic, routes_version=7)
    batch = Batch(
        appends=[Append(OURS, into[0].id, 1, NOON, (NewEntry(public_id(40), JSON_VALUE, b"1"),))],
        topic_appends=[
            topic_appends(topic, into, 30),
            topic_appends(stale, into, 31),
            topic_appends(topic, into[1:], 32),
        ],
    )
    outcome = await store.engine.commit(batch)
    assert [type(answer) for answer in outcome.appends] == [Appended]
    assert [type(answer) for answer in outcome.topic_appends] == [tuple, StaleConfiguration, tuple]
    assert await ids_in(store, into[0]) == [public_id(40), public_id(30)]
    assert await ids_in(store, into[1]) == [public_id(30), public_id(32)]
    assert await bodies_of(store) == [3, 2]


async def test_topic_of_another_organization_is_refused(store: Store) -> None:
    topic, into = await stored_topic(store, 5, THEIRS), await three_queues(store)
    theirs = topic_appends(topic, into, 30)
    for organization in (OURS, THEIRS):
        appends = tuple(msgspec.structs.replace(each, organization=organization) for each in theirs.appends)
        with pytest.raises(StaleConfiguration):
            await store.append_to_topic(msgspec.structs.replace(theirs, organization=organization, appends=appends))
    assert [await ids_in(store, queue) for queue in into] == [[], [], []]


async def test_an_idempotency_key_is_for_all_queues_together(store: Store, topic: Topic, into: list[Queue]) -> None:
    await store.append_to_topic(topic_appends(topic, into, 30, idempotency_record=FRESH_KEY))
    with pytest.raises(AlreadyDone):
        await store.append_to_topic(topic_appends(topic, into[1:], 31, idempotency_record=FRESH_KEY))
    with pytest.raises(AlreadyDone):
        await store.append(Append(OURS, into[0].id, 1, NOON, (NewEntry(public_id(32), JSON_VALUE, b"1"),), FRESH_KEY))
    assert [await ids_in(store, queue) for queue in into] == [[public_id(30)]] * 3


async def test_first_of_two_publishes_with_one_key_in_a_batch_is_stored(store: Store) -> None:
    topic, into = await stored_topic(store, 5), await three_queues(store)
    batch = Batch(
        topic_appends=[topic_appends(topic, into, number, idempotency_record=FRESH_KEY) for number in (30, 31)]
    )
    outcome = await store.engine.commit(batch)
    assert [type(answer) for answer in outcome.topic_appends] == [tuple, AlreadyDone]
    assert await bodies_of(store) == [3]


async def test_unrouted_publish_stores_its_key_only_if_the_topic_is_unchanged(store: Store) -> None:
    topic = await stored_topic(store, 5)
    key = (OURS, topic.id, 1)
    await store.write(lambda tx: topics.store_unrouted(tx, key, FRESH_KEY, NOON))
    with pytest.raises(AlreadyDone):
        await store.write(lambda tx: topics.store_unrouted(tx, key, FRESH_KEY, NOON))
    await store.write(lambda tx: topics.reroute(tx, OURS, topic.id))
    with pytest.raises(StaleConfiguration):
        await store.write(lambda tx: topics.store_unrouted(tx, key, None, NOON))
    with pytest.raises(StaleConfiguration):
        await store.write(lambda tx: topics.store_unrouted(tx, (THEIRS, topic.id, 2), None, NOON))


async def test_workers_that_route_into_the_same_queues_never_deadlock(store: Store, second: Store) -> None:
    topic, into = await stored_topic(store, 5), await three_queues(store)
    ways = [into, into[1:], into[:2], [into[0], into[2]]]
    publishes = [
        each.append_to_topic(topic_appends(topic, ways[number % 4], 100 + 100 * worker + number))
        for worker, each in enumerate((store, second))
        for number in range(40)
    ]
    plain = [
        publish(each, queue, [public_id(900 + number)])
        for number, each in enumerate((store, second) * 3)
        for queue in into
    ]
    await asyncio.gather(*publishes, *plain)
    for queue in into:
        seqs = [entry.seq for entry in (await store.page(OURS, queue.id, 0, 100, max_bytes=1 << 20)).entries]
        assert seqs == list(range(1, 67))


async def test_a_shared_body_goes_with_the_last_message_that_names_it(store: Store) -> None:
    topic, into = await stored_topic(store, 5), await three_queues(store)
    for number in (30, 31):
        await store.append_to_topic(topic_appends(topic, into, number))
    first = await stored_message(store, into[0], public_id(30))
    assert await store.write(lambda tx: messages.delete(tx, first))
    assert await bodies_of(store) == [2, 3]
    trimmed = LogToTrim(OURS, into[1].id, 0, 2, None)
    await store.write(lambda tx: purge.trim_log(tx, trimmed, 0, NOON + 1))
    assert await bodies_of(store) == [1, 2]
    assert (await stored_message(store, into[2], public_id(30))).body == BODY
    await remove_queue(store, into[2])
    assert await bodies_of(store) == [1]
    await remove_queue(store, into[0])
    assert await bodies_of(store) == []
    assert await store.read(lambda tx: tallies.bytes_stored(tx, OURS)) == 0


async def remove_queue(store: Store, queue: Queue) -> None:
    await store.write(lambda tx: queues.mark_deleted(tx, OURS, queue.id, NOON))
    job = Job(OURS, row_id(90), "purge_queue", queue=queue.id)
    while not await store.write(lambda tx: purge.step(tx, job)):
        pass


async def test_concurrent_deletions_in_two_queues_delete_the_shared_body(store: Store) -> None:
    topic, into = await stored_topic(store, 5), await three_queues(store)
    for number in range(30, 50):
        await store.append_to_topic(topic_appends(topic, into, number))
    steps = [
        partial(purge.trim_log, log=LogToTrim(OURS, queue.id, 0, 20, None), after=0, stored_before=NOON + 1)
        for queue in into
    ]
    await asyncio.gather(*[store.write(step) for step in steps])
    assert [await ids_in(store, queue) for queue in into] == [[], [], []]
    assert await bodies_of(store) == []


async def test_delayed_topic_message_is_due_in_each_queue(store: Store, topic: Topic, into: list[Queue]) -> None:
    await store.append_to_topic(topic_appends(topic, into, 30, due_at=NOON + 5))
    due = await store.read(partial(direct_appends.due_messages, now=NOON + 5))
    assert [(message.queue, message.size) for message in due] == [((OURS, queue.id), len(BODY)) for queue in into]
    await store.write_exclusively(partial(direct_appends.append_due, messages=due, now=NOON + 5))
    for queue in into:
        page = await store.page(OURS, queue.id, 0, 100, max_bytes=1 << 20)
        assert [(entry.seq, entry.body) for entry in page.entries] == [(2, BODY)]


@pytest.mark.parametrize("per_page", [1, 2, 3, 50])
async def test_list_of_all_messages_has_a_shared_message_once(store: Store, per_page: int) -> None:
    topic, into = await stored_topic(store, 5), await three_queues(store)
    for number in (30, 32, 34):
        await store.append_to_topic(topic_appends(topic, into, number, now=NOON + number))
        await publish(store, into[0], [public_id(number + 1)], NOON + number + 1)
    expected = [public_id(number) for number in range(35, 29, -1)]

    def pages(*only: str) -> Pages:
        return lambda tx, selection: messages.page(tx, OURS, selection, set(only) or None)

    for listed in (
        pages(),
        pages(*(queue.public_id for queue in into)),
        pages(into[0].public_id, into[1].public_id, public_id(32)),
    ):
        await check(store, listed, Selection(per_page), expected)
    await check(store, pages(into[1].public_id, into[2].public_id), Selection(per_page), expected[1::2])
    await check(store, pages(*expected[3::2]), Selection(per_page), expected[3::2])
    # Of a deleted queue whose messages are still there, nothing is shown: of the others it is.
    await store.write(lambda tx: queues.mark_deleted(tx, OURS, into[2].id, NOON))
    await check(store, pages(), Selection(per_page), expected)


async def test_the_list_of_one_queue_goes_on_where_the_message_stands_in_it(store: Store) -> None:
    topic, into = await stored_topic(store, 5), await three_queues(store)
    for queue, number in zip(into, (20, 21, 22), strict=True):
        await publish(store, queue, [public_id(number), public_id(number + 3)])
    await store.append_to_topic(topic_appends(topic, into, 30))
    for queue, number in zip(into, (20, 21, 22), strict=True):
        after, called = Selection(after=public_id(30)), Selection(alias=public_id(30))
        page = await store.read(partial(messages.page_of_queue, queue=queue, selection=after))
        assert [message.id for message in page.items] == [public_id(number + 3), public_id(number)]
        page = await store.read(partial(messages.page_of_queue, queue=queue, selection=called))
        assert [message.queue for message in page.items] == [queue.id]
