"""Routes of a topic, as publishing needs them: the queues of its channels, and which messages each accepts."""

from collections.abc import Iterable

import msgspec

from discue.domain.filters import Filter, compile_filter
from discue.domain.messages import Entry
from discue.domain.model import Channel, Organization, Topic
from discue.domain.quotas import Quotas
from discue.domain.subjects import SubjectPattern, parse_pattern
from discue.store import feed, organizations, topics
from discue.store.engine import Transaction


class Way(msgspec.Struct, frozen=True, gc=False):
    """A channel of a topic: the public id of its queue, and the pattern and filter of its messages (None: all)."""

    alias: str
    queue: str
    pattern: SubjectPattern | None
    filter: Filter | None

    def takes(self, subject: str | None, entry: Entry) -> bool:
        """Return whether the channel accepts a message. A message without a subject matches no pattern."""
        if self.pattern is not None and (subject is None or not self.pattern.matches(subject)):
            return False
        return self.filter is None or self.filter.accepts(entry)


class TopicRecord(msgspec.Struct, frozen=True, gc=False):
    """A topic and its routes, oldest first. `quotas` is None if no quota limits publishing."""

    organization: int
    id: int
    public_id: str
    routes_version: int
    ways: tuple[Way, ...]
    quotas: Quotas | None = None


Read = tuple[int, Topic | None, list[Channel], Organization | None]
"""The version of the change feed, the topic, its channels, and their organization, from one transaction."""


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
