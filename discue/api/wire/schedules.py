"""Recurring messages."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.wire.answer import Answer, Shown
from discue.api.wire.delivery_options import RetryShown


class RunShown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A run that published has its message, one that was skipped the reason."""

    scheduled_at: int
    ran_at: int
    state: str
    message_id: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class ScheduleShown(Shown, kw_only=True, frozen=True):
    """`data` is what listeners receive, as a string: not in lists. What was not chosen, or was not yet, is left out."""

    queue_id: str
    status: str
    cron: str
    time_zone: str
    missed_runs: str
    catch_up_limit: int
    next_runs: list[int]
    last_run: RunShown | UnsetType = UNSET
    starts_at: int | UnsetType = UNSET
    ends_at: int | UnsetType = UNSET
    data: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    retry: RetryShown | UnsetType = UNSET
    expires_in: int | UnsetType = UNSET


class Schedule(Answer, kw_only=True, frozen=True):
    schedule: ScheduleShown


class Schedules(Answer, kw_only=True, frozen=True):
    schedules: list[ScheduleShown]
