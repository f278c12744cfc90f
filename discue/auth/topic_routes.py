"""What publishing needs to know of a topic: where its channels lead, and what each of them lets through."""

from collections.abc import Iterable

import msgspec

from discue.domain.filters.filters import Filter, compile_filter
from discue.domain.messages import Entry
from discue.domain.model import Channel, Organization, Topic
from discue.domain.quotas import Quotas
from discue.domain.subjects import SubjectPattern, parse_pattern
from discue.store import feed, organizations, topics
from discue.store.engine import Transaction


class Way(msgspec.Struct, frozen=True, gc=False):
    """A channel: its alias, the public id of its queue, and what must fit a message. None: anything does."""

    alias: str
    queue: str
    pattern: SubjectPattern | None
    filter: Filter | None

    def takes(self, subject: str | None, entry: Entry) -> bool:
        """Whether a message goes this way. One without a subject fits no pattern."""
        if self.pattern is not None and (subject is None or not self.pattern.matches(subject)):
            return False
        return self.filter is None or self.filter.accepts(entry)


class TopicRecord(msgspec.Struct, frozen=True, gc=False):
    """`ways` are in the order in which they were made. `quotas` are None where none of them concerns publishing."""

    organization: int
    id: int
    public_id: str
    routes_version: int
    ways: tuple[Way, ...]
    quotas: Quotas | None = None


Read = tuple[int, Topic | None, list[Channel], Organization | None]
"""The version of the change feed, and what stood then: a topic, its channels, and their organization."""


async def read_topic(tx: Transaction, organization: int, public_id: str) -> Read:
    topic = await topics.get(tx, organization, public_id)
    found = await topics.channels_of(tx, topic) if topic is not None else []
    return await feed.head(tx), topic, found, await organizations.get(tx, organization)


def record_of(topic: Topic, found: Iterable[Channel], quotas: Quotas) -> TopicRecord:
    return TopicRecord(
        topic.organization,
        topic.id,
        topic.public_id,
        topic.routes_version,
        tuple(_way(channel) for channel in found),
        quotas if quotas.limit_publishing else None,
    )


def _way(channel: Channel) -> Way:
    return Way(
        channel.alias,
        channel.queue_public_id,
        None if channel.pattern is None else parse_pattern(channel.pattern),
        None if channel.filter is None else compile_filter(channel.filter),
    )
