"""`/topics`, and the channels of a topic."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.delivery_options import filter_given, filter_sent_doc, filter_view
from discue.api.idempotency import created
from discue.api.pagination import PAGES, paged
from discue.api.route import CREATE, Call, Needs, Route
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
    doc,
    id_doc,
    link_to,
    links_of,
    names_changed,
    names_given,
    or_unset,
    own_id_doc,
)
from discue.control import channels, topics
from discue.control.channels import ChannelFields
from discue.control.topics import TopicDetails, TopicFields
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
    """One topic."""

    topic: Annotated[TopicView, doc("The topic.")]


class TopicsResponse(ApiResponse, kw_only=True, frozen=True):
    """A page of topics."""

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
    """One channel."""

    channel: Annotated[ChannelView, doc("The channel.")]


class ChannelsResponse(ApiResponse, kw_only=True, frozen=True):
    """A page of channels."""

    channels: Annotated[list[ChannelView], doc("The channels, newest first.")]


async def create(call: Call) -> TopicResponse:
    fields = TopicFields(*names_given(call.body))
    return await created(
        call,
        lambda control: topics.create(control, call.principal, fields),
        lambda made: _response(call, made, f"{call.url}/{made.topic.public_id}"),
    )


async def get(call: Call) -> TopicResponse:
    return _response(call, await topics.get(call.control, call.principal, call.ids[0]), call.url)


async def list_all(call: Call) -> TopicsResponse:
    items, links = await paged(
        call,
        lambda selection: topics.page(call.control, call.principal, selection),
        lambda item: call.item(item.topic.alias, item.topic.public_id),
    )
    return TopicsResponse(topics=[_view(item) for item in items], links=links)


async def change(call: Call) -> TopicResponse:
    public_id = call.ids[0]
    fields = TopicFields(*names_changed(call.body, public_id))
    return _response(call, await topics.change(call.control, call.principal, public_id, fields), call.url)


async def delete(call: Call) -> DeletedResponse:
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
        id=topic.public_id,
        alias=topic.alias,
        name=topic.alias,
        channels=[ReferenceView(channel.public_id, channel.alias, channel.alias) for channel in details.channels],
        created_at=topic.created_at,
        updated_at=topic.updated_at,
    )


async def create_channel(call: Call) -> ChannelResponse:
    fields = _channel_fields(call.body, names_given(call.body))
    return await created(
        call,
        lambda control: channels.create(control, call.principal, call.ids[0], fields),
        lambda made: _channel_response(call, made, f"{call.url}/{made.public_id}"),
    )


async def get_channel(call: Call) -> ChannelResponse:
    return _channel_response(call, await channels.get(call.control, call.principal, *call.ids), call.url)


async def list_channels(call: Call) -> ChannelsResponse:
    items, links = await paged(
        call,
        lambda selection: channels.page_of_topic(call.control, call.principal, call.ids[0], selection),
        lambda item: call.item(item.alias, item.public_id),
    )
    return ChannelsResponse(channels=[_channel_view(item) for item in items], links=links)


async def change_channel(call: Call) -> ChannelResponse:
    topic_id, public_id = call.ids
    fields = _channel_fields(call.body, names_changed(call.body, public_id))
    changed = await channels.change(call.control, call.principal, topic_id, public_id, fields)
    return _channel_response(call, changed, call.url)


async def delete_channel(call: Call) -> DeletedResponse:
    await channels.delete(call.control, call.principal, *call.ids)
    return DeletedResponse(links=link_to(call.url))


def _channel_fields(body: ChannelBody, given: GivenNames) -> ChannelFields:
    queue = body.queue_id if isinstance(body.queue_id, str) else None
    return ChannelFields(given.alias, given.name, queue, body.pattern, filter_given(body.filter))


def _channel_response(call: Call, channel: model.Channel, url: str) -> ChannelResponse:
    return call.with_etag(channel, ChannelResponse(channel=_channel_view(channel), links=link_to(url)))


def _channel_view(channel: model.Channel) -> ChannelView:
    return ChannelView(
        id=channel.public_id,
        alias=channel.alias,
        name=channel.alias,
        topic_id=channel.topic_public_id,
        queue_id=channel.queue_public_id,
        pattern=or_unset(channel.pattern),
        filter=filter_view(channel.filter),
        created_at=channel.created_at,
        updated_at=channel.updated_at,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path="/topics",
        handler=list_all,
        response=TopicsResponse,
        needs=_LIST,
        query=PAGES,
        summary="List topics",
    ),
    Route(
        methods=CREATE,
        path="/topics",
        handler=create,
        request=TopicBody,
        response=TopicResponse,
        needs=_WRITE,
        statuses=(422,),
        summary="Create a topic",
        example={"alias": "shop"},
    ),
    Route(
        methods=("GET",),
        path="/topics/{topic_id}",
        handler=get,
        response=TopicResponse,
        needs=_READ,
        statuses=(404,),
        summary="Get a topic",
    ),
    Route(
        methods=("PUT",),
        path="/topics/{topic_id}",
        handler=change,
        request=TopicBody,
        response=TopicResponse,
        needs=_WRITE,
        statuses=(404, 422),
        summary="Change a topic",
        example={"alias": "shop.eu"},
    ),
    Route(
        methods=("DELETE",),
        path="/topics/{topic_id}",
        handler=delete,
        response=DeletedResponse,
        needs=_WRITE,
        statuses=(404,),
        summary="Delete a topic",
        description="Also deletes its channels. Messages that were published to it stay in the queues.",
    ),
    Route(
        methods=("GET",),
        path="/topics/{topic_id}/channels",
        handler=list_channels,
        response=ChannelsResponse,
        needs=_LIST_CHANNELS,
        statuses=(404,),
        query=PAGES,
        summary="List the channels of a topic",
    ),
    Route(
        methods=CREATE,
        path="/topics/{topic_id}/channels",
        handler=create_channel,
        request=ChannelBody,
        response=ChannelResponse,
        needs=_WRITE_CHANNEL,
        statuses=(404, 422),
        required=("queue_id",),
        summary="Create a channel",
        description="Messages published to the topic from now on are copied to the queue if they pass the channel.",
        example={"alias": "paid-orders", "queue_id": "0VbuJFSo00H8Lq7zazFOL", "pattern": "orders.*.paid"},
    ),
    Route(
        methods=("GET",),
        path="/topics/{topic_id}/channels/{channel_id}",
        handler=get_channel,
        response=ChannelResponse,
        needs=_READ_CHANNEL,
        statuses=(404,),
        summary="Get a channel",
    ),
    Route(
        methods=("PUT",),
        path="/topics/{topic_id}/channels/{channel_id}",
        handler=change_channel,
        request=ChannelBody,
        response=ChannelResponse,
        needs=_WRITE_CHANNEL,
        statuses=(404, 422),
        summary="Change a channel",
        description="Its queue cannot change.",
        example={"pattern": "orders.>"},
    ),
    Route(
        methods=("DELETE",),
        path="/topics/{topic_id}/channels/{channel_id}",
        handler=delete_channel,
        response=DeletedResponse,
        needs=_WRITE_CHANNEL,
        statuses=(404,),
        summary="Delete a channel",
    ),
)
