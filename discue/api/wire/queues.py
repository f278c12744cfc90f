"""Queues, and their schemas."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.wire.answer import Answer, Reference, Shown
from discue.api.wire.delivery_options import RetryShown


class QueueMessages(msgspec.Struct, frozen=True):
    """`last_published_at` is 0 before the first message."""

    published_count: int
    last_published_at: int


class QueueShown(Shown, kw_only=True, frozen=True):
    """`retention` (seconds) and `max_message_bytes` are there when they were set. `listeners` are the first 100.

    With a schema, `schema` or `json_schema` is as it was sent, and `schema_id` is there.
    """

    ordered: bool
    on_missed: str
    listeners: list[Reference]
    messages: QueueMessages
    retention: int | UnsetType = UNSET
    max_message_bytes: int | UnsetType = UNSET
    schema: msgspec.Raw | UnsetType = UNSET
    json_schema: msgspec.Raw | UnsetType = UNSET
    schema_id: str | UnsetType = UNSET
    retry: RetryShown | UnsetType = UNSET


class Queue(Answer, kw_only=True, frozen=True):
    queue: QueueShown


class Queues(Answer, kw_only=True, frozen=True):
    queues: list[QueueShown]


class QueueSchema(Answer, kw_only=True, frozen=True):
    """`schema` is the schema itself, as it was sent; what is known of it stands beside it."""

    schema: msgspec.Raw
    id: str
    queue_id: str
    language: Literal["rules", "json_schema"]
    created_at: int
    updated_at: int
