"""The queues, with the schemas that they check messages by."""

from typing import Final

from discue.control import queues
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.queue_form import LANGUAGES
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit
from discue.domain.reservations import HTML_PAGE


async def show(visit: Visit) -> Page:
    visit.principal.require("schemas", "read")
    found = await queues.page(visit.control, visit.principal, selection_of(visit, "alias"), shown_listeners=0)
    page = shown(visit, found, [each.queue.public_id for each in found.items], "alias")
    return Page("schemas.html", "Schemas", {"list": page, "languages": LANGUAGES})


ROUTES: Final = (PageRoute("/schemas", show, needs="queues", reads=HTML_PAGE),)
