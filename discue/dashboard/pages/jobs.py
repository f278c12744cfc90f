"""The redeliveries and replays of all listeners, with their progress."""

from typing import Final

from discue.control import redeliveries
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit
from discue.domain.reservations import HTML_PAGE


async def show(visit: Visit) -> Page:
    found = await redeliveries.page_of_all(visit.control, visit.principal, selection_of(visit))
    page = shown(visit, found, [job.public_id for job, _ in found.items])
    return Page("jobs.html", "Redeliveries", {"list": page, "kind": "redelivery"})


async def show_replays(visit: Visit) -> Page:
    found = await redeliveries.page_of_all_replays(visit.control, visit.principal, selection_of(visit))
    page = shown(visit, found, [job.public_id for job, _ in found.items])
    return Page("jobs.html", "Replays", {"list": page, "kind": "replay"})


ROUTES: Final = (
    PageRoute("/jobs", show, needs="listeners", reads=HTML_PAGE),
    PageRoute("/jobs/replays", show_replays, needs="listeners", reads=HTML_PAGE),
)
