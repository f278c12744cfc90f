"""`/topics`, the channels of a topic, and publishing to it."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.decoding import EventBody
from discue.api.delivery_options import TYPE_PATTERN, filter_given, filter_sent_doc, filter_view
from discue.api.resource import LinkTarget, ResourceKind, fields_of, links_of, or_unset, view_of
from discue.api.resources.messages import (
    BatchBody,
    DeliverAtShown,
    MessageBody,
    message_of_body,
    messages_of_batch,
    messages_of_events,
)
from discue.api.route import BATCH_BYTES, CREATE, POST, Call, Needs, Route, body_limit
from discue.api.structs import (
    ALIAS_PATTERN,
    EXAMPLE_IDS,
    NOT_SENT,
    ApiResponse,
    AsSent,
    NamedBody,
    ReferenceView,
    Text,
    View,
    doc,
    id_doc,
    read_only,
    text_given,
)
from discue.control import topics
from discue.control.topics import ChannelFields, TopicDetails
from discue.domain import model
from discue.domain.aliases import NameFields
from discue.domain.errors import NotFound
from discue.domain.reservations import PUBLISHES
from discue.domain.scopes import Principal
from discue.http.services import Services
from discue.publishing.topics import RoutedMessage, publish_to_topic, stored_routed_messages
from discue.store.idempotency import StoredResponse
from discue.store.time_slice import TimeSlice

_WRITE_MESSAGE = Needs("messages", "write")

_PATTERN_TEXT: Final = (
    "Which types pass: `*` stands for one word, a final `>` for one or more. Without a pattern, all messages pass."
)
_FILTER_TEXT: Final = "Which messages pass: conditions on their data, headers and key."
_FILTER_EXAMPLE: Final = {"data": {"order.total": {"$gt": 100}}}


@read_only("channels")
class TopicBody(NamedBody, kw_only=True):
    """A topic to create, or the changes to one."""


class TopicView(View, kw_only=True, frozen=True):
    """A topic."""

    id: Annotated[str, id_doc("topic_id")]
    channels: Annotated[list[ReferenceView], doc("Channels of the topic, oldest first.")]


@read_only("topic_id")
class ChannelBody(NamedBody, kw_only=True):
    """A channel to create, or the changes to one."""

    sample: ClassVar = {"alias": "paid-orders", "queue_id": "0VbuJFSo00H8Lq7zazFOL", "pattern": "orders.*.paid"}
    opaque_fields = ("filter",)

    queue_id: Annotated[
        str | UnsetType,
        doc(
            "Id or alias of the queue that the channel leads to. Fixed at creation.",
            EXAMPLE_IDS["queue_id"],
            pattern=ALIAS_PATTERN,
        ),
    ] = UNSET
    pattern: Annotated[Text, doc(f"{_PATTERN_TEXT} null: none.", "orders.*.paid", **TYPE_PATTERN)] = UNSET
    filter: Annotated[AsSent, filter_sent_doc(f"{_FILTER_TEXT} null: all.", _FILTER_EXAMPLE)] = NOT_SENT


class ChannelView(View, kw_only=True, frozen=True):
    """A channel from a topic to a queue."""

    id: Annotated[str, id_doc("channel_id")]
    topic_id: Annotated[str, id_doc("topic_id", "The id of the topic.")]
    queue_id: Annotated[str, id_doc("queue_id", "The id of the queue that it leads to.")]
    pattern: Annotated[str | UnsetType, doc(_PATTERN_TEXT, "orders.*.paid", **TYPE_PATTERN)] = UNSET
    filter: Annotated[msgspec.Raw | UnsetType, doc(_FILTER_TEXT, _FILTER_EXAMPLE, type="object")] = UNSET


class TopicMessageView(View, kw_only=True, frozen=True):
    """A message that was published to a topic."""

    id: Annotated[str, id_doc("message_id", "The id, the same in all queues.")]
    queues: Annotated[
        list[str], doc("The ids of the queues that the message was published to.", [EXAMPLE_IDS["queue_id"]])
    ]
    deliver_at: DeliverAtShown = UNSET


class TopicMessageResponse(ApiResponse, kw_only=True, frozen=True):
    """The message that was published."""

    message: Annotated[TopicMessageView, doc("The message.")]


class TopicMessagesResponse(ApiResponse, kw_only=True, frozen=True):
    """The messages that were published."""

    messages: Annotated[list[TopicMessageView], doc("The messages, in the order of the request.")]


def _view(details: TopicDetails) -> TopicView:
    channels = [view_of(ReferenceView, channel) for channel in details.channels]
    return view_of(TopicView, details.topic, channels=channels)


def _channel_fields(call: Call) -> ChannelFields:
    body: ChannelBody = call.body
    return fields_of(call, ChannelFields, queue=text_given(body.queue_id), filter=filter_given(body.filter))


async def publish(call: Call) -> TopicMessageResponse:
    """Publish a message to a topic.

    When the response arrives, the message is durable in all queues that the topic's channels select, or in none.
    """
    body = call.body
    if isinstance(body, EventBody):
        [message] = messages_of_events(call, body)
    else:
        message = message_of_body(call, body, "")
    topic = await call.control.cache.topic(call.principal.organization, call.ids[0])
    published = await publish_to_topic(
        call.services.publisher, topic, (message,), once=call.idempotency_key, name=call.name
    )
    return _published(call, published.messages, published.stored_at)


def publish_again(call: Call, stored: StoredResponse) -> TopicMessageResponse | TopicMessagesResponse:
    """Recreate the response of `publish` or `publish_batch`."""
    respond = _published_batch if call.path.endswith("/batch") else _published
    return respond(call, stored_routed_messages(stored.content), stored.stored_at)


def _published(call: Call, published: Sequence[RoutedMessage], stored_at: int) -> TopicMessageResponse:
    [message] = published
    below = [LinkTarget(queue, queue, _message_url(call, queue, message)) for queue in message.queues]
    return TopicMessageResponse(message=_message_view(message, stored_at), links=links_of(call.url, below))


async def publish_batch(call: Call) -> TopicMessagesResponse:
    """Publish many messages to a topic. Publishes all of them or none."""
    body = call.body
    if isinstance(body, EventBody):
        batch = messages_of_events(call, body)
    else:
        batch = await messages_of_batch(call, body.messages)
    topic = await call.control.cache.topic(call.principal.organization, call.ids[0])
    published = await publish_to_topic(call.services.publisher, topic, batch, once=call.idempotency_key, name=call.name)
    return _published_batch(call, published.messages, published.stored_at)


def _published_batch(call: Call, published: Sequence[RoutedMessage], stored_at: int) -> TopicMessagesResponse:
    # Each message that any queue received is linked in the first of its queues.
    below = [
        LinkTarget(message.alias or message.id, message.id, _message_url(call, message.queues[0], message))
        for message in published
        if message.queues
    ]
    views = [_message_view(message, stored_at) for message in published]
    return TopicMessagesResponse(messages=views, links=links_of(call.url.removesuffix("/batch"), below))


async def message_limit(services: Services, principal: Principal, ids: tuple[str, ...]) -> int:
    """Return the size of the largest message of the topic's queues, if every character of it is escaped."""
    cache = services.control.cache
    topic = await cache.topic(principal.organization, ids[0])
    # The queues that a message is routed to are known only once it is read. Each checks its own limit then.
    limit = services.control.settings.max_message_bytes
    time_slice = TimeSlice()
    for way in topic.ways:
        # Queues that are not cached are read, and their schemas compiled.
        await time_slice.pause_if_over()
        # A queue that was just deleted is not found, and its channel is about to go.
        with suppress(NotFound):
            limit = max(limit, (await cache.queue(principal.organization, way.queue)).max_message_bytes)
    return body_limit(limit)


async def batch_limit(services: Services, principal: Principal, ids: tuple[str, ...]) -> int:
    """Return the limit, which is the same for every topic. Raises NotFound."""
    await services.control.cache.topic(principal.organization, ids[0])
    return BATCH_BYTES


def _message_url(call: Call, queue: str, message: RoutedMessage) -> str:
    return f"{call.base}/queues/{queue}/messages/{message.id}"


def _message_view(message: RoutedMessage, stored_at: int) -> TopicMessageView:
    alias = message.alias or message.id
    return TopicMessageView(
        id=message.id,
        alias=alias,
        name=alias,
        queues=list(message.queues),
        deliver_at=or_unset(message.deliver_at),
        created_at=stored_at,
        updated_at=stored_at,
    )


_TOPICS: Final = ResourceKind[TopicDetails](
    path="/topics",
    name="topic",
    view_type=TopicView,
    view=lambda _, details: _view(details),
    stored=lambda details: details.topic,
    below="channels",
    needs=Needs.of("topics"),
    body=TopicBody,
    fields=lambda call: fields_of(call, NameFields),
    codes=("alias_taken",),
)
_CHANNELS: Final = ResourceKind[model.Channel](
    path="/topics/{topic_id}/channels",
    name="channel",
    view_type=ChannelView,
    view=lambda _, channel: view_of(ChannelView, channel, filter=filter_view(channel.filter)),
    needs=Needs.of("channels"),
    body=ChannelBody,
    fields=_channel_fields,
    codes=("alias_taken", "invalid_filter"),
)

ROUTES = (
    _TOPICS.list_route(topics.page, "List topics."),
    _TOPICS.create_route(topics.create, "Create a topic.", "quota_exceeded", example={"alias": "shop"}),
    _TOPICS.get_route(topics.get, "Get a topic."),
    _TOPICS.change_route(topics.change, "Change a topic.", example={"alias": "shop.eu"}),
    _TOPICS.delete_route(
        topics.delete,
        "Delete a topic. Also deletes its channels. Messages that were published to it stay in the queues.",
    ),
    _CHANNELS.list_route(topics.page_of_channels, "List the channels of a topic."),
    _CHANNELS.create_route(
        topics.create_channel,
        "Create a channel. Messages published to the topic from now on are copied to the queue if they pass it.",
        *("quota_exceeded", "unknown_reference", "already_exists", "too_many", "system_queue_read_only"),
        required=("queue_id",),
    ),
    _CHANNELS.get_route(topics.get_channel, "Get a channel."),
    _CHANNELS.change_route(
        topics.change_channel,
        "Change a channel. Its queue cannot change.",
        "immutable_field",
        example={"pattern": "orders.>"},
    ),
    _CHANNELS.delete_route(topics.delete_channel, "Delete a channel."),
    Route(
        CREATE,
        "/topics/{topic_id}/messages",
        publish,
        _WRITE_MESSAGE,
        MessageBody,
        limit=message_limit,
        repeat=publish_again,
        events="one",
        reads=PUBLISHES,
    ),
    Route(
        POST,
        "/topics/{topic_id}/messages/batch",
        publish_batch,
        _WRITE_MESSAGE,
        BatchBody,
        codes=("too_many",),
        limit=batch_limit,
        repeat=publish_again,
        events="many",
        reads=PUBLISHES,
    ),
)
