"""A message: what happened to it at each listener, drawn to scale in time, and why it waits."""

from typing import Final
from urllib.parse import urlencode

from discue.control import messages
from discue.control.context import require_found
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.message_data import fit
from discue.dashboard.route import PageRoute
from discue.dashboard.timeline import Drawing, ShownAttempt, draw, stages_of
from discue.dashboard.visit import Download, Page, Visit
from discue.domain.message_data import DEFAULT_MEDIA_TYPES
from discue.domain.messages import MessageState
from discue.domain.reservations import HTML_PAGE
from discue.store.pagination import Selection

SHOWN_LISTENERS: Final = 10
"""Lanes on one page."""

_FIRST: Final[tuple[MessageState, ...]] = ("missed", "retrying", "pending")


async def show(visit: Visit) -> Page:
    selection = selection_of(visit, per_page=SHOWN_LISTENERS)
    found = await messages.timeline(visit.control, visit.principal, visit.ids, selection, reserve=visit.reserve_data)
    drawing = draw(found, visit.now)
    opened = _opened(visit, drawing)
    states = {delivery.state for delivery in found.all_deliveries}
    # A single state may be `filtered`, which lists do not distinguish from `acknowledged`.
    last = "".join(states) if len(states) == 1 else "acknowledged"
    state = next((each for each in _FIRST if each in states), last if states else "no_listeners")
    message = found.message
    place = {name: visit.query[name] for name in ("after", "before") if name in visit.query}
    page = shown(visit, found.deliveries, [each.listener_public_id for each in found.deliveries.items])
    return Page(
        "message.html",
        message.alias if visit.principal.customer is None else message.id,
        {
            "found": found,
            "message": message,
            "drawing": drawing,
            "opened": opened,
            "shown": fit(found, drawing, opened),
            "query_of": lambda attempt: urlencode({**place, "attempt": attempt.id}),
            "state": state,
            "list": page,
            "media_type": message.options.given_media_type or DEFAULT_MEDIA_TYPES[message.codec],
            "stages_of": stages_of,
        },
        is_live=True,
    )


def _opened(visit: Visit, drawing: Drawing) -> ShownAttempt | None:
    """Return the attempt whose request and response the page has: that of the query, or one that failed."""
    shown = (each for lane in drawing.lanes for each in lane.attempts)
    return next((each for each in shown if each.of.attempt.id == visit.query.get("attempt")), drawing.opened)


async def show_data(visit: Visit) -> Download:
    found = await messages.timeline(
        visit.control, visit.principal, visit.ids, Selection(per_page=1), reserve=visit.reserve_data
    )
    return Download(found.message.body or b"", found.message.id)


async def show_response(visit: Visit) -> Download:
    """Show the body of the response to an attempt, as far as it is kept."""
    made = await messages.get_listener_attempt(visit.control, visit.principal, visit.ids[:2], visit.ids[2])
    detail = require_found(made.detail)
    return Download(detail.body, made.attempt.id)


DATA: Final = "/queues/{id}/messages/{id}/data"
RESPONSE: Final = "/queues/{id}/listeners/{id}/attempts/{id}/response"

ROUTES: Final = (
    PageRoute("/queues/{id}/messages/{id}", show, needs="messages", reads=HTML_PAGE),
    PageRoute(DATA, show_data, needs="messages", reads=HTML_PAGE),
    PageRoute(RESPONSE, show_response, needs="listeners", reads=HTML_PAGE),
)
