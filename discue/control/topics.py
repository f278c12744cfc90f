"""Topics. Messages published to a topic are routed by its channels into queues."""

import msgspec

from discue.control.context import ControlContext, require_found
from discue.domain.aliases import changed_alias, new_alias
from discue.domain.errors import Forbidden
from discue.domain.model import Topic
from discue.domain.scopes import Access, Principal
from discue.store import events, feed, topics
from discue.store.engine import Transaction
from discue.store.listeners import ResourceRef
from discue.store.pagination import FIRST_PAGE, Listing, Selection


class TopicFields(msgspec.Struct, frozen=True):
    """The fields of a topic in a request."""

    alias: str | None = None
    name: str | None = None


class TopicDetails(msgspec.Struct, frozen=True):
    """A topic and its channels, oldest first."""

    topic: Topic
    channels: tuple[ResourceRef, ...] = ()


async def create(control: ControlContext, principal: Principal, fields: TopicFields) -> TopicDetails:
    """Create a topic; its default alias is its id. Raises Unprocessable for a taken or invalid alias."""
    if not principal.allows_all("topics", "write"):
        raise Forbidden
    public_id, now = control.public_ids.next(), control.clock.now()
    alias = new_alias(fields, public_id)
    topic = Topic(principal.organization, control.row_ids.next(), public_id, alias, 1, now, now)
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> TopicDetails:
        await topics.insert(tx, topic)
        await events.record(tx, occurrence, "topic_added", topic.organization, ref=topic.public_id, name=topic.alias)
        return TopicDetails(topic)

    return await control.write(work)


async def get(control: ControlContext, principal: Principal, public_id: str) -> TopicDetails:
    async def work(tx: Transaction) -> TopicDetails:
        return await _details(tx, await own_topic(tx, principal, ("topics", "read"), public_id))

    return await control.store.read(work)


async def page(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[TopicDetails]:
    targets = principal.targets_of("topics", "read")

    async def work(tx: Transaction) -> Listing[TopicDetails]:
        found = await topics.page(tx, principal.organization, selection, targets)
        shown = await topics.channel_references(tx, principal.organization, [topic.id for topic in found.items])
        items = [TopicDetails(topic, tuple(shown.get(topic.id, ()))) for topic in found.items]
        return Listing(tuple(items), found.has_next, found.has_previous)

    return await control.store.read(work)


async def change(control: ControlContext, principal: Principal, public_id: str, fields: TopicFields) -> TopicDetails:
    """Change a topic. Raises what `create` raises."""
    now = control.clock.now()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> TopicDetails:
        stored = await own_topic(tx, principal, ("topics", "write"), public_id)
        control.require_match(stored)
        changed = msgspec.structs.replace(stored, alias=changed_alias(fields, stored.alias), updated_at=now)
        await topics.update(tx, changed)
        await events.record(
            tx, occurrence, "topic_updated", stored.organization, ref=stored.public_id, name=changed.alias
        )
        return await _details(tx, changed)

    return await control.write(work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Delete a topic with its channels. Messages that it has routed stay in the queues."""
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> None:
        stored = await own_topic(tx, principal, ("topics", "write"), public_id)
        control.require_match(stored)
        await topics.delete_channels_of(tx, stored.organization, stored.id)
        await topics.delete(tx, stored.organization, stored.id)
        await feed.record(tx, "topic", stored.organization, stored.id)
        await events.record(
            tx, occurrence, "topic_deleted", stored.organization, ref=stored.public_id, name=stored.alias
        )

    await control.write(work)


async def own_topic(tx: Transaction, principal: Principal, needs: tuple[str, Access], public_id: str) -> Topic:
    """Return a topic of the caller's organization. `needs` is the scope that the key must have: resource and access."""
    principal.require(*needs, public_id)
    return require_found(await topics.get(tx, principal.organization, public_id))


async def _details(tx: Transaction, topic: Topic) -> TopicDetails:
    shown = await topics.channel_references(tx, topic.organization, [topic.id])
    return TopicDetails(topic, tuple(shown.get(topic.id, ())))
