"""When a schedule runs: cron expressions in time zones, and what becomes of runs whose time has passed."""

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from functools import cache
from itertools import islice, takewhile
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from cronsim import CronSim, CronSimError

from discue.domain.errors import Fault, Unprocessable
from discue.domain.model import MessageOptions

LATE_MS: Final = 300_000
"""A run that comes later than this has been missed."""

CATCH_UP: Final = range(1, 101)
CATCH_UP_LIMIT: Final = 10
LONGEST_CRON: Final = 255
LONGEST_AHEAD_MS: Final = 10 * 366 * 86_400_000
WORDS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}

MissedRunAction = Literal["skip", "catch_up"]

_MINUTE_MS: Final = 60_000
_WIDER: Final = 4
_FIELDS: Final = 5
_NO_PLACES: Final = frozenset({"localtime", "Factory"})


class Timing(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cron expression in a time zone, from `starts_at` on and before `ends_at`."""

    cron: str
    time_zone: str = "UTC"
    starts_at: int | None = None
    ends_at: int | None = None


class MissedRunPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of missed runs: they are skipped, or the newest `limit` of them caught up on."""

    runs: MissedRunAction = "skip"
    limit: int = CATCH_UP_LIMIT


class ScheduleRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run. It published a message, or it was skipped for a reason: one of the two is there."""

    scheduled_at: int
    ran_at: int
    message_id: str = ""
    reason: str = ""


class Schedule(msgspec.Struct, frozen=True):
    """A message that a queue gets again and again. `next_run_at` is None where no run is to come.

    `expires_in` is for how many seconds each message is worth delivering.
    """

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
    is_json: bool = True
    missed: MissedRunPolicy = MissedRunPolicy()
    options: MessageOptions = MessageOptions()
    expires_in: int | None = None
    next_run_at: int | None = None
    last_run: ScheduleRun | None = None

    def __repr__(self) -> str:
        return f"Schedule(organization={self.organization}, public_id={self.public_id!r}, alias={self.alias!r})"


class DueRuns(NamedTuple):
    """What is to be done at a moment: messages for these `runs`, oldest first. `missed` is the newest one skipped."""

    runs: tuple[int, ...]
    missed: int | None
    next_run_at: int | None


class UnknownTimeZone(Exception):
    """This machine does not know the time zone."""


def check_timing(timing: Timing) -> None:
    """Raises Unprocessable for what is no cron expression, no time zone, or comes to an end before it begins."""
    if _is_too_long(timing.cron) or len(_expression(timing.cron).split()) != _FIELDS:
        raise _unfit("/cron", f"must have five fields, or be one of {', '.join(WORDS)}")
    if timing.time_zone not in _zones():
        raise _unfit("/time_zone", "must be the name of a time zone of the IANA, such as Europe/Zurich")
    try:
        CronSim(_expression(timing.cron), datetime.fromtimestamp(0, UTC))
    except CronSimError as error:
        raise _unfit("/cron", f"is no cron expression: {str(error).lower()}") from None
    if timing.starts_at is not None and timing.ends_at is not None and timing.ends_at <= timing.starts_at:
        raise _unfit("/ends_at", "must be later than starts_at")


def runs_after(timing: Timing, instant: int, most: int) -> tuple[int, ...]:
    """The next runs later than an instant, `most` at most. Raises UnknownTimeZone."""
    return tuple(islice(_later(timing, instant), most))


def first_run(schedule: Schedule, now: int) -> int | None:
    """When one that was made or changed now runs next."""
    runs = runs_after(schedule.timing, now, 1) if schedule.status == "enabled" else ()
    return runs[0] if runs else None


def next_runs(schedule: Schedule, most: int) -> tuple[int, ...]:
    """The runs to come, as they are known: the first of them is that which the schedule waits for."""
    first = schedule.next_run_at
    return () if first is None else (first, *runs_after(schedule.timing, first, most - 1))


def due_runs(schedule: Schedule, now: int) -> DueRuns:
    """What is due by now of a schedule that waits for a run which has come. Raises UnknownTimeZone.

    What is late by LATE_MS at most was not missed: of several such runs the newest stands for all.
    """
    timing, missed = schedule.timing, schedule.missed
    first = now if schedule.next_run_at is None else schedule.next_run_at
    most = missed.limit if missed.runs == "catch_up" else 1
    newest = _newest(timing, (first, now), most)
    following = runs_after(timing, now, 1)
    next_run_at = following[0] if following else None
    if missed.runs == "skip" and newest and now - newest[-1] > LATE_MS:
        return DueRuns((), newest[-1], next_run_at)
    return DueRuns(newest, None, next_run_at)


def _newest(timing: Timing, span: tuple[int, int], most: int) -> tuple[int, ...]:
    """The last runs between two instants, both included, however many there are: looked for from the end."""
    first, last = span
    width = most * _MINUTE_MS
    while True:
        start = max(first - 1, last - width)
        found = tuple(takewhile(lambda run: run <= last, _later(timing, start)))
        if len(found) >= most or start == first - 1:
            return found[-most:]
        width *= _WIDER


def _later(timing: Timing, instant: int) -> Iterator[int]:
    last = instant if timing.starts_at is None else max(instant, timing.starts_at - 1)
    for run in _ticks(timing, last):
        if timing.ends_at is not None and run >= timing.ends_at:
            return
        # Where clocks are set forward several fall on one moment; where they are set back, one that was is found again.
        if run > last:
            last = run
            yield run


def _ticks(timing: Timing, instant: int) -> Iterator[int]:
    begin = datetime.fromtimestamp(instant // 1_000, _zone(timing.time_zone))
    try:
        for moment in CronSim(_expression(timing.cron), begin):
            yield int(moment.timestamp()) * 1_000
    except OverflowError:
        # The calendar has an end.
        return


def _expression(cron: str) -> str:
    return WORDS.get(cron.strip(), cron)


def _is_too_long(cron: str) -> bool:
    return len(cron) > LONGEST_CRON


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    if name not in _zones():
        raise UnknownTimeZone(name)
    return ZoneInfo(name)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_PLACES


def _unfit(pointer: str, rule: str) -> Unprocessable:
    return Unprocessable(f"The value at {pointer} {rule}.", faults=(Fault(pointer, rule),))
