"""What was missed, and its redeliveries."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.wire.answer import Answer, Shown


class MissedShown(msgspec.Struct, kw_only=True, frozen=True):
    """A message that a listener has missed."""

    id: str
    alias: str
    name: str
    stored_at: int
    missed_at: int
    reason: str
    attempts: int


class Missed(Answer, kw_only=True, frozen=True):
    missed: list[MissedShown]


class RedeliveryCounts(msgspec.Struct, frozen=True):
    """Of deliveries: chosen at the beginning, made due again, and those whose messages were deleted."""

    selected: int
    redelivered: int
    gone: int


class RedeliveryShown(Shown, kw_only=True, frozen=True):
    """`alias` and `name` are its id."""

    queue_id: str
    listener_id: str
    state: str
    counts: RedeliveryCounts
    ended_at: int
    pace: int | UnsetType = UNSET


class DryRun(msgspec.Struct, frozen=True):
    """What would be chosen. The ids are empty when it is nothing."""

    selected: int
    first_message: str
    last_message: str


class Redelivery(Answer, kw_only=True, frozen=True):
    redelivery: RedeliveryShown


class AskedRedelivery(Answer, kw_only=True, frozen=True, omit_defaults=True):
    """`dry_run` in place of the redelivery where one was asked for."""

    redelivery: RedeliveryShown | UnsetType = UNSET
    dry_run: DryRun | UnsetType = UNSET


class Redeliveries(Answer, kw_only=True, frozen=True):
    redeliveries: list[RedeliveryShown]
