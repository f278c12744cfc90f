"""The endpoints of a customer: all of them, and a form to add one."""

from typing import Final

from discue.control import listeners, portal
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.pages.listeners import rows_of
from discue.dashboard.portal.endpoint_form import fields_of_form
from discue.dashboard.portal.route import PortalRoute, of_portal
from discue.dashboard.visit import Page, Visit
from discue.domain.errors import invalid
from discue.store.pagination import Listing


async def show(visit: Visit) -> Page:
    """Show the endpoints, and whether each receives."""
    selection = selection_of(visit)
    found: Listing[listeners.ListenerDetails] = Listing((), has_next=False, has_previous=False)
    if of_portal(visit).details.queues:
        found = await listeners.page(visit.control, visit.principal, selection, with_missed=False)
    page = shown(visit, found, [each.listener.public_id for each in found.items])
    return Page("endpoints.html", "Endpoints", {"list": page, "rows": await rows_of(visit, found.items)})


async def show_new(visit: Visit) -> Page:
    types = await portal.event_types(visit.control, of_portal(visit).details)
    form = visit.form or {"queue": visit.query.get("queue", "")}
    return Page("new.html", "Add an endpoint", {"types": types, "form": form})


async def add(visit: Visit) -> Page:
    """Create the endpoint, and show its secret: this is the only time."""
    queue = visit.form.get("queue", "")
    if queue not in of_portal(visit).details.queues:
        raise invalid("/queue", "must be chosen")
    made = await listeners.create(visit.control, visit.principal, queue, fields_of_form(visit))
    listener = made.listener
    values = {
        "heading": "The endpoint is ready",
        "text": made.secret,
        "link": f"/queues/{queue}/listeners/{listener.public_id}",
    }
    return Page("secret.html", "Signing secret", values)


ROUTES: Final = (
    PortalRoute("", show),
    PortalRoute("/endpoints/new", show_new, add, action="create", is_form=True),
)
