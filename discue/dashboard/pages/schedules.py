"""The schedules of all queues: when each runs next, and what came of its last run."""

from typing import Final

from discue.control import queues, schedules
from discue.dashboard.listing import names_offered, selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit
from discue.domain.reservations import HTML_PAGE

SKIPPED: Final = {
    "late": "it was too late",
    "schema": "the queue's schema rejects the data",
    "too_large": "the message is too large for the queue",
    "quota": "a quota is used up",
    "suspended": "the organization is suspended",
    "time_zone": "the time zone is unknown",
}
"""Reasons for a run that published nothing, in words."""


async def show(visit: Visit) -> Page:
    found = await schedules.page_of_all(visit.control, visit.principal, selection_of(visit, "alias"))
    page = shown(visit, found, [each.public_id for each in found.items], "alias")
    names = await queues.names(visit.control, visit.principal, {each.queue_public_id for each in found.items})
    offered = await names_offered(visit, "schedule", page)
    return Page("schedules.html", "Schedules", {"list": page, "queues": names, "skipped": SKIPPED, "offered": offered})


ROUTES: Final = (PageRoute("/schedules", show, needs="messages", reads=HTML_PAGE),)
