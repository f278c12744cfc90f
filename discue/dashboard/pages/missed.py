"""The messages that listeners have missed: dead letters, of all queues."""

from typing import Final

from discue.control import redeliveries
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit
from discue.domain.model import MISSED_REASONS

_FILTERS: Final = ("listener", "queue", "reason")


async def show(visit: Visit) -> Page:
    found = await redeliveries.page_of_all_missed(visit.control, visit.principal, selection_of(visit, *_FILTERS))
    # The positions in this list are not ids of messages: the same message may be missed by several listeners.
    page = shown(visit, found, [], *_FILTERS)
    return Page(
        "missed.html",
        "Missed",
        {
            "list": page,
            "filters": {name: visit.query.get(name, "") for name in _FILTERS},
            "reasons": MISSED_REASONS,
        },
        is_live=True,
    )


ROUTES: Final = (PageRoute("/missed", show, needs="listeners"),)
