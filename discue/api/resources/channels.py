"""`/topics/{topic_id}/channels`."""

from msgspec import UNSET

from discue.api import bodies, wire
from discue.api.delivery_options import filter_of, filter_shown
from discue.api.fields import Given, names_changed, names_given
from discue.api.idempotency import created
from discue.api.links import LinkTarget, link_to
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.route import CREATE, Call, Needs, Route
from discue.control import channels
from discue.control.channels import ChannelFields
from discue.domain import model

_READ = Needs("channels", "read")
_LIST = Needs("channels", "read", listing=True)
_WRITE = Needs("channels", "write")


async def create(call: Call) -> wire.Channel:
    fields = _fields(call.body, names_given(call.body))
    return await created(
        call,
        lambda control: channels.create(control, call.principal, call.ids[0], fields),
        lambda made: _answer(call, made, f"{call.url}/{made.public_id}"),
    )


async def get(call: Call) -> wire.Channel:
    return _answer(call, await channels.get(call.control, call.principal, *call.ids), call.url)


async def list_of_topic(call: Call) -> wire.Channels:
    items, links = await paged(
        call,
        lambda selection: channels.page_of_topic(call.control, call.principal, call.ids[0], selection),
        lambda item: LinkTarget(item.alias, item.public_id, f"{call.url}/{item.public_id}"),
    )
    return wire.Channels(channels=[_shown(item) for item in items], links=links)


async def change(call: Call) -> wire.Channel:
    topic_id, public_id = call.ids
    fields = _fields(call.body, names_changed(call.body, public_id))
    changed = await channels.change(call.control, call.principal, topic_id, public_id, fields)
    return _answer(call, changed, call.url)


async def delete(call: Call) -> wire.Deleted:
    await channels.delete(call.control, call.principal, *call.ids)
    return wire.Deleted(links=link_to(call.url))


def _fields(body: bodies.ChannelBody, given: Given) -> ChannelFields:
    queue = body.queue_id if isinstance(body.queue_id, str) else None
    return ChannelFields(given.alias, given.name, queue, body.pattern, filter_of(body.filter))


def _answer(call: Call, channel: model.Channel, url: str) -> wire.Channel:
    return call.with_etag(channel, wire.Channel(channel=_shown(channel), links=link_to(url)))


def _shown(channel: model.Channel) -> wire.ChannelShown:
    return wire.ChannelShown(
        id=channel.public_id,
        alias=channel.alias,
        name=channel.alias,
        topic_id=channel.topic_public_id,
        queue_id=channel.queue_public_id,
        pattern=UNSET if channel.pattern is None else channel.pattern,
        filter=filter_shown(channel.filter),
        created_at=channel.created_at,
        updated_at=channel.updated_at,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path="/topics/{topic_id}/channels",
        handler=list_of_topic,
        response=wire.Channels,
        needs=_LIST,
        statuses=(404,),
        query=PAGES,
        summary="List the channels of a topic",
    ),
    Route(
        methods=CREATE,
        path="/topics/{topic_id}/channels",
        handler=create,
        request=bodies.ChannelBody,
        response=wire.Channel,
        needs=_WRITE,
        statuses=(404, 422),
        required=("queue_id",),
        summary="Create a channel",
        description="What is published to the topic from now on goes into the queue, if the channel lets it through.",
        example={"alias": "paid-orders", "queue_id": "0VbuJFSo00H8Lq7zazFOL", "pattern": "orders.*.paid"},
    ),
    Route(
        methods=("GET",),
        path="/topics/{topic_id}/channels/{channel_id}",
        handler=get,
        response=wire.Channel,
        needs=_READ,
        statuses=(404,),
        summary="Get a channel",
    ),
    Route(
        methods=("PUT",),
        path="/topics/{topic_id}/channels/{channel_id}",
        handler=change,
        request=bodies.ChannelBody,
        response=wire.Channel,
        needs=_WRITE,
        statuses=(404, 422),
        summary="Change a channel",
        description="Its queue stays the same.",
        example={"pattern": "orders.>"},
    ),
    Route(
        methods=("DELETE",),
        path="/topics/{topic_id}/channels/{channel_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404,),
        summary="Delete a channel",
    ),
)
