"""Channels. A channel routes messages of a topic into a queue of the same organization."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.control.context import ControlContext, require_found
from discue.control.topics import own_topic
from discue.domain.aliases import changed_alias, new_alias
from discue.domain.errors import invalid, malformed
from discue.domain.filters.parser import parse_filter
from discue.domain.model import Channel, Queue
from discue.domain.scopes import Access, Principal
from discue.domain.subjects import check_pattern
from discue.store import events, feed, queues, topics
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection


class ChannelFields(msgspec.Struct, frozen=True):
    """The fields of a channel in a request. A pattern or filter of None matches every message."""

    alias: str | None = None
    name: str | None = None
    queue: str | None = None
    pattern: str | UnsetType | None = UNSET
    filter: str | UnsetType | None = UNSET


async def create(control: ControlContext, principal: Principal, topic_public_id: str, fields: ChannelFields) -> Channel:
    """Create a channel; its default alias is its id.

    A key that is limited to targets needs access to the queue, too. Raises BadRequest without a queue. Raises
    Unprocessable if the queue belongs to another organization or already has a channel of this topic, if there are
    too many channels, and for a taken or invalid alias, an invalid pattern or an invalid filter.
    """
    principal.require("channels", "write", topic_public_id)
    if fields.queue is None:
        raise malformed("/queue_id", "is missing")
    draft = _draft(control, principal, fields.queue)
    fresh = _changed(draft, fields, new_alias(fields, draft.alias), draft.created_at)
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> Channel:
        topic = await own_topic(tx, principal, ("channels", "write"), topic_public_id)
        queue = await _destination(tx, principal, fresh.queue_public_id)
        channel = msgspec.structs.replace(fresh, topic=topic.id, topic_public_id=topic.public_id, queue=queue.id)
        await _require_room(tx, channel)
        await topics.insert_channel(tx, channel)
        await _reroute(tx, channel.organization, channel.topic)
        await events.record(
            tx, occurrence, "channel_added", channel.organization, ref=channel.public_id, name=channel.alias
        )
        return channel

    return await control.write(work)


async def get(control: ControlContext, principal: Principal, topic_public_id: str, public_id: str) -> Channel:
    return await control.store.read(lambda tx: _own(tx, principal, "read", (topic_public_id, public_id)))


async def page_of_topic(
    control: ControlContext, principal: Principal, topic_public_id: str, selection: Selection = FIRST_PAGE
) -> Listing[Channel]:
    targets = principal.targets_of("channels", "read")
    only = None if targets is not None and topic_public_id in targets else targets

    async def work(tx: Transaction) -> Listing[Channel]:
        topic = require_found(await topics.get(tx, principal.organization, topic_public_id))
        return await topics.channel_page(tx, topic, selection, only)

    return await control.store.read(work)


async def change(
    control: ControlContext, principal: Principal, topic_public_id: str, public_id: str, *, fields: ChannelFields
) -> Channel:
    """Change a channel. Raises what `create` raises, and Unprocessable if the queue differs."""
    now = control.clock.now()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> Channel:
        stored = await _own(tx, principal, "write", (topic_public_id, public_id))
        control.require_match(stored)
        changed = _changed(stored, fields, changed_alias(fields, stored.alias), now)
        await topics.update_channel(tx, changed)
        await _reroute(tx, stored.organization, stored.topic)
        await events.record(
            tx, occurrence, "channel_updated", stored.organization, ref=stored.public_id, name=changed.alias
        )
        return changed

    return await control.write(work)


async def delete(control: ControlContext, principal: Principal, topic_public_id: str, public_id: str) -> None:
    """Delete a channel. Messages that it has routed stay in the queue."""
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> None:
        stored = await _own(tx, principal, "write", (topic_public_id, public_id))
        control.require_match(stored)
        await topics.delete_channel(tx, stored.organization, stored.id)
        await _reroute(tx, stored.organization, stored.topic)
        await events.record(
            tx, occurrence, "channel_deleted", stored.organization, ref=stored.public_id, name=stored.alias
        )

    await control.write(work)


async def delete_into(tx: Transaction, queue: Queue) -> None:
    """Delete all channels into a queue that is about to be deleted."""
    for topic in await topics.delete_channels_into(tx, queue.organization, queue.id):
        await _reroute(tx, queue.organization, topic)


async def _reroute(tx: Transaction, organization: int, topic: int) -> None:
    await topics.reroute(tx, organization, topic)
    await feed.record(tx, "topic", organization, topic)


async def _own(tx: Transaction, principal: Principal, access: Access, path: tuple[str, str]) -> Channel:
    topic_public_id, public_id = path
    principal.require("channels", access, public_id, topic_public_id)
    channel = require_found(await topics.get_channel(tx, principal.organization, public_id))
    return require_found(channel if channel.topic_public_id == topic_public_id else None)


async def _destination(tx: Transaction, principal: Principal, public_id: str) -> Queue:
    """Return the queue. Raises Forbidden if the key has no access to it, whether it exists or not."""
    principal.require("channels", "write", public_id)
    queue = await queues.get(tx, principal.organization, public_id)
    if queue is None:
        raise invalid("/queue_id", "is not the id of a queue of this organization")
    return queue


async def _require_room(tx: Transaction, channel: Channel) -> None:
    if await topics.leads_into(tx, channel.organization, channel.topic, channel.queue):
        raise invalid("/queue_id", "already has a channel of this topic; change that channel instead")
    if not await topics.has_room(tx, channel):
        limits = f"a topic has at most {topics.MAX_PER_TOPIC} channels, a queue at most {topics.MAX_PER_QUEUE} into it"
        raise invalid("/queue_id", f"would exceed a limit: {limits}")


def _draft(control: ControlContext, principal: Principal, queue_public_id: str) -> Channel:
    """Return a new channel into the queue with the defaults of all other fields."""
    public_id, now = control.public_ids.next(), control.clock.now()
    return Channel(
        organization=principal.organization,
        id=control.row_ids.next(),
        public_id=public_id,
        topic=0,
        topic_public_id="",
        queue=0,
        queue_public_id=queue_public_id,
        alias=public_id,
        pattern=None,
        filter=None,
        created_at=now,
        updated_at=now,
    )


def _changed(stored: Channel, fields: ChannelFields, alias: str, now: int) -> Channel:
    if fields.queue not in (None, stored.queue_public_id):
        raise invalid("/queue_id", "cannot be changed after the channel is created")
    pattern = stored.pattern if isinstance(fields.pattern, UnsetType) else fields.pattern
    if pattern is not None:
        check_pattern(pattern, "/pattern")
    chosen = stored.filter if isinstance(fields.filter, UnsetType) else fields.filter
    if chosen is not None:
        parse_filter(chosen.encode(), "/filter")
    return msgspec.structs.replace(stored, alias=alias, pattern=pattern, filter=chosen, updated_at=now)
