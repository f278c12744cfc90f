"""Topics and channels. The channels of a topic route its messages into queues of the same organization."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import usage
from discue.control.context import ControlContext, Record, changed_settings, chosen, reading, require_found
from discue.domain.aliases import NameFields, changed_alias, new_alias
from discue.domain.errors import invalid, missing_field
from discue.domain.event_types import check_pattern
from discue.domain.filter_parser import check_filter
from discue.domain.model import Channel, Queue, Topic
from discue.domain.scopes import Access, Principal
from discue.domain.system_events import publishing_refused
from discue.store import feed, queues, topics
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.queues import ResourceRef


class TopicDetails(msgspec.Struct, frozen=True):
    """A topic and its channels, oldest first."""

    topic: Topic
    channels: tuple[ResourceRef, ...] = ()


async def create(control: ControlContext, principal: Principal, fields: NameFields) -> TopicDetails:
    """Create a topic; its default alias is its id. Raises Unprocessable for a taken or invalid alias."""
    principal.require("topics", "write")
    public_id, now = control.public_ids.next(), control.clock.now()
    alias = new_alias(fields, public_id)
    topic = Topic(principal.organization, control.row_ids.next(), public_id, alias, 1, now, now)

    async def work(tx: Transaction, record: Record) -> TopicDetails:
        await usage.require_room(tx, control, topic, "topics")
        await topics.insert(tx, topic)
        await record("topic_added", topic)
        return TopicDetails(topic)

    return await control.write_as(principal, work)


@reading
async def get(tx: Transaction, principal: Principal, public_id: str) -> TopicDetails:
    return await _details(tx, await _own(tx, principal, "read", public_id))


@reading
async def page(tx: Transaction, principal: Principal, selection: Selection = FIRST_PAGE) -> Listing[TopicDetails]:
    targets = principal.targets_of("topics", "read")
    found = await topics.page(tx, principal.organization, selection, targets)
    shown = await topics.channel_references(tx, principal.organization, [topic.id for topic in found.items])
    items = [TopicDetails(topic, tuple(shown.get(topic.id, ()))) for topic in found.items]
    return found.with_items(items)


async def change(control: ControlContext, principal: Principal, public_id: str, fields: NameFields) -> TopicDetails:
    """Change a topic. Raises what `create` raises."""
    now = control.clock.now()

    async def work(tx: Transaction, record: Record) -> TopicDetails:
        stored = control.require_match(await _own(tx, principal, "write", public_id))
        changed = msgspec.structs.replace(stored, alias=changed_alias(fields, stored.alias), updated_at=now)
        await topics.update(tx, changed)
        if changed.alias != stored.alias:
            # Messages published by the previous alias are not stored any more.
            await _reroute(tx, stored.organization, stored.id)
        await record("topic_updated", changed, changes=changed_settings(stored, changed))
        return await _details(tx, changed)

    return await control.write_as(principal, work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Delete a topic with its channels. Messages that it has routed stay in the queues."""

    async def work(tx: Transaction, record: Record) -> None:
        stored = control.require_match(await _own(tx, principal, "write", public_id))
        await topics.delete_channels_of(tx, stored.organization, stored.id)
        await topics.delete(tx, stored.organization, stored.id)
        await feed.record(tx, "topic", stored.organization, stored.id)
        await record("topic_deleted", stored)

    await control.write_as(principal, work)


async def _own(tx: Transaction, principal: Principal, access: Access, public_id: str) -> Topic:
    principal.require("topics", access, public_id)
    return require_found(await topics.get(tx, principal.organization, public_id))


async def _details(tx: Transaction, topic: Topic) -> TopicDetails:
    shown = await topics.channel_references(tx, topic.organization, [topic.id])
    return TopicDetails(topic, tuple(shown.get(topic.id, ())))


class ChannelFields(NameFields, frozen=True):
    """The fields of a channel in a request. A pattern or filter of None matches every message."""

    queue: str | None = None
    """Id or alias."""
    pattern: str | UnsetType | None = UNSET
    filter: str | UnsetType | None = UNSET


async def create_channel(
    control: ControlContext, principal: Principal, topic_public_id: str, fields: ChannelFields
) -> Channel:
    """Create a channel; its default alias is its id.

    A key that is limited to targets needs access to the queue, too. Raises BadRequest without a queue. Raises
    Unprocessable if the queue belongs to another organization or already has a channel of this topic, if there are
    too many channels, and for a taken or invalid alias, an invalid pattern or an invalid filter.
    """
    principal.require("channels", "write", topic_public_id)
    if (named := fields.queue) is None:
        raise missing_field("/queue_id")
    check_filter(fields.filter)
    public_id, now = control.public_ids.next(), control.clock.now()
    draft = Channel(
        organization=principal.organization,
        id=control.row_ids.next(),
        public_id=public_id,
        topic=0,
        topic_public_id="",
        queue=0,
        queue_public_id=named,
        alias=public_id,
        pattern=None,
        filter=None,
        created_at=now,
        updated_at=now,
    )
    fresh = _changed_channel(draft, fields, new_alias(fields, public_id), now)

    async def work(tx: Transaction, record: Record) -> Channel:
        topic = require_found(await topics.get(tx, principal.organization, topic_public_id))
        queue = await destination(tx, principal, named)
        channel = msgspec.structs.replace(
            fresh, topic=topic.id, topic_public_id=topic.public_id, queue=queue.id, queue_public_id=queue.public_id
        )
        await _require_room(tx, channel)
        await topics.insert_channel(tx, channel)
        await _reroute(tx, channel.organization, channel.topic)
        await record("channel_added", channel)
        return channel

    return await control.write_as(principal, work)


async def destination(tx: Transaction, principal: Principal, named: str) -> Queue:
    """Return the queue with an id or alias, which a channel or a source will publish to.

    Raises Forbidden and Unprocessable.
    """
    queue = await queues.get_named(tx, principal.organization, named)
    # Raised whether the queue exists or not, so that a limited key learns nothing about it.
    principal.require("channels", "write", named if queue is None else queue.public_id)
    if queue is None:
        raise invalid("/queue_id", "is not the id or alias of a queue of this organization", code="unknown_reference")
    if queue.is_system:
        raise publishing_refused()
    return queue


async def get_channel(control: ControlContext, principal: Principal, topic_public_id: str, public_id: str) -> Channel:
    return await control.store.read(lambda tx: _own_channel(tx, principal, "read", (topic_public_id, public_id)))


@reading
async def page_of_channels(
    tx: Transaction, principal: Principal, topic_public_id: str, selection: Selection = FIRST_PAGE
) -> Listing[Channel]:
    targets = principal.targets_of("channels", "read")
    only = None if targets is not None and topic_public_id in targets else targets
    topic = require_found(await topics.get(tx, principal.organization, topic_public_id))
    return await topics.channel_page(tx, topic, selection, only)


async def change_channel(
    control: ControlContext, principal: Principal, topic_public_id: str, public_id: str, *, fields: ChannelFields
) -> Channel:
    """Change a channel. Raises what `create_channel` raises, and Unprocessable if the queue differs."""
    check_filter(fields.filter)
    now = control.clock.now()

    async def work(tx: Transaction, record: Record) -> Channel:
        stored = control.require_match(await _own_channel(tx, principal, "write", (topic_public_id, public_id)))
        if fields.queue not in (None, stored.queue_public_id):
            queue = await queues.get_named(tx, principal.organization, fields.queue)
            if queue is None or queue.id != stored.queue:
                rule = "cannot be changed: create another channel instead"
                raise invalid("/queue_id", rule, code="immutable_field")
        changed = _changed_channel(stored, fields, changed_alias(fields, stored.alias), now)
        await topics.update_channel(tx, changed)
        await _reroute(tx, stored.organization, stored.topic)
        await record("channel_updated", changed, changes=changed_settings(stored, changed))
        return changed

    return await control.write_as(principal, work)


async def delete_channel(control: ControlContext, principal: Principal, topic_public_id: str, public_id: str) -> None:
    """Delete a channel. Messages that it has routed stay in the queue."""

    async def work(tx: Transaction, record: Record) -> None:
        stored = control.require_match(await _own_channel(tx, principal, "write", (topic_public_id, public_id)))
        await topics.delete_channel(tx, stored.organization, stored.id)
        await _reroute(tx, stored.organization, stored.topic)
        await record("channel_deleted", stored)

    await control.write_as(principal, work)


async def delete_channels_into(tx: Transaction, queue: Queue) -> None:
    for topic in await topics.delete_channels_into(tx, queue.organization, queue.id):
        await _reroute(tx, queue.organization, topic)


async def _reroute(tx: Transaction, organization: int, topic: int) -> None:
    await topics.reroute(tx, organization, topic)
    await feed.record(tx, "topic", organization, topic)


async def _own_channel(tx: Transaction, principal: Principal, access: Access, path: tuple[str, str]) -> Channel:
    topic_public_id, public_id = path
    principal.require("channels", access, public_id, topic_public_id)
    channel = require_found(await topics.get_channel(tx, principal.organization, public_id))
    return require_found(channel if channel.topic_public_id == topic_public_id else None)


async def _require_room(tx: Transaction, channel: Channel) -> None:
    if await topics.leads_into(tx, channel.organization, channel.topic, channel.queue):
        raise invalid(
            "/queue_id", "already has a channel of this topic; change that channel instead", code="already_exists"
        )
    if not await topics.has_room(tx, channel):
        limits = f"a topic has at most {topics.MAX_PER_TOPIC} channels, a queue at most {topics.MAX_PER_QUEUE} into it"
        raise invalid("/queue_id", f"would exceed a limit: {limits}", code="too_many")


def _changed_channel(stored: Channel, fields: ChannelFields, alias: str, now: int) -> Channel:
    pattern = chosen(stored.pattern, fields.pattern, None)
    if pattern is not None:
        check_pattern(pattern, "/pattern")
    own_filter = chosen(stored.filter, fields.filter, None)
    return msgspec.structs.replace(stored, alias=alias, pattern=pattern, filter=own_filter, updated_at=now)
