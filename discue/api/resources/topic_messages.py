"""`/topics/{topic_id}/messages`, and its `/batch`."""

from collections.abc import Sequence
from urllib.parse import unquote

import msgspec

from discue.api import bodies, wire
from discue.api.event_bodies import EventBody
from discue.api.links import Links, LinkTarget, links_of
from discue.api.resources.messages import BATCH_BYTES, LONGEST_ESCAPE, draft_of, drafts_of, events_of
from discue.api.route import CREATE, SMALL_BODY, Call, Needs, Route
from discue.api.services import Services
from discue.auth.control_plane_cache import ControlPlaneCache
from discue.auth.topic_routes import TopicRecord
from discue.domain.errors import NotFound
from discue.domain.messages import MessageOptions
from discue.domain.scopes import Principal
from discue.domain.subjects import check_subject, is_subject
from discue.publishing.publish import NewMessage
from discue.publishing.topics import RoutedMessage, publish_to_topic, stored_routed_messages
from discue.store.idempotency import StoredResponse

_WRITE = Needs("messages", "write")
_NO_OPTIONS = MessageOptions()
_EVENT_SUBJECT = "ce-subject"


async def create(call: Call) -> wire.TopicMessage:
    if isinstance(call.body, EventBody):
        [draft] = _of_events(call.body)
    else:
        draft = _draft(draft_of(call, call.body, ""), call.body)
    topic = await _topic(call.control.cache, call.principal, call.ids)
    published = await publish_to_topic(call.services.publisher, topic, (draft,), once=call.once)
    return _created(call, published.messages, published.stored_at)


def create_again(call: Call, kept: StoredResponse) -> wire.TopicMessage:
    """What `create` answered."""
    return _created(call, stored_routed_messages(kept.content), kept.stored_at)


def _created(call: Call, placed: Sequence[RoutedMessage], stored_at: int) -> wire.TopicMessage:
    [message] = placed
    below = [LinkTarget(queue, queue, _place(call, queue, message)) for queue in message.queues]
    return wire.TopicMessage(message=_shown(message, stored_at), links=links_of(call.url, below))


async def create_batch(call: Call) -> wire.TopicMessages:
    drafts = _of_events(call.body) if isinstance(call.body, EventBody) else _drafts(call, call.body)
    topic = await _topic(call.control.cache, call.principal, call.ids)
    published = await publish_to_topic(call.services.publisher, topic, drafts, once=call.once)
    return _created_batch(call, published.messages, published.stored_at)


def create_batch_again(call: Call, kept: StoredResponse) -> wire.TopicMessages:
    """What `create_batch` answered."""
    return _created_batch(call, stored_routed_messages(kept.content), kept.stored_at)


def _created_batch(call: Call, placed: Sequence[RoutedMessage], stored_at: int) -> wire.TopicMessages:
    shown = [_shown(message, stored_at) for message in placed]
    return wire.TopicMessages(messages=shown, links=_links(call, placed))


def _links(call: Call, placed: Sequence[RoutedMessage]) -> Links:
    """Of each message that went anywhere, where it stands in the first of its queues."""
    below = [
        LinkTarget(message.alias or message.id, message.id, _place(call, message.queues[0], message))
        for message in placed
        if message.queues
    ]
    return links_of(call.url.removesuffix("/batch"), below)


async def message_limit(services: Services, principal: Principal, ids: tuple[str, ...]) -> int:
    """Bytes that the body of a publish can need: the largest message of its queues, however it is escaped."""
    cache = services.control.cache
    topic = await _topic(cache, principal, ids)
    limit = services.control.settings.max_message_bytes
    for way in topic.ways:
        try:
            limit = max(limit, (await cache.queue(principal.organization, way.queue)).max_message_bytes)
        except NotFound:
            # It was deleted a moment ago, and the channel with it.
            continue
    return limit * LONGEST_ESCAPE + SMALL_BODY


async def batch_limit(services: Services, principal: Principal, ids: tuple[str, ...]) -> int:
    """The same for every topic that exists."""
    await _topic(services.control.cache, principal, ids)
    return BATCH_BYTES


async def _topic(cache: ControlPlaneCache, principal: Principal, ids: tuple[str, ...]) -> TopicRecord:
    return await cache.topic(principal.organization, ids[0])


def _drafts(call: Call, body: bodies.TopicBatchBody) -> list[NewMessage]:
    return [_draft(*each) for each in zip(drafts_of(call, body), body.messages, strict=True)]


def _draft(draft: NewMessage, body: bodies.TopicMessageBody) -> NewMessage:
    if not isinstance(body.subject, str):
        return draft
    check_subject(body.subject, f"{draft.place}/subject")
    return _about(draft, body.subject)


def _of_events(body: EventBody) -> list[NewMessage]:
    """The subject of an event may be any text: what is none of ours goes by channels without a pattern."""
    drafts = events_of(body)
    subjects = [unquote(dict(event.headers).get(_EVENT_SUBJECT, "")) for event in body.events]
    return [
        _about(draft, subject) if is_subject(subject) else draft
        for draft, subject in zip(drafts, subjects, strict=True)
    ]


def _about(draft: NewMessage, subject: str) -> NewMessage:
    options = msgspec.structs.replace(draft.options or _NO_OPTIONS, subject=subject)
    return msgspec.structs.replace(draft, options=options)


def _place(call: Call, queue: str, message: RoutedMessage) -> str:
    return f"{call.base}/queues/{queue}/messages/{message.id}"


def _shown(message: RoutedMessage, stored_at: int) -> wire.TopicMessageShown:
    alias = message.alias or message.id
    return wire.TopicMessageShown(
        id=message.id,
        alias=alias,
        name=alias,
        queues=list(message.queues),
        created_at=stored_at,
        updated_at=stored_at,
    )


ROUTES = (
    Route(
        methods=CREATE,
        path="/topics/{topic_id}/messages",
        handler=create,
        request=bodies.TopicMessageBody,
        response=wire.TopicMessage,
        needs=_WRITE,
        statuses=(402, 404, 422),
        limit=message_limit,
        repeat=create_again,
        publishes=True,
        events="one",
        summary="Publish a message to a topic",
        description="It is durable in all queues that the topic's channels choose when the answer comes, or in none.",
        example={"subject": "orders.eu.paid", "data": {"order": 17}},
    ),
    Route(
        methods=("POST",),
        path="/topics/{topic_id}/messages/batch",
        handler=create_batch,
        request=bodies.TopicBatchBody,
        response=wire.TopicMessages,
        needs=_WRITE,
        statuses=(402, 404, 422),
        limit=batch_limit,
        repeat=create_batch_again,
        publishes=True,
        events="many",
        summary="Publish many messages to a topic",
        description="All of them or none.",
        example={"messages": [{"subject": "orders.eu.paid", "data": "one"}, {"data": {"two": 2}}]},
    ),
)
