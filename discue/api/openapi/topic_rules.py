"""The fields of topics, their channels and what is published to them: see `field_rules`."""

from collections.abc import Mapping
from typing import Final

from discue.api.openapi import delivery_rules
from discue.api.openapi.rule import Rule
from discue.domain import subjects

EXAMPLE_IDS: Final[Mapping[str, str]] = {
    "topic_id": "0VbuJFSm00Tq3Nd7vRwYh",
    "channel_id": "0VbuJFSn00Cm5Xs1kZpBj",
}

_PATTERN_TEXT = (
    "Which subjects the messages have that go this way: `*` stands for one word, `>` at the end for one or more."
)
_FILTER_TEXT = "Which of them go this way: conditions on their data, headers and key."
_FILTER = {"order.total": {"$gt": 100}}
_FILTER_SENT = {"anyOf": [{"$ref": "#/components/schemas/MessageFilter"}, {"type": "null"}]}
_SUBJECT_TEXT = "What the message is about: words with dots between them."
_ID = {"pattern": "^[0-9A-Za-z]{21}$"}
_QUEUE_ID = "0VbuJFSo00H8Lq7zazFOL"
_MESSAGE_ID = "0VbuJFW500I0yWwoGXXf6"

_LIMITED = {"minLength": 1, "maxLength": subjects.MAX_CHARACTERS}
_PATTERN = {**_LIMITED, "pattern": subjects.PATTERN}
_SUBJECT = {**_LIMITED, "pattern": subjects.SUBJECT}

_OF_MESSAGES = ("deliver_at", "delay", "expires_at", "key", "retry")
"""What is published to a topic says these as what is published to a queue does."""

RULES: Final[Mapping[str, Rule]] = {
    "topic": Rule("The topic.", None),
    "topics": Rule("The topics, newest first.", None),
    "TopicShown.id": Rule("The id, given at creation.", EXAMPLE_IDS["topic_id"], _ID),
    "TopicShown.channels": Rule("Its channels, the oldest first.", None),
    "channel": Rule("The channel.", None),
    "channels": Rule("The channels, newest first.", None),
    "ChannelShown.id": Rule("The id, given at creation.", EXAMPLE_IDS["channel_id"], _ID),
    "topic_id": Rule("The id of the topic.", EXAMPLE_IDS["topic_id"], _ID),
    "ChannelBody.queue_id": Rule("The id of the queue that it leads into. Chosen at creation.", _QUEUE_ID, _ID),
    "ChannelShown.queue_id": Rule("The id of the queue that it leads into.", _QUEUE_ID, _ID),
    "ChannelBody.pattern": Rule(f"{_PATTERN_TEXT} null: all messages.", "orders.*.paid", _PATTERN),
    "ChannelShown.pattern": Rule(_PATTERN_TEXT, "orders.*.paid", _PATTERN),
    "ChannelBody.filter": Rule(f"{_FILTER_TEXT} null: all.", {"data": _FILTER}, _FILTER_SENT),
    "ChannelShown.filter": Rule(_FILTER_TEXT, {"data": _FILTER}, {"type": "object"}),
    "TopicMessageShown.id": Rule("The id, the same in all queues.", _MESSAGE_ID, _ID),
    "TopicMessageShown.queues": Rule("The ids of the queues that it went into.", [_QUEUE_ID]),
    "TopicMessageBody.data": Rule(
        "What is delivered: a string, or any other JSON value, which is kept as its text.", {"order": 17}
    ),
    "TopicMessageBody.subject": Rule(_SUBJECT_TEXT, "orders.eu.paid", _SUBJECT),
    "MessageShown.subject": Rule(f"{_SUBJECT_TEXT} There when it was published to a topic with one.", "orders.eu.paid"),
    "TopicBatchBody.messages": Rule(
        "The messages, in order.", [{"data": "one"}, {"data": "two"}], {"minItems": 1, "maxItems": 1_000}
    ),
    **{f"TopicMessageBody.{field}": delivery_rules.RULES[f"MessageBody.{field}"] for field in _OF_MESSAGES},
}
