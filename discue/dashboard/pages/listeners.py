"""The listeners of all queues."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from discue.control import listener_activity, listeners
from discue.control.listeners import ListenerDetails
from discue.dashboard.listing import names_offered, selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.states import state_of
from discue.dashboard.visit import Page, Visit
from discue.domain.attempts import StoredAttempt
from discue.domain.reservations import HTML_PAGE
from discue.store.listener_tallies import ListenerTally


@dataclass(frozen=True, slots=True)
class ListenerRow:
    """A listener in a list."""

    details: ListenerDetails
    hour: ListenerTally
    """The attempts of the past hour."""

    @property
    def state(self) -> str:
        """The state in one word, which is also the class of its colour."""
        return state_of(self.details)

    @property
    def last_failure(self) -> StoredAttempt | None:
        """The last failed attempt, if messages are retried or missed, or nothing was acknowledged since."""
        counts = self.details.counts
        is_failing = counts.retrying or counts.missed or counts.last_failure_at > counts.last_success_at
        return self.details.last_failure if is_failing else None

    @property
    def path(self) -> str:
        listener = self.details.listener
        return f"/queues/{listener.queue_public_id}/listeners/{listener.public_id}"


async def rows_of(visit: Visit, found: Sequence[ListenerDetails]) -> Sequence[ListenerRow]:
    """Return listeners with their attempts of the past hour."""
    hours = await listener_activity.past_hour(visit.control, [each.listener for each in found])
    return [ListenerRow(each, hours[each.listener.id]) for each in found]


async def show(visit: Visit) -> Page:
    selection = selection_of(visit, "alias")
    found = await listeners.page(visit.control, visit.principal, selection, with_missed=False)
    page = shown(visit, found, [each.listener.public_id for each in found.items], "alias")
    values = {
        "list": page,
        "rows": await rows_of(visit, found.items),
        "offered": await names_offered(visit, "listener", page),
    }
    return Page("listeners.html", "Listeners", values, is_live=True)


ROUTES: Final = (PageRoute("/listeners", show, needs="listeners", reads=HTML_PAGE),)
