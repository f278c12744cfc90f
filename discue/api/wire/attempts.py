"""Attempts, with what was sent and answered."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.wire.answer import Answer


class HeaderShown(msgspec.Struct, frozen=True):
    """One line of a head."""

    name: str
    value: str


class RequestShown(msgspec.Struct, frozen=True):
    """What was sent, besides the message's data."""

    headers: list[HeaderShown]


class ResponseShown(msgspec.Struct, frozen=True):
    """What was answered. Of a body that is not UTF-8, some characters stand for others."""

    headers: list[HeaderShown]
    body: str
    body_bytes: int


class ConnectionShown(msgspec.Struct, frozen=True):
    """Where the request went."""

    address: str
    reused: bool


class TimingsShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long each stage took, in milliseconds. What was not come to, or was not needed, is not there."""

    resolve_ms: int | UnsetType = UNSET
    connect_ms: int | UnsetType = UNSET
    tls_ms: int | UnsetType = UNSET
    first_byte_ms: int | UnsetType = UNSET
    total_ms: int


class AttemptShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields after `replay_id` are those of a single attempt alone, and of one whose details were kept.

    Without a `message_id`, the message is not kept any more.
    """

    id: str
    message_id: str | UnsetType = UNSET
    listener_id: str
    number: int
    state: str
    status: int
    error: str
    detail: str
    took_ms: int
    started_at: int
    created_at: int
    replay_id: str | UnsetType = UNSET
    next_attempt_at: int | UnsetType = UNSET
    connection: ConnectionShown | UnsetType = UNSET
    timings: TimingsShown | UnsetType = UNSET
    request: RequestShown | UnsetType = UNSET
    response: ResponseShown | UnsetType = UNSET


class Attempt(Answer, kw_only=True, frozen=True):
    attempt: AttemptShown


class Attempts(Answer, kw_only=True, frozen=True):
    attempts: list[AttemptShown]
