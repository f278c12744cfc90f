"""Tests of a listener."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.wire.answer import Answer
from discue.api.wire.attempts import ConnectionShown, RequestShown, ResponseShown, TimingsShown


class DeliveryTestShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a test. Of one that is `withheld`, `request` alone is there of the fields after that."""

    message_id: str
    started_at: int
    state: str
    error: str
    status_class: str
    withheld: bool
    status: int | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    took_ms: int | UnsetType = UNSET
    connection: ConnectionShown | UnsetType = UNSET
    timings: TimingsShown | UnsetType = UNSET
    request: RequestShown | UnsetType = UNSET
    response: ResponseShown | UnsetType = UNSET


class DeliveryTest(Answer, kw_only=True, frozen=True):
    test: DeliveryTestShown
