"""`/topics`, and the channels of a topic."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.delivery_options import filter_given, filter_sent_doc, filter_view
from discue.api.idempotency import created
from discue.api.pagination import PAGES, paged
from discue.api.route import CREATE, DELETE, GET, PUT, Call, Needs, Route
from discue.api.structs import (
    NOT_SENT,
    ApiResponse,
    AsSent,
    DeletedResponse,
    GivenNames,
    Ignored,
    LinkTarget,
    NamedBody,
    ReferenceView,
    Text,
    View,
    base_fields,
    doc,
    id_doc,
    link_to,
    links_of,
    names_changed,
    names_given,
    or_unset,
    own_id_doc,
)
from discue.control import topics
from discue.control.topics import ChannelFields, TopicDetails, TopicFields
from discue.domain import model, subjects

_READ = Needs("topics", "read")
_LIST = Needs("topics", "read", listing=True)
_WRITE = Needs("topics", "write")
_READ_CHANNEL = Needs("channels", "read")
_LIST_CHANNELS = Needs("channels", "read", listing=True)
_WRITE_CHANNEL = Needs("channels", "write")

_PATTERN_TEXT: Final = (
    "Which subjects pass: `*` stands for one word, a final `>` for one or more. Without a pattern, all messages pass."
)
_PATTERN: Final = {"minLength": 1, "maxLength": subjects.MAX_CHARACTERS, "pattern": subjects.PATTERN}
_FILTER_TEXT: Final = "Which messages pass: conditions on their data, headers and key."
_FILTER_EXAMPLE: Final = {"data": {"order.total": {"$gt": 100}}}


class TopicBody(NamedBody, kw_only=True):
    """A topic to create, or the changes to one."""

    channels: Ignored = NOT_SENT


class TopicView(View, kw_only=True, frozen=True):
    """A topic."""

    id: Annotated[str, own_id_doc("topic_id")]
    channels: Annotated[list[ReferenceView], doc("Its channels, oldest first.")]


class TopicResponse(ApiResponse, kw_only=True, frozen=True):
    topic: Annotated[TopicView, doc("The topic.")]


class TopicsResponse(ApiResponse, kw_only=True, frozen=True):
    topics: Annotated[list[TopicView], doc("The topics, newest first.")]


class ChannelBody(NamedBody, kw_only=True):
    """A channel to create, or the changes to one."""

    opaque_fields = ("filter",)

    queue_id: Annotated[
        str | UnsetType, id_doc("The id of the queue that it leads to. Fixed at creation.", "queue_id")
    ] = UNSET
    pattern: Annotated[Text, doc(f"{_PATTERN_TEXT} null: none.", "orders.*.paid", **_PATTERN)] = UNSET
    filter: Annotated[AsSent, filter_sent_doc(f"{_FILTER_TEXT} null: all.", _FILTER_EXAMPLE)] = NOT_SENT
    topic_id: Ignored = NOT_SENT


class ChannelView(View, kw_only=True, frozen=True):
    """A channel from a topic to a queue."""

    id: Annotated[str, own_id_doc("channel_id")]
    topic_id: Annotated[str, id_doc("The id of the topic.", "topic_id")]
    queue_id: Annotated[str, id_doc("The id of the queue that it leads to.", "queue_id")]
    pattern: Annotated[str | UnsetType, doc(_PATTERN_TEXT, "orders.*.paid", **_PATTERN)] = UNSET
    filter: Annotated[msgspec.Raw | UnsetType, doc(_FILTER_TEXT, _FILTER_EXAMPLE, type="object")] = UNSET


class ChannelResponse(ApiResponse, kw_only=True, frozen=True):
    channel: Annotated[ChannelView, doc("The channel.")]


class ChannelsResponse(ApiResponse, kw_only=True, frozen=True):
    channels: Annotated[list[ChannelView], doc("The channels, newest first.")]


async def create(call: Call) -> TopicResponse:
    """Create a topic."""
    fields = TopicFields(*names_given(call.body))
    return await created(
        call,
        lambda control: topics.create(control, call.principal, fields),
        lambda made: _response(call, made, f"{call.url}/{made.topic.public_id}"),
    )


async def get(call: Call) -> TopicResponse:
    """Get a topic."""
    return _response(call, await topics.get(call.control, call.principal, call.ids[0]), call.url)


async def list_all(call: Call) -> TopicsResponse:
    """List topics."""
    items, links = await paged(
        call,
        lambda selection: topics.page(call.control, call.principal, selection),
        lambda item: call.item(item.topic.alias, item.topic.public_id),
    )
    return TopicsResponse(topics=[_view(item) for item in items], links=links)


async def change(call: Call) -> TopicResponse:
    """Change a topic."""
    public_id = call.ids[0]
    fields = TopicFields(*names_changed(call.body, public_id))
    return _response(call, await topics.change(call.control, call.principal, public_id, fields), call.url)


async def delete(call: Call) -> DeletedResponse:
    """Delete a topic. Also deletes its channels. Messages that were published to it stay in the queues."""
    await topics.delete(call.control, call.principal, call.ids[0])
    return DeletedResponse(links=link_to(call.url))


def _response(call: Call, details: TopicDetails, url: str) -> TopicResponse:
    below = [
        LinkTarget(channel.alias, channel.public_id, f"{url}/channels/{channel.public_id}")
        for channel in details.channels
    ]
    return call.with_etag(details.topic, TopicResponse(topic=_view(details), links=links_of(url, below)))


def _view(details: TopicDetails) -> TopicView:
    topic = details.topic
    return TopicView(
        **base_fields(topic),
        channels=[ReferenceView(channel.public_id, channel.alias, channel.alias) for channel in details.channels],
    )


async def create_channel(call: Call) -> ChannelResponse:
    """Create a channel. Messages published to the topic from now on are copied to the queue if they pass it."""
    fields = _channel_fields(call.body, names_given(call.body))
    return await created(
        call,
        lambda control: topics.create_channel(control, call.principal, call.ids[0], fields),
        lambda made: _channel_response(call, made, f"{call.url}/{made.public_id}"),
    )


async def get_channel(call: Call) -> ChannelResponse:
    """Get a channel."""
    return _channel_response(call, await topics.get_channel(call.control, call.principal, *call.ids), call.url)


async def list_channels(call: Call) -> ChannelsResponse:
    """List the channels of a topic."""
    items, links = await paged(
        call,
        lambda selection: topics.page_of_channels(call.control, call.principal, call.ids[0], selection),
        lambda item: call.item(item.alias, item.public_id),
    )
    return ChannelsResponse(channels=[_channel_view(item) for item in items], links=links)


async def change_channel(call: Call) -> ChannelResponse:
    """Change a channel. Its queue cannot change."""
    topic_id, public_id = call.ids
    fields = _channel_fields(call.body, names_changed(call.body, public_id))
    changed = await topics.change_channel(call.control, call.principal, topic_id, public_id, fields=fields)
    return _channel_response(call, changed, call.url)


async def delete_channel(call: Call) -> DeletedResponse:
    """Delete a channel."""
    await topics.delete_channel(call.control, call.principal, *call.ids)
    return DeletedResponse(links=link_to(call.url))


def _channel_fields(body: ChannelBody, given: GivenNames) -> ChannelFields:
    queue = body.queue_id if isinstance(body.queue_id, str) else None
    return ChannelFields(given.alias, given.name, queue, body.pattern, filter_given(body.filter))


def _channel_response(call: Call, channel: model.Channel, url: str) -> ChannelResponse:
    return call.with_etag(channel, ChannelResponse(channel=_channel_view(channel), links=link_to(url)))


def _channel_view(channel: model.Channel) -> ChannelView:
    return ChannelView(
        **base_fields(channel),
        topic_id=channel.topic_public_id,
        queue_id=channel.queue_public_id,
        pattern=or_unset(channel.pattern),
        filter=filter_view(channel.filter),
    )


ROUTES = (
    Route(GET, "/topics", list_all, _LIST, query=PAGES),
    Route(CREATE, "/topics", create, _WRITE, TopicBody, example={"alias": "shop"}),
    Route(GET, "/topics/{topic_id}", get, _READ),
    Route(PUT, "/topics/{topic_id}", change, _WRITE, TopicBody, example={"alias": "shop.eu"}),
    Route(DELETE, "/topics/{topic_id}", delete, _WRITE),
    Route(GET, "/topics/{topic_id}/channels", list_channels, _LIST_CHANNELS, query=PAGES),
    Route(
        CREATE,
        "/topics/{topic_id}/channels",
        create_channel,
        _WRITE_CHANNEL,
        ChannelBody,
        required=("queue_id",),
        example={"alias": "paid-orders", "queue_id": "0VbuJFSo00H8Lq7zazFOL", "pattern": "orders.*.paid"},
    ),
    Route(GET, "/topics/{topic_id}/channels/{channel_id}", get_channel, _READ_CHANNEL),
    Route(
        PUT,
        "/topics/{topic_id}/channels/{channel_id}",
        change_channel,
        _WRITE_CHANNEL,
        ChannelBody,
        example={"pattern": "orders.>"},
    ),
    Route(DELETE, "/topics/{topic_id}/channels/{channel_id}", delete_channel, _WRITE_CHANNEL),
)
