"""Publishing to a topic."""

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import unquote

import msgspec
from msgspec import UNSET

from discue.api.decoding import EventBody
from discue.api.resources.messages import (
    BATCH,
    LONGEST_ESCAPE,
    MessageBody,
    least_batch_bytes,
    message_of_body,
    messages_of_batch,
    messages_of_events,
)
from discue.api.route import BATCH_BYTES, CREATE, POST, SMALL_BODY, Call, Needs, Route, Services
from discue.api.structs import (
    EXAMPLE_IDS,
    NOT_SENT,
    ApiResponse,
    Body,
    Ignored,
    LinkTarget,
    Text,
    View,
    doc,
    id_doc,
    links_of,
)
from discue.auth.control_plane_cache import ControlPlaneCache, TopicRecord
from discue.domain import subjects
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


class TopicMessageBody(MessageBody, kw_only=True):
    """A message to publish to a topic."""

    subject: Annotated[
        Text,
        doc(
            "The subject of the message: words separated by dots.",
            "orders.eu.paid",
            minLength=1,
            maxLength=subjects.MAX_CHARACTERS,
            pattern=subjects.SUBJECT,
        ),
    ] = UNSET
    queues: Ignored = NOT_SENT


class TopicBatchBody(Body, kw_only=True):
    """Messages to publish to a topic."""

    messages: Annotated[list[TopicMessageBody], BATCH]

    def least_bytes(self) -> int:
        return least_batch_bytes(self.messages)

    def opaque(self) -> Sequence[msgspec.Raw]:
        return [message.data for message in self.messages]


class TopicMessageView(View, kw_only=True, frozen=True):
    """A message that was published to a topic."""

    id: Annotated[str, id_doc("The id, the same in all queues.", "message_id")]
    queues: Annotated[
        list[str], doc("The ids of the queues that the message was published to.", [EXAMPLE_IDS["queue_id"]])
    ]


class TopicMessageResponse(ApiResponse, kw_only=True, frozen=True):
    """The message that was published."""

    message: Annotated[TopicMessageView, doc("The message.")]


class TopicMessagesResponse(ApiResponse, kw_only=True, frozen=True):
    """The messages that were published."""

    messages: Annotated[list[TopicMessageView], doc("The messages, in the order of the request.")]


async def create(call: Call) -> TopicMessageResponse:
    """Publish a message to a topic.

    When the response arrives, the message is durable in all queues that the topic's channels select, or in none.
    """
    body = call.body
    if isinstance(body, EventBody):
        [message] = _messages_of_events(body)
    else:
        message = _with_subject(message_of_body(call, body, ""), body, "")
    topic = await _topic(call.control.cache, call.principal, call.ids)
    published = await publish_to_topic(call.services.publisher, topic, (message,), once=call.idempotency_key)
    return _created(call, published.messages, published.stored_at)


def create_again(call: Call, stored: StoredResponse) -> TopicMessageResponse:
    """Recreate the response of `create`."""
    return _created(call, stored_routed_messages(stored.content), stored.stored_at)


def _created(call: Call, published: Sequence[RoutedMessage], stored_at: int) -> TopicMessageResponse:
    [message] = published
    below = [LinkTarget(queue, queue, _url(call, queue, message)) for queue in message.queues]
    return TopicMessageResponse(message=_view(message, stored_at), links=links_of(call.url, below))


async def create_batch(call: Call) -> TopicMessagesResponse:
    """Publish many messages to a topic. Publishes all of them or none."""
    body = call.body
    batch = _messages_of_events(body) if isinstance(body, EventBody) else _messages_of_batch(call, body)
    topic = await _topic(call.control.cache, call.principal, call.ids)
    published = await publish_to_topic(call.services.publisher, topic, batch, once=call.idempotency_key)
    return _created_batch(call, published.messages, published.stored_at)


def create_batch_again(call: Call, stored: StoredResponse) -> TopicMessagesResponse:
    """Recreate the response of `create_batch`."""
    return _created_batch(call, stored_routed_messages(stored.content), stored.stored_at)


def _created_batch(call: Call, published: Sequence[RoutedMessage], stored_at: int) -> TopicMessagesResponse:
    # Each message that any queue received is linked in the first of its queues.
    below = [
        LinkTarget(message.alias or message.id, message.id, _url(call, message.queues[0], message))
        for message in published
        if message.queues
    ]
    links = links_of(call.url.removesuffix("/batch"), below)
    return TopicMessagesResponse(messages=[_view(message, stored_at) for message in published], links=links)


async def message_limit(services: Services, principal: Principal, ids: tuple[str, ...]) -> int:
    """Return the size of the largest message of the topic's queues, if every character of it is escaped."""
    cache = services.control.cache
    topic = await _topic(cache, principal, ids)
    limit = services.control.settings.max_message_bytes
    for way in topic.ways:
        try:
            limit = max(limit, (await cache.queue(principal.organization, way.queue)).max_message_bytes)
        except NotFound:
            # The queue was just deleted, and the channel with it.
            continue
    return limit * LONGEST_ESCAPE + SMALL_BODY


async def batch_limit(services: Services, principal: Principal, ids: tuple[str, ...]) -> int:
    """Return the limit, which is the same for every topic. Raises NotFound."""
    await _topic(services.control.cache, principal, ids)
    return BATCH_BYTES


async def _topic(cache: ControlPlaneCache, principal: Principal, ids: tuple[str, ...]) -> TopicRecord:
    return await cache.topic(principal.organization, ids[0])


def _messages_of_batch(call: Call, body: TopicBatchBody) -> list[NewMessage]:
    pairs = zip(messages_of_batch(call, body.messages), body.messages, strict=True)
    return [_with_subject(message, each, f"/messages/{index}") for index, (message, each) in enumerate(pairs)]


def _with_subject(message: NewMessage, body: TopicMessageBody, pointer: str) -> NewMessage:
    if not isinstance(body.subject, str):
        return message
    check_subject(body.subject, f"{pointer}/subject")
    return _about(message, body.subject)


def _messages_of_events(body: EventBody) -> list[NewMessage]:
    """Return the messages to publish for events. Raises Unprocessable.

    The subject of an event can be any text. If it is not a valid subject here, only channels without a pattern match.
    """
    messages = messages_of_events(body)
    about = [unquote(dict(event.headers).get(_EVENT_SUBJECT, "")) for event in body.events]
    return [
        _about(message, subject) if is_subject(subject) else message
        for message, subject in zip(messages, about, strict=True)
    ]


def _about(message: NewMessage, subject: str) -> NewMessage:
    options = msgspec.structs.replace(message.options or _NO_OPTIONS, subject=subject)
    return msgspec.structs.replace(message, options=options)


def _url(call: Call, queue: str, message: RoutedMessage) -> str:
    return f"{call.base}/queues/{queue}/messages/{message.id}"


def _view(message: RoutedMessage, stored_at: int) -> TopicMessageView:
    alias = message.alias or message.id
    return TopicMessageView(
        id=message.id, alias=alias, name=alias, queues=list(message.queues), created_at=stored_at, updated_at=stored_at
    )


ROUTES = (
    Route(
        CREATE,
        "/topics/{topic_id}/messages",
        create,
        _WRITE,
        TopicMessageBody,
        statuses=(402,),
        limit=message_limit,
        repeat=create_again,
        publishes=True,
        events="one",
        example={"subject": "orders.eu.paid", "data": {"order": 17}},
    ),
    Route(
        POST,
        "/topics/{topic_id}/messages/batch",
        create_batch,
        _WRITE,
        TopicBatchBody,
        statuses=(402,),
        limit=batch_limit,
        repeat=create_batch_again,
        publishes=True,
        events="many",
        example={"messages": [{"subject": "orders.eu.paid", "data": "one"}, {"data": {"two": 2}}]},
    ),
)
