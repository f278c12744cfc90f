"""Topics, their channels and what is published to them."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.wire.answer import Answer, Reference, Shown


class TopicShown(Shown, kw_only=True, frozen=True):
    channels: list[Reference]


class Topic(Answer, kw_only=True, frozen=True):
    topic: TopicShown


class Topics(Answer, kw_only=True, frozen=True):
    topics: list[TopicShown]


class ChannelShown(Shown, kw_only=True, frozen=True):
    """Without a pattern, or a filter, messages of every subject, or every message, go this way."""

    topic_id: str
    queue_id: str
    pattern: str | UnsetType = UNSET
    filter: msgspec.Raw | UnsetType = UNSET


class Channel(Answer, kw_only=True, frozen=True):
    channel: ChannelShown


class Channels(Answer, kw_only=True, frozen=True):
    channels: list[ChannelShown]


class TopicMessageShown(Shown, kw_only=True, frozen=True):
    """`queues` are the ids of those that it went into: none where no channel let it through."""

    queues: list[str]


class TopicMessage(Answer, kw_only=True, frozen=True):
    message: TopicMessageShown


class TopicMessages(Answer, kw_only=True, frozen=True):
    messages: list[TopicMessageShown]
