"""Publishing to topics. Messages are routed by channels into queues: into all of them in one commit, or into none."""

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from functools import partial

import msgspec

from discue.auth.control_plane_cache import QueueRecord, TopicRecord, Way
from discue.domain.errors import NotFound, PayloadTooLarge, Unavailable, Unprocessable, invalid
from discue.domain.idempotency import IdempotencyKey
from discue.domain.messages import Entry, MessageOptions, encode_options
from discue.domain.quotas import PublishUsage
from discue.publishing.publish import (
    TRIES,
    NewMessage,
    Publisher,
    check_schema,
    check_sizes,
    check_types,
    entry_for,
    is_any_recorded,
    record_of,
    recorded_publish,
)
from discue.store import topics
from discue.store.engine import Append, IdempotencyRecord, NewEntry, SharedBody, StaleConfiguration, TopicAppend
from discue.store.time_slice import TimeSlice

MAX_ROWS = 5_000
"""Limit of rows per request, over all queues together."""

_NO_OPTIONS = MessageOptions()
_NOTHING = nullcontext()

_Destinations = list[tuple[QueueRecord, list[int]]]
"""Queues, each with the indexes of the messages routed there."""


class RoutedMessage(msgspec.Struct, frozen=True, array_like=True):
    """A message that was published to a topic, and the public ids of the queues that received it."""

    id: str
    alias: str | None
    queues: tuple[str, ...]
    deliver_at: int | None
    """When it is due, in milliseconds since the epoch; None: at once."""


stored_routed_messages = msgspec.msgpack.Decoder(tuple[RoutedMessage, ...]).decode
"""Returns the messages of an earlier request, from the content stored with its idempotency key."""


class RoutedMessages(msgspec.Struct, frozen=True):
    """Published messages in the order of the request, and the time at which they were stored."""

    messages: tuple[RoutedMessage, ...]
    stored_at: int


async def publish_to_topic(
    publisher: Publisher,
    topic: TopicRecord,
    messages: Sequence[NewMessage],
    *,
    once: IdempotencyKey | None = None,
    name: str = "",
) -> RoutedMessages:
    """Store messages in the queues of all channels that accept them: all messages, or none.

    A message that no channel accepts is not stored. `name` is the alias that the topic must still have, if it was found
    by it. Raises NotFound if the topic was deleted or has another alias, AlreadyDone if the idempotency key was used
    before, and what `publish` raises for any of the queues.
    """
    ids = [publisher.public_ids.next() for _ in messages]
    # Kept between tries: a channel that did not change takes the same messages again.
    taken: dict[Way, list[int]] = {}
    recorded: AbstractContextManager[None] = _NOTHING
    if publisher.tracer is not None and is_any_recorded(publisher.tracer, messages):
        recorded = recorded_publish(publisher.tracer, topic.alias, ids, messages)
    with recorded:
        is_refused = False
        for _ in range(TRIES):
            version = publisher.cache.version
            try:
                return await _publish(publisher, topic, ids, messages, taken=taken, once=once)
            except StaleConfiguration:
                await publisher.cache.catch_up()
            except (PayloadTooLarge, Unprocessable):
                await publisher.cache.catch_up()
                if is_refused or publisher.cache.version == version:
                    raise
                # Another worker may have just changed the topic, its queues or the event types.
                is_refused = True
            topic = await publisher.cache.topic(topic.organization, topic.public_id)
            if name and topic.alias != name:
                # Renamed by another worker. Another topic may have the name by now.
                raise NotFound
        raise Unavailable("Channels or queues of the topic changed during the request. Try again.")


async def _publish(
    publisher: Publisher,
    topic: TopicRecord,
    ids: Sequence[str],
    messages: Sequence[NewMessage],
    *,
    taken: dict[Way, list[int]],
    once: IdempotencyKey | None,
) -> RoutedMessages:
    """Publish once. Raises StaleConfiguration if the cached topic or a cached queue is outdated."""
    if topic.has_known_types:
        await check_types(publisher.cache, topic.organization, messages)
    await _match(topic.ways, messages, taken)
    destinations = await _destinations(publisher, topic, messages, taken)
    queues_of: list[list[str]] = [[] for _ in messages]
    for queue, indexes in destinations:
        for index in indexes:
            queues_of[index].append(queue.public_id)
    placed = [
        RoutedMessage(public_id, message.alias, tuple(sorted(queues)), message.deliver_at)
        for public_id, message, queues in zip(ids, messages, queues_of, strict=True)
    ]
    kept = None if once is None else record_of(publisher, once, placed)
    now, kept_bytes = publisher.clock.now(), 0 if kept is None else kept.size
    if not destinations:
        # This also checks that no other worker has just added a channel.
        key = (topic.organization, topic.id, topic.routes_version)
        work = partial(topics.store_unrouted, key=key, idempotency_record=kept, now=now)
        if kept is None:
            await publisher.store.read(work)
        else:
            async with _reserved(publisher, topic, PublishUsage(bytes=kept_bytes)):
                await publisher.store.write(work)
        return RoutedMessages(tuple(placed), now)
    routed = _routed(publisher, topic, destinations, ids, messages=messages, once=kept)
    async with _reserved(publisher, topic, PublishUsage(routed.rows, routed.bytes_in_queues + kept_bytes)):
        appended = await publisher.store.append_to_topic(routed)
    return RoutedMessages(tuple(placed), appended[0].entries[0].stored_at)


def _reserved(publisher: Publisher, topic: TopicRecord, more: PublishUsage) -> AbstractAsyncContextManager[None]:
    return _NOTHING if topic.quotas is None else publisher.quotas.reserve(topic.account, topic.quotas, more)


async def _match(ways: Sequence[Way], messages: Sequence[NewMessage], taken: dict[Way, list[int]]) -> None:
    """Add the indexes of the messages that each channel takes to `taken`, unless they are known."""
    # A filter may take milliseconds for each message, so other tasks run in between.
    time_slice = TimeSlice()
    seen = []
    for message in messages:
        options = message.options or _NO_OPTIONS
        extra = encode_options(options) or b""
        seen.append((options.type, Entry(0, "", 0, message.codec, message.body, extra=extra)))
    for way in ways:
        if way in taken:
            continue
        indexes = []
        for index, (event_type, entry) in enumerate(seen):
            if way.takes(event_type, entry):
                indexes.append(index)
            await time_slice.pause_if_over()
        taken[way] = indexes


async def _destinations(
    publisher: Publisher, topic: TopicRecord, messages: Sequence[NewMessage], taken: dict[Way, list[int]]
) -> _Destinations:
    """Return the destinations by row id of the queue. Raises Unprocessable and PayloadTooLarge."""
    chosen = [(way, taken[way]) for way in topic.ways if taken[way]]
    rows = sum(len(indexes) for _, indexes in chosen)
    if rows > MAX_ROWS:
        raise invalid(
            "/messages", f"would store {rows} messages in all queues together; the limit is {MAX_ROWS}", code="too_many"
        )
    destinations: _Destinations = []
    time_slice = TimeSlice()
    for way, indexes in chosen:
        await time_slice.pause_if_over()
        try:
            queue = await publisher.cache.queue(topic.organization, way.queue)
        except NotFound:
            # The queue was deleted, and the channel with it.
            raise StaleConfiguration from None
        routed, name = [messages[index] for index in indexes], f"the queue {queue.public_id} (channel {way.alias})"
        check_sizes(routed, queue.max_message_bytes, destination=name)
        if queue.checker is not None:
            await check_schema(routed, queue.checker, destination=name)
        destinations.append((queue, indexes))
    # The order in which their heads are locked.
    return sorted(destinations, key=lambda each: each[0].id)


def _routed(
    publisher: Publisher,
    topic: TopicRecord,
    destinations: _Destinations,
    ids: Sequence[str],
    *,
    messages: Sequence[NewMessage],
    once: IdempotencyRecord | None,
) -> TopicAppend:
    uses = Counter(index for _, indexes in destinations for index in indexes)
    # A body that goes to several queues is stored once, and deleted with the last of its messages.
    bodies = {
        index: SharedBody(publisher.row_ids.next(), messages[index].body, count)
        for index, count in uses.items()
        if count > 1
    }
    # Queues share an entry, except that only ordered ones need a key hash for messages without a key.
    made: dict[tuple[int, bool], NewEntry] = {}
    now = publisher.clock.now()
    appends: list[Append] = []
    for queue, indexes in destinations:
        for index in indexes:
            if (index, queue.ordered) not in made:
                body_id = bodies[index].id if index in bodies else None
                made[index, queue.ordered] = entry_for(
                    ids[index], messages[index], ordered=queue.ordered, body_id=body_id
                )
        entries = tuple(made[index, queue.ordered] for index in indexes)
        # The first one holds the idempotency record for all.
        kept = None if appends else once
        appends.append(Append(queue.organization, queue.id, queue.config_version, now, entries, kept))
    return TopicAppend(topic.organization, topic.id, topic.routes_version, tuple(appends), tuple(bodies.values()))
