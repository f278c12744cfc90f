"""The data of a message and of one exchange with a listener, as much of them as its page has room for."""

from typing import Final, NamedTuple

from discue.control.messages import MessageTimeline
from discue.dashboard.curl import curl_of
from discue.dashboard.formats import SHOWN_BYTES, html_bytes, readable
from discue.dashboard.timeline import Drawing, ShownAttempt
from discue.domain.attempts import HeaderPairs

PAGE_BYTES: Final = 60_000
"""The size of a page before it is compressed."""

# Bytes of HTML that the rest of the page has at most. A test makes the largest page.
_FRAME_BYTES: Final = 9_800
_LANE_BYTES: Final = 2_050
_ATTEMPT_BYTES: Final = 1_300
_PAIR_BYTES: Final = len("<div><dt></dt><dd class='mono'></dd></div>\n")
"""The elements around a header."""


class ShownData(NamedTuple):
    """The beginning of some data as text."""

    text: str
    is_cut: bool
    size: int
    """Bytes of the whole data."""


class ShownHeaders(NamedTuple):
    """The first of some headers."""

    pairs: HeaderPairs
    is_cut: bool


class ShownExchange(NamedTuple):
    """The request and the response of an attempt."""

    request_headers: ShownHeaders
    response_headers: ShownHeaders
    body: ShownData
    curl: str
    """A command that sends the request again."""


class MessageData(NamedTuple):
    """The part of its data that the page of a message has."""

    data: ShownData
    headers: ShownHeaders
    """The headers that the producer chose."""
    exchange: ShownExchange | None
    """The exchange of the opened attempt; None without one, or if its details are not kept."""


def fit(found: MessageTimeline, drawing: Drawing, opened: ShownAttempt | None) -> MessageData:
    """Return what fits on the page besides its drawing. The message has what the exchange leaves."""
    attempts = sum(len(lane.attempts) for lane in drawing.lanes)
    taken = _FRAME_BYTES + _LANE_BYTES * len(drawing.lanes) + _ATTEMPT_BYTES * attempts
    room = _Room(max(0, PAGE_BYTES - taken))
    message, body = found.message, found.message.body or b""
    headers = room.headers(message.options.headers, 5)
    exchange = None
    if opened is not None and (detail := opened.of.detail) is not None:
        curl = curl_of(detail, body)
        if html_bytes(curl) > room.left // 4:
            curl = curl_of(detail, None)
        exchange = ShownExchange(
            room.headers(detail.request_headers, 5),
            room.headers(detail.response_headers, 5),
            room.data(detail.body, 3),
            curl,
        )
        room.left -= html_bytes(curl)
    return MessageData(room.data(body, 1), headers, exchange)


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
