"""The redeliveries and replays of all listeners, with their progress."""

from collections.abc import Mapping, Sequence
from typing import Final

from discue.control import listeners, messages, redeliveries
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit
from discue.domain.attempts import StoredAttempt
from discue.domain.model import Redelivery, Replay
from discue.domain.reservations import HTML_PAGE


async def failures_of(visit: Visit, found: Sequence[tuple[Redelivery | Replay, object]]) -> Mapping[int, StoredAttempt]:
    """Return the last failed attempt of the listener of each job, by row id."""
    ids = {job.listener for job, _ in found}
    return await messages.last_failures_of_listeners(visit.control, visit.principal.organization, sorted(ids))


async def show(visit: Visit) -> Page:
    found = await redeliveries.page_of_all(visit.control, visit.principal, selection_of(visit))
    page = shown(visit, found, [job.public_id for job, _ in found.items])
    failures = await failures_of(visit, found.items)
    return Page("jobs.html", "Redeliveries", {"list": page, "kind": "redelivery", "failures": failures})


async def show_replays(visit: Visit) -> Page:
    found = await redeliveries.page_of_all_replays(visit.control, visit.principal, selection_of(visit))
    page = shown(visit, found, [job.public_id for job, _ in found.items])
    failures = await failures_of(visit, found.items)
    waits = await redeliveries.waits_for_turns(visit.control, visit.principal, [replay for replay, _ in found.items])
    open_at = {listener.public_id for replay, listener in found.items if replay.state != "done"}
    holds = await listeners.holds(visit.control, visit.principal, open_at)
    values = {"list": page, "kind": "replay", "failures": failures, "waits_for_turns": waits, "holds": holds}
    return Page("jobs.html", "Replays", values)


ROUTES: Final = (
    PageRoute("/jobs", show, needs="listeners", reads=HTML_PAGE),
    PageRoute("/jobs/replays", show_replays, needs="listeners", reads=HTML_PAGE),
)
