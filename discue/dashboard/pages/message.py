"""A message: what happened to it at each listener, drawn to scale in time, and why it waits."""

import shlex
from typing import Final, NamedTuple
from urllib.parse import urlencode

from discue.control import messages
from discue.control.context import require_found
from discue.control.messages import MessageTimeline
from discue.dashboard.formats import SHOWN_BYTES, html_bytes, readable
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.timeline import Drawing, ShownAttempt, draw, stages_of
from discue.dashboard.visit import Download, Page, PageRoute, Visit
from discue.domain.attempts import HIDDEN, AttemptDetail, HeaderPairs
from discue.domain.message_data import DEFAULT_MEDIA_TYPES
from discue.domain.messages import MessageState, StoredMessage
from discue.store.pagination import Selection

_COMPUTED: Final = frozenset({"content-length", "connection", "host", "accept-encoding"})
"""Headers that curl sets itself."""
_LONGEST_BODY: Final = 4_096


def curl_of(detail: AttemptDetail, body: bytes | None, url: str) -> str:
    """Return a curl command that repeats a request to `url`, without the headers that are not kept.

    The command reads the body from a file if the body is long, binary or None.
    """
    lines = [f"curl -i -X POST {shlex.quote(url)}"]
    lines += [
        f"-H {shlex.quote(f'{name}: {value}')}"
        for name, value in detail.request_headers
        if name.lower() not in _COMPUTED and value != HIDDEN
    ]
    if body is not None and len(body) <= _LONGEST_BODY and body.isascii():
        lines.append(f"--data-raw {shlex.quote(body.decode())}")
    else:
        lines.append("--data-binary @message.bin")
    return " \\\n  ".join(lines)


PAGE_BYTES: Final = 60_000
"""The size of a page before it is compressed."""

# Bytes of HTML that the rest of the page has at most. A test makes the largest page.
_FRAME_BYTES: Final = 9_800
_LANE_BYTES: Final = 2_050
_ATTEMPT_BYTES: Final = 1_300
_PAIR_BYTES: Final = len("<div><dt></dt><dd class='mono'></dd></div>\n")
"""The elements around a header."""


class ShownData(NamedTuple):
    text: str
    is_cut: bool
    size: int
    """Bytes of the whole data."""


class ShownHeaders(NamedTuple):
    pairs: HeaderPairs
    is_cut: bool


def fit(found: MessageTimeline, drawing: Drawing, opened: ShownAttempt | None) -> dict[str, object]:
    """Return what fits on the page besides its drawing: the data and the producer's headers, and the exchange.

    The exchange is that of the opened attempt; None without one, or if its details are not kept. The message gets the
    room that is left.
    """
    attempts = sum(len(lane.attempts) for lane in drawing.lanes)
    taken = _FRAME_BYTES + _LANE_BYTES * len(drawing.lanes) + _ATTEMPT_BYTES * attempts
    room = _Room(max(0, PAGE_BYTES - taken))
    message, body = found.message, found.message.body or b""
    headers = room.headers(message.options.headers, 5)
    exchange = None
    if opened is not None and (detail := opened.of.detail) is not None:
        url = found.urls.get(opened.of.attempt.listener_public_id, "")
        curl = curl_of(detail, body, url)
        if html_bytes(curl) > room.left // 4:
            curl = curl_of(detail, None, url)
        exchange = {
            "request_headers": room.headers(detail.request_headers, 5),
            "response_headers": room.headers(detail.response_headers, 5),
            "body": room.data(detail.body, 3),
            "curl": curl,
        }
        room.left -= html_bytes(curl)
    return {"data": room.data(body, 1), "headers": headers, "exchange": exchange}


class _Room:
    """The bytes of HTML that are left on a page."""

    def __init__(self, left: int) -> None:
        self.left = left

    def data(self, content: bytes, part: int) -> ShownData:
        """Return the beginning of some data. It takes one of `part` equal parts of what is left at most."""
        text, is_cut = readable(content, most=min(SHOWN_BYTES, self.left // part))
        self.left -= html_bytes(text)
        return ShownData(text, is_cut, len(content))

    def headers(self, pairs: HeaderPairs, part: int) -> ShownHeaders:
        """Return the first headers, like `data`."""
        end, shown = self.left - self.left // part, []
        for name, value in pairs:
            size = html_bytes(name) + html_bytes(value) + _PAIR_BYTES
            if self.left - size < end:
                break
            self.left -= size
            shown.append((name, value))
        return ShownHeaders(tuple(shown), len(shown) < len(pairs))


SHOWN_LISTENERS: Final = 10
"""Lanes on one page."""

_FIRST: Final[tuple[MessageState, ...]] = ("missed", "retrying", "pending")


async def show(visit: Visit) -> Page:
    """Return the page of a message. The portal renders the same page with its template `portal/message.html`."""
    selection = selection_of(visit, per_page=SHOWN_LISTENERS)
    found = await messages.timeline(visit.control, visit.principal, visit.ids, selection, reserve=visit.reserve_data)
    drawing = draw(found, visit.now)
    made = (each for lane in drawing.lanes for each in lane.attempts)
    # The page shows the request and the response of the attempt in the query, or else of a failed attempt.
    opened = next((each for each in made if each.of.attempt.id == visit.query.get("attempt")), drawing.opened)
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


async def message_of(visit: Visit, public_id: str) -> StoredMessage:
    """Return a message of the queue that the page is about, with its data."""
    ids, first = (visit.ids[0], public_id), Selection(per_page=1)
    return (await messages.timeline(visit.control, visit.principal, ids, first, reserve=visit.reserve_data)).message


async def show_data(visit: Visit) -> Download:
    message = await message_of(visit, visit.ids[1])
    return Download(message.body or b"", f"{message.id}.txt")


async def show_response(visit: Visit) -> Download:
    made = await messages.get_attempt(visit.control, visit.principal, visit.ids[:2], visit.ids[2], of_listener=True)
    detail = require_found(made.detail)
    return Download(detail.body, f"{made.attempt.id}.txt")


DATA: Final = "/queues/{id}/messages/{id}/data"
RESPONSE: Final = "/queues/{id}/listeners/{id}/attempts/{id}/response"

ROUTES: Final = (
    PageRoute("/queues/{id}/messages/{id}", show, needs="messages"),
    PageRoute(DATA, show_data, needs="messages"),
    PageRoute(RESPONSE, show_response, needs="listeners"),
)
