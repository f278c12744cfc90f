"""The list of queues."""

from typing import Final

from discue.control import queues
from discue.dashboard.listing import names_offered, selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit
from discue.domain.reservations import HTML_PAGE

_LISTENERS: Final = 20
"""The largest number of listeners of a queue that are counted."""


async def show(visit: Visit) -> Page:
    selection = selection_of(visit, "alias")
    found = await queues.page(visit.control, visit.principal, selection, shown_listeners=_LISTENERS)
    page = shown(visit, found, [each.queue.public_id for each in found.items], "alias")
    return Page(
        "queues.html",
        "Queues",
        {"list": page, "counted": _LISTENERS, "offered": await names_offered(visit, "queue", page)},
        is_live=True,
    )


ROUTES: Final = (PageRoute("/queues", show, needs="queues", reads=HTML_PAGE),)
