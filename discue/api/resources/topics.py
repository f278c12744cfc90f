"""`/topics`."""

from discue.api import bodies, wire
from discue.api.fields import names_changed, names_given
from discue.api.idempotency import created
from discue.api.links import LinkTarget, link_to, links_of
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.route import CREATE, Call, Needs, Route
from discue.control import topics
from discue.control.topics import TopicDetails, TopicFields

_READ = Needs("topics", "read")
_LIST = Needs("topics", "read", listing=True)
_WRITE = Needs("topics", "write")


async def create(call: Call) -> wire.Topic:
    fields = TopicFields(*names_given(call.body))
    return await created(
        call,
        lambda control: topics.create(control, call.principal, fields),
        lambda made: _answer(call, made, f"{call.url}/{made.topic.public_id}"),
    )


async def get(call: Call) -> wire.Topic:
    return _answer(call, await topics.get(call.control, call.principal, call.ids[0]), call.url)


async def list_all(call: Call) -> wire.Topics:
    items, links = await paged(
        call,
        lambda selection: topics.page(call.control, call.principal, selection),
        lambda item: LinkTarget(item.topic.alias, item.topic.public_id, f"{call.url}/{item.topic.public_id}"),
    )
    return wire.Topics(topics=[_shown(item) for item in items], links=links)


async def change(call: Call) -> wire.Topic:
    public_id = call.ids[0]
    fields = TopicFields(*names_changed(call.body, public_id))
    return _answer(call, await topics.change(call.control, call.principal, public_id, fields), call.url)


async def delete(call: Call) -> wire.Deleted:
    await topics.delete(call.control, call.principal, call.ids[0])
    return wire.Deleted(links=link_to(call.url))


def _answer(call: Call, details: TopicDetails, url: str) -> wire.Topic:
    below = [
        LinkTarget(channel.alias, channel.public_id, f"{url}/channels/{channel.public_id}")
        for channel in details.channels
    ]
    return call.with_etag(details.topic, wire.Topic(topic=_shown(details), links=links_of(url, below)))


def _shown(details: TopicDetails) -> wire.TopicShown:
    topic = details.topic
    return wire.TopicShown(
        id=topic.public_id,
        alias=topic.alias,
        name=topic.alias,
        channels=[wire.Reference(channel.public_id, channel.alias, channel.alias) for channel in details.channels],
        created_at=topic.created_at,
        updated_at=topic.updated_at,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path="/topics",
        handler=list_all,
        response=wire.Topics,
        needs=_LIST,
        query=PAGES,
        summary="List topics",
    ),
    Route(
        methods=CREATE,
        path="/topics",
        handler=create,
        request=bodies.TopicBody,
        response=wire.Topic,
        needs=_WRITE,
        statuses=(422,),
        summary="Create a topic",
        example={"alias": "shop"},
    ),
    Route(
        methods=("GET",),
        path="/topics/{topic_id}",
        handler=get,
        response=wire.Topic,
        needs=_READ,
        statuses=(404,),
        summary="Get a topic",
    ),
    Route(
        methods=("PUT",),
        path="/topics/{topic_id}",
        handler=change,
        request=bodies.TopicBody,
        response=wire.Topic,
        needs=_WRITE,
        statuses=(404, 422),
        summary="Change a topic",
        example={"alias": "shop.eu"},
    ),
    Route(
        methods=("DELETE",),
        path="/topics/{topic_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404,),
        summary="Delete a topic",
        description="Its channels go with it. What was published to it stays in the queues.",
    ),
)
