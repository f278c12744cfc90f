"""Schedules: cron expressions in time zones, their runs, and what happens to missed runs."""

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from functools import cache
from itertools import islice, takewhile
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from cronsim import CronSim, CronSimError

from discue.domain.errors import invalid
from discue.domain.message_data import JSON_VALUE, Codec
from discue.domain.messages import MessageOptions
from discue.domain.representation import shows

LATE_MS: Final = 300_000
"""Delay after which a run counts as missed."""

CATCH_UP: Final = range(1, 101)
"""Allowed numbers of missed runs to catch up on."""
CATCH_UP_LIMIT: Final = 10
"""Default number of missed runs to catch up on."""
MAX_CRON_CHARACTERS: Final = 255
MAX_AHEAD_MS: Final = 10 * 366 * 86_400_000
MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}

MissedRunAction = Literal["skip", "catch_up"]

SkipReason = Literal["late", "schema", "too_large", "quota", "suspended", "time_zone"]
"""Reasons why a run publishes nothing: it was too late, the data does not pass the queue's schema or size limit any
more, the organization may not publish more, or the time zone is unknown.
"""

_MINUTE_MS: Final = 60_000
_WIDENING_FACTOR: Final = 4
_FIELDS: Final = 5
_NOT_TIME_ZONES: Final = frozenset({"localtime", "Factory"})
"""Files of the time zone database that depend on the machine, or mean that none is set."""


class Timing(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cron expression in a time zone, and the period in which it applies."""

    cron: str
    time_zone: str = "UTC"
    starts_at: int | None = None
    """Milliseconds since the epoch, inclusive; None: no start."""
    ends_at: int | None = None
    """Milliseconds since the epoch, exclusive; None: no end."""


class MissedRunPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """Treatment of missed runs: skip them, or catch up on the newest `limit` of them."""

    runs: MissedRunAction = "skip"
    limit: int = CATCH_UP_LIMIT


class ScheduleRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that has published a message, or was skipped. Times are in milliseconds since the epoch."""

    scheduled_at: int
    ran_at: int
    message_id: str = ""
    """"" if the run was skipped."""
    reason: SkipReason | Literal[""] = ""
    """"" if the run was not skipped."""


@shows("organization", "public_id", "alias")
class Schedule(msgspec.Struct, frozen=True):
    """A message that is published to a queue repeatedly."""

    organization: int
    id: int
    public_id: str
    queue: int
    queue_public_id: str
    alias: str
    status: Literal["enabled", "disabled"]
    timing: Timing
    config_version: int
    created_at: int
    updated_at: int
    data: bytes = b""
    codec: Codec = JSON_VALUE
    missed: MissedRunPolicy = MissedRunPolicy()
    options: MessageOptions = MessageOptions()
    expires_in: int | None = None
    """Time until each message expires, in seconds; None: never."""
    next_run_at: int | None = None
    """Milliseconds since the epoch; None if no run follows."""
    last_run: ScheduleRun | None = None


class DueRuns(NamedTuple):
    """The runs of a schedule that are due. Times are in milliseconds since the epoch."""

    runs: tuple[int, ...]
    """Runs to publish a message for, oldest first."""
    missed: int | None
    """The newest skipped run; None if none was skipped."""
    next_run_at: int | None
    """None if no run follows."""


class UnknownTimeZone(Exception):
    """The time zone database of this machine does not have the time zone."""


def check_timing(timing: Timing) -> None:
    """Raise Unprocessable for an invalid cron expression or time zone, or an end before the start."""
    if len(timing.cron) > MAX_CRON_CHARACTERS or len(_expression(timing.cron).split()) != _FIELDS:
        raise invalid("/cron", f"must have five fields, or be one of {', '.join(MACROS)}")
    if timing.time_zone not in _time_zones():
        raise invalid("/time_zone", "must be an IANA time zone, such as Europe/Zurich")
    try:
        CronSim(_expression(timing.cron), datetime.fromtimestamp(0, UTC))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        examples = "numbers, ranges such as 1-5, lists such as 1,15, or steps such as */5"
        rule = f"has an invalid {field} field; write {examples}"
        raise invalid("/cron", rule) from None
    if timing.starts_at is not None and timing.ends_at is not None and timing.ends_at <= timing.starts_at:
        raise invalid("/ends_at", "must be later than starts_at", code="conflicting_fields")


def runs_after(timing: Timing, instant: int, limit: int) -> tuple[int, ...]:
    """Return the next runs after a time, at most `limit`. Raises UnknownTimeZone."""
    return tuple(islice(_runs_after(timing, instant), limit))


def first_run(schedule: Schedule, now: int) -> int | None:
    """Return the next run of a schedule that is created or changed now; None if none follows."""
    runs = runs_after(schedule.timing, now, 1) if schedule.status == "enabled" else ()
    return runs[0] if runs else None


def next_runs(schedule: Schedule, limit: int) -> tuple[int, ...]:
    """Return the next runs, starting with the stored one, at most `limit`. Raises UnknownTimeZone."""
    first = schedule.next_run_at
    return () if first is None else (first, *runs_after(schedule.timing, first, limit - 1))


def due_runs(schedule: Schedule, now: int) -> DueRuns:
    """Return what is due of a schedule whose next run has come. Raises UnknownTimeZone.

    A run that is late by at most `LATE_MS` is not missed. If several such runs are due, only the newest is published.
    """
    timing, missed = schedule.timing, schedule.missed
    first = now if schedule.next_run_at is None else schedule.next_run_at
    limit = missed.limit if missed.runs == "catch_up" else 1
    newest = _newest_runs(timing, (first, now), limit)
    following = runs_after(timing, now, 1)
    next_run_at = following[0] if following else None
    # With "skip" a run that is a little late still counts; otherwise a restart of the service would lose it.
    if missed.runs == "skip" and newest and now - newest[-1] > LATE_MS:
        return DueRuns((), newest[-1], next_run_at)
    return DueRuns(newest, None, next_run_at)


def _newest_runs(timing: Timing, span: tuple[int, int], limit: int) -> tuple[int, ...]:
    """Return the newest runs between two times, both included.

    Cron expressions can only be evaluated forward. After a long pause the span may contain millions of runs, so this
    searches a period at its end that grows until it contains enough of them.
    """
    first, last = span
    width = limit * _MINUTE_MS
    while True:
        start = max(first - 1, last - width)
        found = tuple(takewhile(lambda run: run <= last, _runs_after(timing, start)))
        if len(found) >= limit or start == first - 1:
            return found[-limit:]
        width *= _WIDENING_FACTOR


def _runs_after(timing: Timing, instant: int) -> Iterator[int]:
    last = instant if timing.starts_at is None else max(instant, timing.starts_at - 1)
    for run in _ticks(timing, last):
        if timing.ends_at is not None and run >= timing.ends_at:
            return
        # When clocks are set forward, several runs fall on the same moment; when they are set back, one repeats.
        if run > last:
            last = run
            yield run


def _ticks(timing: Timing, instant: int) -> Iterator[int]:
    begin = datetime.fromtimestamp(instant // 1_000, _time_zone(timing.time_zone))
    try:
        for moment in CronSim(_expression(timing.cron), begin):
            yield int(moment.timestamp()) * 1_000
    except OverflowError:
        # The end of the year 9999.
        return


def _expression(cron: str) -> str:
    return MACROS.get(cron.strip(), cron)


def _time_zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    if name not in _time_zones():
        raise UnknownTimeZone(name)
    return ZoneInfo(name)


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones()) - _NOT_TIME_ZONES
