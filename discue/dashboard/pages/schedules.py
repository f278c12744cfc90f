"""Schedules: their list, when one runs, and forms that create, change, disable and delete one."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

from discue.control import queues, schedules
from discue.control.schedules import EXPIRES_IN_SECONDS, ScheduleFields
from discue.dashboard.fields import (
    DATA_FORM_BYTES,
    Edit,
    instant_of,
    key_of,
    matching,
    number_of,
    queue_name,
    queue_of,
    queues_offered,
    typed,
    value_of,
)
from discue.dashboard.listing import names_offered, selection_of, shown
from discue.dashboard.visit import Page, PageRoute, Redirect, Visit, form_route
from discue.domain.errors import invalid
from discue.domain.message_data import BYTES, DEFAULT_MEDIA_TYPES, JSON_VALUE, SentData
from discue.domain.schedule import CATCH_UP, CATCH_UP_LIMIT, MACROS, Schedule, UnknownTimeZone, next_runs

SKIPPED: Final = {
    "late": "it was too late",
    "schema": "the queue's schema rejects the data",
    "too_large": "the message is too large for the queue",
    "quota": "a quota is used up",
    "suspended": "the organization is suspended",
    "time_zone": "the time zone is unknown",
}
"""Reasons for a run that published nothing, in words."""


async def show_list(visit: Visit) -> Page:
    found = await schedules.page_of_all(visit.control, visit.principal, selection_of(visit, "alias"))
    page = shown(visit, found, [each.public_id for each in found.items], "alias")
    names = await queues.names(visit.control, visit.principal, {each.queue_public_id for each in found.items})
    offered = await names_offered(visit, "schedule", page)
    return Page("schedules.html", "Schedules", {"list": page, "queues": names, "skipped": SKIPPED, "offered": offered})


_RUNS_SHOWN: Final = 5
_RUN: Final = "%a, %d %b %Y, %H:%M"
"""How a run is shown. The day of the week is there because expressions name it."""
_NEW: Final = {
    "cron": "0 9 * * MON-FRI",
    "time_zone": "UTC",
    "data": '{\n  "report": "daily"\n}',
    "as": "json",
    "missed_runs": "skip",
    "catch_up_limit": str(CATCH_UP_LIMIT),
}
"""The texts of an empty form."""


async def show_new(visit: Visit) -> Page:
    values = {
        "form": {"queue_id": visit.query.get("queue", ""), **_NEW, **visit.form},
        "offered": await queues_offered(visit),
        "newer": {},
        "is_binary": False,
        "macros": tuple(MACROS),
    }
    return Page("schedule_new.html", "New schedule", values)


async def create(visit: Visit) -> Redirect:
    queue = await queue_of(visit, "queue_id")
    made = await schedules.create(visit.control, visit.principal, queue, _fields(visit.form, visit.form.get("as", "")))
    return Redirect(f"/queues/{queue}/schedules/{made.public_id}", "schedule_created")


async def show(visit: Visit) -> Page:
    schedule = await _schedule(visit)
    values = {
        **await _frame(visit, schedule),
        "runs": _runs(schedule),
        "zones": _zones(schedule),
        "skipped": SKIPPED,
        "media_type": schedule.options.content_type or DEFAULT_MEDIA_TYPES[schedule.codec],
    }
    return Page("schedule.html", schedule.alias, values)


async def disable_or_enable(visit: Visit) -> Redirect:
    action = visit.form.get("action", "")
    if action not in ("disable", "enable"):
        raise invalid("/action", "must be disable or enable")
    fields = ScheduleFields(status="disabled" if action == "disable" else "enabled")
    await schedules.change(visit.control, visit.principal, *visit.ids, fields=fields)
    return Redirect(_path(visit), f"schedule_{action}d")


async def _show_form(visit: Visit, template: str, title: str) -> Page:
    schedule = await _schedule(visit)
    values = {
        **await _frame(visit, schedule),
        **_edit(visit, schedule).shown,
        "is_binary": schedule.codec == BYTES,
        "macros": tuple(MACROS),
    }
    return Page(template, f"{title} · {schedule.alias}", values)


_SHOW_EDIT: Final = partial(_show_form, template="schedule_edit.html", title="Edit")
_SHOW_DELETE: Final = partial(_show_form, template="schedule_delete.html", title="Delete")


async def change(visit: Visit) -> Redirect:
    edit = _edit(visit, await _schedule(visit))
    changes = edit.changes
    if "as" in changes:
        # The text stands for other data now.
        changes = {**changes, "data": visit.form.get("data", "")}
    fields = _fields(changes, visit.form.get("as", ""))
    await schedules.change(edit.control, visit.principal, *visit.ids, fields=fields)
    return Redirect(_path(visit), "saved")


async def delete(visit: Visit) -> Redirect:
    await schedules.delete(matching(visit), visit.principal, *visit.ids)
    return Redirect("/schedules", "schedule_deleted")


def _edit(visit: Visit, schedule: Schedule) -> Edit:
    """Return the form for a schedule. Data in bytes is not on it: no text stands for it."""
    timing = schedule.timing
    fields = {
        "alias": schedule.alias,
        "cron": timing.cron,
        "time_zone": timing.time_zone,
        "starts_at": typed(timing.starts_at),
        "ends_at": typed(timing.ends_at),
        "missed_runs": schedule.missed.runs,
        "catch_up_limit": str(schedule.missed.limit),
        "type": schedule.options.type or "",
        "key": schedule.options.key or "",
        "expires_in": str(schedule.expires_in or ""),
    }
    if schedule.codec != BYTES:
        fields["data"] = schedule.data.decode()
        fields["as"] = "json" if schedule.codec == JSON_VALUE else "text"
    return Edit(visit, schedule, fields)


def _fields(texts: Mapping[str, str], kind: str) -> ScheduleFields:
    """Return the fields of a schedule that were typed. Others are left as they are; empty ones get their default.

    `kind` says what the data was typed as. Raises BadRequest and Unprocessable.
    """
    given: dict[str, Any] = {name: texts[name].strip() or None for name in _TEXTS if name in texts}
    # An expression has no default.
    given |= {"cron": texts["cron"].strip()} if "cron" in texts else {}
    given |= {name: number_of(texts[name], name, within) for name, within in _NUMBERS.items() if name in texts}
    for name in _TIMES:
        if name in texts:
            given[name] = instant_of(texts[name], f"/{name}") if texts[name].strip() else None
    if "key" in texts:
        given["key"] = key_of(texts["key"])
    if "data" in texts:
        given["data"] = SentData(value_of(texts["data"], kind))
    return ScheduleFields(**given)


async def _schedule(visit: Visit) -> Schedule:
    return await schedules.get(visit.control, visit.principal, *visit.ids)


async def _frame(visit: Visit, schedule: Schedule) -> dict[str, object]:
    """Return the values of the head of every page of a schedule."""
    return {"schedule": schedule, "queue_name": await queue_name(visit, schedule.queue_public_id)}


def _zones(schedule: Schedule) -> tuple[str, ...]:
    return tuple(dict.fromkeys((schedule.timing.time_zone, "UTC")))


def _runs(schedule: Schedule) -> list[tuple[int, list[str]]]:
    try:
        found = next_runs(schedule, _RUNS_SHOWN)
    except UnknownTimeZone:
        # The last run, which the page shows, says so.
        return []
    zones = [ZoneInfo(name) for name in _zones(schedule)]
    return [(each, [f"{datetime.fromtimestamp(each // 1_000, zone):{_RUN}}" for zone in zones]) for each in found]


def _path(visit: Visit) -> str:
    return f"/queues/{visit.ids[0]}/schedules/{visit.ids[1]}"


_TEXTS: Final = ("alias", "time_zone", "missed_runs", "type")
_NUMBERS: Final = {"catch_up_limit": CATCH_UP, "expires_in": EXPIRES_IN_SECONDS}
_TIMES: Final = ("starts_at", "ends_at")
_SCHEDULE: Final = "/queues/{id}/schedules/{id}"

ROUTES: Final = (
    PageRoute("/schedules", show_list, needs="messages"),
    form_route("/schedules/new", show_new, create, "messages", form_bytes=DATA_FORM_BYTES),
    PageRoute(_SCHEDULE, show, disable_or_enable, needs="messages"),
    form_route(f"{_SCHEDULE}/edit", _SHOW_EDIT, change, "messages", form_bytes=DATA_FORM_BYTES),
    form_route(f"{_SCHEDULE}/delete", _SHOW_DELETE, delete, "messages"),
)
