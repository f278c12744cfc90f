"""The endpoints of a customer: all of them, and a form to add one."""

from collections.abc import Mapping
from typing import Final

from discue.control import listeners
from discue.control.listeners import ListenerDetails
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.pages.listeners import rows_of
from discue.dashboard.portal import sessions
from discue.dashboard.portal.endpoint_form import fields_of_form
from discue.dashboard.portal.route import PortalRoute, of_portal
from discue.dashboard.visit import Page, Visit
from discue.domain.errors import DiscueError, invalid
from discue.domain.reservations import HTML_PAGE
from discue.store.pagination import Listing

MOST_AT_ONCE: Final = 20
"""The largest number of endpoints that one form adds."""


async def show(visit: Visit) -> Page:
    """Show the endpoints, and whether each receives."""
    selection = selection_of(visit)
    found: Listing[ListenerDetails] = Listing((), has_next=False, has_previous=False)
    has_types = bool(of_portal(visit).details.queues)
    if has_types:
        found = await listeners.page(visit.control, visit.principal, selection, with_missed=False)
    page = shown(visit, found, [each.listener.public_id for each in found.items])
    values = {"list": page, "rows": await rows_of(visit, found.items), "has_types": has_types}
    return Page("endpoints.html", "Endpoints", values)


async def show_new(visit: Visit) -> Page:
    types = await _types_offered(visit)
    chosen = [each for each in types if _name_of(each) in visit.form]
    if not visit.form:
        chosen = [visit.query.get("queue", "")] if len(types) > 1 else list(types)
    return Page("new.html", "Add an endpoint", {"types": types, "chosen": chosen, "form": visit.form})


async def add(visit: Visit) -> Page:
    """Create an endpoint for each chosen event type, and show their secrets: this is the only time."""
    types = await _types_offered(visit)
    chosen = [each for each in types if _name_of(each) in visit.form]
    if not chosen or len(chosen) > MOST_AT_ONCE:
        raise invalid(
            "/queue", f"takes at most {MOST_AT_ONCE} event types at once" if chosen else "needs at least one event type"
        )
    fields = fields_of_form(visit)
    made, refusal = list[tuple[str, ListenerDetails]](), ""
    for queue in chosen:
        try:
            made.append((types[queue], await listeners.create(visit.control, visit.principal, queue, fields)))
        except DiscueError as error:
            # The first one shows every fault of the form. Later, the secrets so far must be shown.
            if not made:
                raise
            refusal = f"{types[queue]}: {error.detail}"
            break
    only = made[0][1].listener
    link = f"/queues/{only.queue_public_id}/listeners/{only.public_id}" if len(made) == 1 else ""
    return Page("added.html", "Signing secrets", {"made": made, "refusal": refusal, "link": link})


async def _types_offered(visit: Visit) -> Mapping[str, str]:
    """Return the event types of the customer's own queues: only these may get endpoints."""
    details = of_portal(visit).details
    return await sessions.event_types(visit.control, details, details.own_queues)


def _name_of(queue: str) -> str:
    """Return the name of the field that chooses an event type."""
    return f"queue-{queue}"


ROUTES: Final = (
    PortalRoute("", show, reads=HTML_PAGE),
    PortalRoute("/endpoints/new", show_new, add, action="create", is_form=True, reads=HTML_PAGE),
)
