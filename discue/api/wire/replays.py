"""Replays."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.wire.answer import Answer, Shown
from discue.api.wire.redeliveries import DryRun


class ReplayCounts(msgspec.Struct, frozen=True):
    """Of messages."""

    selected: int
    delivered: int
    failed: int
    expired: int
    retrying: int
    remaining: int


class ReplayShown(Shown, kw_only=True, frozen=True):
    """`alias` and `name` are its id."""

    queue_id: str
    listener_id: str
    state: str
    counts: ReplayCounts
    ended_at: int
    pace: int | UnsetType = UNSET
    filter: msgspec.Raw | UnsetType = UNSET


class Replay(Answer, kw_only=True, frozen=True):
    replay: ReplayShown


class AskedReplay(Answer, kw_only=True, frozen=True, omit_defaults=True):
    """`dry_run` in place of the replay where one was asked for."""

    replay: ReplayShown | UnsetType = UNSET
    dry_run: DryRun | UnsetType = UNSET


class Replays(Answer, kw_only=True, frozen=True):
    replays: list[ReplayShown]
