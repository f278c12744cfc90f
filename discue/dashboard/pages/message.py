"""A message: what happened to it at each listener, drawn to scale in time, and why it waits."""

import shlex
from typing import Final
from urllib.parse import urlencode

from discue.control import messages
from discue.control.messages import TimelineAttempt
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.timeline import Drawing, ShownAttempt, draw, stages_of
from discue.dashboard.visit import Page, Visit
from discue.domain.attempts import HIDDEN
from discue.domain.message_data import DEFAULT_MEDIA_TYPES
from discue.domain.messages import MessageState, StoredMessage

SHOWN_LISTENERS: Final = 10
"""Lanes on one page."""

_FIRST: Final[tuple[MessageState, ...]] = ("missed", "retrying", "pending")
_COMPUTED: Final = frozenset({"content-length", "connection", "host", "accept-encoding"})
"""Headers that curl sets itself."""
_CURL_BYTES: Final = 4_096


async def show(visit: Visit) -> Page:
    selection = selection_of(visit, per_page=SHOWN_LISTENERS)
    found = await messages.timeline(visit.control, visit.principal, visit.ids, selection)
    drawing = draw(found, visit.now)
    states = {delivery.state for delivery in found.deliveries.items}
    state = next((each for each in _FIRST if each in states), "acknowledged" if states else "no_listeners")
    message = found.message
    place = {name: visit.query[name] for name in ("after", "before") if name in visit.query}
    page = shown(visit, found.deliveries, [each.listener_public_id for each in found.deliveries.items])
    return Page(
        "message.html",
        message.alias,
        {
            "found": found,
            "message": message,
            "drawing": drawing,
            "opened": _opened(visit, drawing),
            "query_of": lambda attempt: urlencode({**place, "attempt": attempt.id}),
            "state": state,
            "list": page,
            "media_type": message.options.given_media_type or DEFAULT_MEDIA_TYPES[message.codec],
            "curl_of": lambda made: curl_of(made, message),
            "stages_of": stages_of,
        },
        is_live=True,
    )


def _opened(visit: Visit, drawing: Drawing) -> ShownAttempt | None:
    """Return the attempt whose request and response the page has: that of the query, or one that failed."""
    shown = (each for lane in drawing.lanes for each in lane.attempts)
    return next((each for each in shown if each.of.attempt.id == visit.query.get("attempt")), drawing.opened)


def curl_of(made: TimelineAttempt, message: StoredMessage) -> str:
    """Return a command that sends the request of an attempt again, without the headers that are not kept."""
    if made.detail is None:
        return ""
    sent = dict(made.detail.request_headers)
    host = next((value for name, value in sent.items() if name.lower() == "host"), "")
    lines = [f"curl -i -X POST {shlex.quote(f'http://{host}')}"]
    lines += [
        f"-H {shlex.quote(f'{name}: {value}')}"
        for name, value in sent.items()
        if name.lower() not in _COMPUTED and value != HIDDEN
    ]
    body = message.body or b""
    if len(body) <= _CURL_BYTES and body.isascii():
        lines.append(f"--data-raw {shlex.quote(body.decode())}")
    else:
        lines.append("--data-binary @message.bin")
    return " \\\n  ".join(lines)


ROUTES: Final = (PageRoute("/queues/{id}/messages/{id}", show, needs="messages"),)
