"""Deliveries of a message."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.wire.answer import Answer


class DeliveryShown(msgspec.Struct, frozen=True, omit_defaults=True):
    """`last_status` is 0 where no answer was read. A retrying one has `next_attempt_at`, a missed one its reason."""

    listener_id: str
    state: str
    attempts: int
    last_status: int
    next_attempt_at: int | UnsetType = UNSET
    missed_reason: str | UnsetType = UNSET
    blocked_by: str | UnsetType = UNSET


class Deliveries(Answer, kw_only=True, frozen=True):
    deliveries: list[DeliveryShown]
