"""Runs of schedules: time zones, changes of clocks, and late runs."""

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.errors import Unprocessable
from discue.domain.schedule import (
    LATE_MS,
    MACROS,
    DueRuns,
    MissedRunPolicy,
    Schedule,
    Timing,
    UnknownTimeZone,
    check_timing,
    due_runs,
    first_run,
    next_runs,
    runs_after,
)

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NEW_YORK = "America/New_York"
ZONES = ("UTC", NEW_YORK, "Europe/Zurich", "Australia/Lord_Howe", "America/St_Johns", "Africa/Cairo", "Asia/Kolkata")

FORWARD = "2026-03-08T00:50:00-05:00"
"""An hour and ten minutes before the clocks of New York are set forward from two to three."""
BACK = "2026-11-01T00:50:00-04:00"
"""An hour and ten minutes before they are set back from two to one."""


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000)


def shown(runs: tuple[int, ...], zone: str = NEW_YORK) -> list[str]:
    return [f"{datetime.fromtimestamp(run / 1_000, ZoneInfo(zone)):%d %H:%M %Z}" for run in runs]


SKIP = MissedRunPolicy()


def waiting(timing: Timing, next_run_at: int | None, missed: MissedRunPolicy = SKIP) -> Schedule:
    return Schedule(
        organization=1,
        id=2,
        public_id="s",
        queue=3,
        queue_public_id="q",
        alias="schedule",
        status="enabled",
        timing=timing,
        config_version=1,
        created_at=0,
        updated_at=0,
        missed=missed,
        next_run_at=next_run_at,
    )


CRONS = st.sampled_from(
    [
        "* * * * *",
        "*/7 * * * *",
        "0 * * * *",
        "30 */2 * * *",
        "30 2 * * *",
        "0,15,45 0-3 * * *",
        "30 1 * * *",
        "5 0 * * 0",
        "0 0 L * *",
        "15 3 1,15 * *",
        "@daily",
    ]
)
CHANGES = (instant("2026-03-08T00:00:00Z"), instant("2026-04-05T00:00:00Z"), instant("2026-10-25T00:00:00Z"))
INSTANTS = st.one_of(
    st.integers(0, instant("2060-01-01T00:00:00Z")),
    st.builds(int.__add__, st.sampled_from((*CHANGES, instant(BACK))), st.integers(-DAY, DAY)),
)
# Whole minutes, or most examples would be late by less than one run.
LATENESS = st.builds(lambda minutes, rest: minutes * MINUTE + rest, st.integers(0, 179), st.integers(0, MINUTE - 1))
TIMINGS = st.builds(Timing, CRONS, st.sampled_from(ZONES))


@given(TIMINGS, INSTANTS)
def test_runs_are_at_least_a_minute_apart(timing: Timing, now: int) -> None:
    runs = runs_after(timing, now, 20)
    assert len(runs) == 20
    assert runs[0] > now
    assert all(later - earlier >= MINUTE for earlier, later in pairwise(runs))
    assert all(run % MINUTE == 0 for run in runs)


@given(TIMINGS, INSTANTS, st.integers(0, 9))
def test_following_runs_do_not_depend_on_the_starting_point(timing: Timing, now: int, place: int) -> None:
    runs = runs_after(timing, now, 12)
    assert runs_after(timing, runs[place], 2) == runs[place + 1 : place + 3]
    assert runs_after(timing, runs[place] - 1, 1) == (runs[place],)


@given(TIMINGS, INSTANTS, st.integers(1, 3 * DAY), st.integers(1, 3 * DAY))
def test_runs_are_within_start_and_end(timing: Timing, now: int, wait: int, length: int) -> None:
    starts_at, ends_at = now + wait, now + wait + length
    bounded = Timing(timing.cron, timing.time_zone, starts_at, ends_at)
    unbounded = runs_after(timing, starts_at - 1, 100)
    assert runs_after(bounded, now, 100) == tuple(run for run in unbounded if run < ends_at)


@given(TIMINGS, INSTANTS, LATENESS, st.integers(1, 30))
def test_catch_up_publishes_the_newest_runs(timing: Timing, now: int, lateness: int, limit: int) -> None:
    (first,) = runs_after(timing, now, 1)
    due = due_runs(waiting(timing, first, MissedRunPolicy("catch_up", limit)), first + lateness)
    between = [run for run in runs_after(timing, first - 1, 200) if run <= first + lateness]
    assert due.runs == tuple(between[-limit:])
    assert due.missed is None
    assert due.next_run_at == runs_after(timing, first + lateness, 1)[0]


@given(TIMINGS, INSTANTS, LATENESS)
def test_skip_publishes_only_the_newest_run_unless_it_is_late(timing: Timing, now: int, lateness: int) -> None:
    (first,) = runs_after(timing, now, 1)
    at = first + lateness
    newest = [run for run in runs_after(timing, first - 1, 200) if run <= at][-1]
    due = due_runs(waiting(timing, first), at)
    if at - newest <= LATE_MS:
        assert (due.runs, due.missed) == ((newest,), None)
    else:
        assert (due.runs, due.missed) == ((), newest)
    assert due.next_run_at == runs_after(timing, at, 1)[0]


def test_runs_are_not_repeated_when_the_clock_is_set_back() -> None:
    timing = Timing("0 * * * *")
    due = due_runs(waiting(timing, 5 * HOUR), 5 * HOUR)
    assert due == DueRuns((5 * HOUR,), None, 6 * HOUR)
    assert next_runs(waiting(timing, due.next_run_at), 3) == (6 * HOUR, 7 * HOUR, 8 * HOUR)


def test_run_in_a_skipped_hour_follows_the_change_of_clocks() -> None:
    assert shown(runs_after(Timing("30 2 * * *", NEW_YORK), instant(FORWARD), 2)) == ["08 03:00 EDT", "09 02:30 EDT"]
    assert shown(runs_after(Timing("0,30 2 * * *", NEW_YORK), instant(FORWARD), 2)) == ["08 03:00 EDT", "09 02:00 EDT"]


def test_interval_continues_across_the_change_of_clocks() -> None:
    timing = Timing("*/30 * * * *", NEW_YORK)
    assert shown(runs_after(timing, instant(FORWARD), 3)) == ["08 01:00 EST", "08 01:30 EST", "08 03:00 EDT"]
    assert shown(runs_after(Timing("*/30 2 * * *", NEW_YORK), instant(FORWARD), 1)) == ["09 02:00 EDT"]


def test_fixed_time_runs_once_in_a_repeated_hour() -> None:
    assert shown(runs_after(Timing("30 1 * * *", NEW_YORK), instant(BACK), 2)) == ["01 01:30 EDT", "02 01:30 EST"]
    runs = runs_after(Timing("0 * * * *", NEW_YORK), instant(BACK), 3)
    assert shown(runs) == ["01 01:00 EDT", "01 01:00 EST", "01 02:00 EST"]
    between = instant("2026-11-01T01:10:00-05:00")
    assert shown(runs_after(Timing("30 1 * * *", NEW_YORK), between, 1)) == ["02 01:30 EST"]


@pytest.mark.parametrize(("word", "cron"), MACROS.items())
def test_macros_stand_for_expressions(word: str, cron: str) -> None:
    check_timing(Timing(word))
    assert runs_after(Timing(word), 0, 3) == runs_after(Timing(cron), 0, 3)


NONE = ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "@never", "x"]
ODD = ["*/0 * * * *", "5-1 * * * *", "* * 31 2 *", "* * * * MON#6", "0 0 * * " + "1," * 130 + "1", "² * * * *"]


@pytest.mark.parametrize("cron", [*NONE, *ODD])
def test_invalid_expression_is_rejected(cron: str) -> None:
    with pytest.raises(Unprocessable) as refusal:
        check_timing(Timing(cron))
    assert [fault.pointer for fault in refusal.value.faults] == ["/cron"]


def test_invalid_field_of_an_expression_is_named() -> None:
    with pytest.raises(Unprocessable, match="has an invalid day-of-month field; write numbers, ranges such as 1-5"):
        check_timing(Timing("* * 0 * *"))


@given(st.text("0123456789*,-/#LWMONJAN @\t", max_size=40))
def test_any_text_is_an_expression_or_rejected(cron: str) -> None:
    try:
        check_timing(Timing(cron))
    except Unprocessable:
        return
    runs = runs_after(Timing(cron), 0, 2)
    assert list(runs) == sorted(set(runs))


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../UTC", "utc", "localtime", "Factory", "UTC\0"])
def test_unknown_time_zone_is_rejected(zone: str) -> None:
    with pytest.raises(Unprocessable, match="/time_zone"):
        check_timing(Timing("* * * * *", zone))
    with pytest.raises(UnknownTimeZone):
        runs_after(Timing("* * * * *", zone), 0, 1)


def test_end_before_the_start_is_rejected() -> None:
    with pytest.raises(Unprocessable, match="/ends_at"):
        check_timing(Timing("* * * * *", "UTC", 5, 5))


def test_disabled_schedule_and_impossible_date_have_no_run() -> None:
    assert runs_after(Timing("0 0 */31 2 MON#5"), 0, 1) == ()
    end_of_time = instant("9999-12-31T23:30:00+00:00")
    assert len(runs_after(Timing("0 * * * *"), end_of_time - 2 * HOUR, 9)) == 2
    disabled = msgspec.structs.replace(waiting(Timing("* * * * *"), None), status="disabled")
    assert (first_run(disabled, 0), next_runs(disabled, 5)) == (None, ())
