"""The redeliveries and replays of all listeners, with their progress."""

from typing import Final

from discue.control import jobs, listeners, messages
from discue.control.jobs import REDELIVERIES, REPLAYS
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit
from discue.domain.model import JobListener
from discue.domain.reservations import HTML_PAGE
from discue.store.jobs import Job
from discue.store.pagination import Listing


async def show(visit: Visit) -> Page:
    found = await REDELIVERIES.page_of_all(visit.control, visit.principal, selection_of(visit))
    return await _page(visit, "Redeliveries", found, kind="redelivery")


async def show_replays(visit: Visit) -> Page:
    found = await REPLAYS.page_of_all(visit.control, visit.principal, selection_of(visit))
    waits = await jobs.waits_for_turns(visit.control, visit.principal, [replay for replay, _ in found.items])
    open_at = {listener.public_id for replay, listener in found.items if replay.state != "done"}
    holds = await listeners.holds(visit.control, visit.principal, open_at)
    return await _page(visit, "Replays", found, kind="replay", waits_for_turns=waits, holds=holds)


async def _page(visit: Visit, title: str, found: Listing[tuple[Job, JobListener]], **values: object) -> Page:
    page = shown(visit, found, [job.public_id for job, _ in found.items])
    ids = sorted({job.listener for job, _ in found.items})
    failures = await messages.last_failures_of_listeners(visit.control, visit.principal.organization, ids)
    return Page("jobs.html", title, {"list": page, "failures": failures, **values})


ROUTES: Final = (
    PageRoute("/jobs", show, needs="listeners", reads=HTML_PAGE),
    PageRoute("/jobs/replays", show_replays, needs="listeners", reads=HTML_PAGE),
)
