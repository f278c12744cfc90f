"""The audit log: who changed what, in the past 24 hours."""

from typing import Final

from discue.control import usage
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit

_EVENTS: Final = 50


async def show(visit: Visit) -> Page:
    selection = selection_of(visit, per_page=_EVENTS)
    found = await usage.list_of_events(visit.control, visit.principal, selection, has_messages=False)
    return Page("events.html", "Events", {"list": shown(visit, found, [each.id for each in found.items])})


ROUTES: Final = (PageRoute("/events", show, needs="events"),)
