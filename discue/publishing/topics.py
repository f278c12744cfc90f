"""Publishing to topics: messages go by channels into queues, into all of theirs in one commit or into none."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from discue.auth.control_plane_cache import QueueRecord
from discue.auth.topic_routes import TopicRecord, Way
from discue.domain.errors import Fault, NotFound, PayloadTooLarge, Unavailable, Unprocessable
from discue.domain.idempotency import IdempotencyKey
from discue.domain.messages import Entry, MessageOptions, encode_options
from discue.domain.quotas import PublishUsage
from discue.publishing.publish import NewMessage, Publisher, entry_for, size_fault, violations_of
from discue.store import topics
from discue.store.engine import (
    AlreadyDone,
    Append,
    IdempotencyRecord,
    NewEntry,
    SharedBody,
    StaleConfiguration,
    TopicAppend,
    UniqueViolation,
)

MOST_ROWS = 5_000
"""In all queues together the messages of one request are at most so many."""

_TRIES = 5
_NO_OPTIONS = MessageOptions()

_pack: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode


class RoutedMessage(msgspec.Struct, frozen=True, array_like=True):
    """A message that was published to a topic. `queues` are the public ids of those that it went into."""

    id: str
    alias: str | None
    queues: tuple[str, ...]


_unpack = msgspec.msgpack.Decoder(tuple[RoutedMessage, ...]).decode


class RoutedMessages(msgspec.Struct, frozen=True):
    """Messages in the order in which they were given, and when they were stored."""

    messages: tuple[RoutedMessage, ...]
    stored_at: int


class _Destination(msgspec.Struct):
    """A queue, the channel that leads into it, and which of the drafts go there."""

    queue: QueueRecord
    channel: str
    drafts: list[int]


async def publish_to_topic(
    publisher: Publisher, topic: TopicRecord, drafts: Sequence[NewMessage], *, once: IdempotencyKey | None = None
) -> RoutedMessages:
    """Store messages in the queues that the topic's channels choose: all, or none.

    One that no channel takes is stored nowhere. With an idempotency key they are stored at most once: AlreadyDone says
    that they, or others, were. Raises NotFound when the topic is gone, and what publishing to a queue raises: for what
    breaks a rule of any of its queues, nothing is stored.
    """
    ids = [publisher.public_ids.next() for _ in drafts]
    for _ in range(_TRIES):
        try:
            return await _publish(publisher, topic, ids, drafts, once)
        except StaleConfiguration:
            await publisher.cache.catch_up()
            topic = await publisher.cache.topic(topic.organization, topic.public_id)
        except UniqueViolation as error:
            if once is None:
                raise
            # Another worker kept the key at the same moment.
            raise AlreadyDone from error
    raise Unavailable("The topic's channels, or their queues, keep changing. Try again soon.")


def stored_routed_messages(content: bytes) -> tuple[RoutedMessage, ...]:
    """The messages that an idempotency key was used for, from what is kept with it."""
    return _unpack(content)


async def _publish(
    publisher: Publisher,
    topic: TopicRecord,
    ids: Sequence[str],
    drafts: Sequence[NewMessage],
    once: IdempotencyKey | None,
) -> RoutedMessages:
    """Raises StaleConfiguration when something is not as it was known."""
    destinations = await _destinations(publisher, topic, drafts)
    queues_of: list[list[str]] = [[] for _ in drafts]
    for each in destinations:
        for index in each.drafts:
            queues_of[index].append(each.queue.public_id)
    placed = [
        RoutedMessage(public_id, draft.alias, tuple(sorted(queues)))
        for public_id, draft, queues in zip(ids, drafts, queues_of, strict=True)
    ]
    kept = None
    if once is not None:
        kept = IdempotencyRecord(once.hash, once.fingerprint, _pack(placed), publisher.row_ids.next())
    now = publisher.clock.now()
    if not destinations:
        await _keep_unrouted(publisher, topic, kept, now)
        return RoutedMessages(tuple(placed), now)
    routed = _routed(publisher, topic, destinations, (ids, drafts))
    first = msgspec.structs.replace(routed.appends[0], idempotency_record=kept)
    routed = msgspec.structs.replace(routed, appends=(first, *routed.appends[1:]))
    return RoutedMessages(tuple(placed), await _store(publisher, topic, routed))


async def _store(publisher: Publisher, topic: TopicRecord, routed: TopicAppend) -> int:
    """When it was stored."""
    if topic.quotas is None:
        appended = await publisher.store.append_to_topic(routed)
    else:
        async with publisher.quotas.room(
            topic.organization, topic.quotas, PublishUsage(routed.rows, routed.bytes_in_queues)
        ):
            appended = await publisher.store.append_to_topic(routed)
    return appended[0].entries[0].stored_at


async def _keep_unrouted(publisher: Publisher, topic: TopicRecord, once: IdempotencyRecord | None, now: int) -> None:
    """The store is asked even where nothing is stored: a channel may have been made a moment ago, by another worker."""
    key = (topic.organization, topic.id, topic.routes_version)
    work = partial(topics.store_unrouted, key=key, idempotency_record=once, now=now)
    await (publisher.store.read(work) if once is None else publisher.store.write(work))


async def _destinations(publisher: Publisher, topic: TopicRecord, drafts: Sequence[NewMessage]) -> list[_Destination]:
    """By the queues' row ids: in this order their heads are locked. Raises Unprocessable and PayloadTooLarge."""
    chosen: list[tuple[Way, list[int]]] = []
    seen = [(_subject_of(draft), _as_filters_see(draft)) for draft in drafts]
    for way in topic.ways:
        indexes = [index for index, (subject, entry) in enumerate(seen) if way.takes(subject, entry)]
        if indexes:
            chosen.append((way, indexes))
    rows = sum(len(indexes) for _, indexes in chosen)
    if rows > MOST_ROWS:
        rule = f"would be {rows} messages in all queues together; at most {MOST_ROWS} are allowed at once"
        raise Unprocessable(f"The batch {rule}.", faults=(Fault("/messages", rule),))
    destinations = []
    for way, indexes in chosen:
        try:
            queue = await publisher.cache.queue(topic.organization, way.queue)
        except NotFound:
            # It was deleted, and the channel with it.
            raise StaleConfiguration from None
        destination = _Destination(queue, way.alias, indexes)
        _check(destination, drafts)
        destinations.append(destination)
    return sorted(destinations, key=_queue_of)


def _check(destination: _Destination, drafts: Sequence[NewMessage]) -> None:
    """What each queue asks of messages holds for those that come by a channel, too."""
    queue, channel = destination.queue, destination.channel
    limit = queue.max_message_bytes
    for index in destination.drafts:
        if len(drafts[index].body) > limit:
            sentence = f"A message of the queue {queue.public_id}, to which the channel {channel} leads,"
            fault = size_fault(drafts[index], limit)
            raise PayloadTooLarge(f"{sentence} has at most {limit} bytes.", faults=(fault,))
    if queue.checker is None:
        return
    faults = violations_of(queue.checker, [drafts[index] for index in destination.drafts])
    if faults:
        owner = f"The schema of the queue {queue.public_id}, to which the channel {channel} leads,"
        sentence = f"{owner} does not allow this: {faults[0].pointer} {faults[0].detail}."
        raise Unprocessable(sentence, faults=faults)


def _routed(
    publisher: Publisher,
    topic: TopicRecord,
    destinations: Sequence[_Destination],
    messages: tuple[Sequence[str], Sequence[NewMessage]],
) -> TopicAppend:
    ids, drafts = messages
    uses = Counter(index for each in destinations for index in each.drafts)
    bodies = {
        index: SharedBody(publisher.row_ids.next(), drafts[index].body, count)
        for index, count in uses.items()
        if count > 1
    }
    made: dict[tuple[int, bool], NewEntry] = {}
    now = publisher.clock.now()
    appends = []
    for each in destinations:
        queue = each.queue
        for index in each.drafts:
            if (index, queue.ordered) not in made:
                body_id = bodies[index].id if index in bodies else None
                made[index, queue.ordered] = entry_for(
                    ids[index], drafts[index], ordered=queue.ordered, body_id=body_id
                )
        entries = tuple(made[index, queue.ordered] for index in each.drafts)
        appends.append(Append(queue.organization, queue.id, queue.config_version, now, entries))
    return TopicAppend(topic.organization, topic.id, topic.routes_version, tuple(appends), tuple(bodies.values()))


def _subject_of(draft: NewMessage) -> str | None:
    return None if draft.options is None else draft.options.subject


def _as_filters_see(draft: NewMessage) -> Entry:
    extra = encode_options(draft.options or _NO_OPTIONS) or b""
    return Entry(0, "", 0, draft.is_json, draft.body, extra=extra)


def _queue_of(destination: _Destination) -> int:
    return destination.queue.id
