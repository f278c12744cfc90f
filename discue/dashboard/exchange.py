"""Requests for pages and their responses: the headers, and how they are sent."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

import msgspec

from discue.domain.errors import DiscueError
from discue.http.negotiation import ACCEPT_CHARACTERS, negotiate
from discue.http.problems import headers_of, problem_of
from discue.http.rsgi import HttpProtocol, HttpScope
from discue.store.ledger import Reservation

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors {}; base-uri 'none'"
)

Headers = tuple[tuple[str, str], ...]


def security_headers(frame_ancestors: Sequence[str] = ()) -> Headers:
    """Return the headers of pages that only pages of these origins may embed."""
    return (
        ("content-security-policy", _POLICY.format(" ".join(frame_ancestors) or "'none'")),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    )


SECURITY_HEADERS: Final = security_headers()
"""Nothing inline and nothing from elsewhere: text of a message that gets into a page cannot become a script."""

_NOT_STORED: Final = ("cache-control", "no-store")
_HTML: Final = ("content-type", "text/html; charset=utf-8")
_EVENTS: Final = ("content-type", "text/event-stream")
_NOT_BUFFERED: Final = ("x-accel-buffering", "no")
_SEE_OTHER: Final = 303
_MOST_STEPS: Final = 16
"""Steps in the path of a page."""
_TEMPORARY_REDIRECT: Final = 307


class PageRequest:
    """A request for a path below `root`, and what is known of it so far."""

    __slots__ = ("address", "base", "exchange", "headers", "id", "path", "query", "scope", "sent_url", "token", "url")

    def __init__(self, scope: HttpScope, exchange: HttpProtocol, root: str) -> None:
        self.scope = scope
        self.exchange = exchange
        self.headers = scope.headers
        self.path = scope.path.removeprefix(root)
        # Relative links work below every prefix that a proxy adds, also one that the service does not know of.
        steps = scope.path.count("/")
        # No page is deeper. On the one that says so, each link would have the length of the path.
        self.base = "../" * (steps - 1) + root[1:] if steps <= _MOST_STEPS else root
        self.address = ""
        self.url = ""
        """The URL in front of `root`, as the browser sees it; empty until the request is received."""
        self.sent_url = ""
        """The URL in links for other people. The browser's `Host` must not decide where a link with a secret leads."""
        self.token = ""
        self.query: Mapping[str, str] = {}
        self.id = ""
        """The id of the request, as in its response."""

    @property
    def accept(self) -> str:
        """The Accept header."""
        accept: str = self.headers.get("accept", "")
        return accept[:ACCEPT_CHARACTERS]


class PageResponse(NamedTuple):
    """A response."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes = b""
    pieces: AsyncGenerator[bytes, None] | None = None
    """The events of a stream, in place of the content."""
    reservation: Reservation | None = None
    """The memory of the content, held until the client has read it."""


def page_response(content: bytes, status: int = 200, security: Headers = SECURITY_HEADERS) -> PageResponse:
    return PageResponse(status, [_HTML, _NOT_STORED, *security], content)


def problem_response(request: PageRequest, error: DiscueError, api_url: str) -> PageResponse:
    """Return an error as the API does, for clients that accept no HTML."""
    headers = [*headers_of(error, negotiate(request.accept)), _NOT_STORED, *SECURITY_HEADERS]
    return PageResponse(error.status, headers, msgspec.json.encode(problem_of(error, request.id, api_url)))


def plain_response(content: bytes, name: str) -> PageResponse:
    """Return data as text that browsers show, and never take for a page or a script: others chose what it is."""
    shown = [("content-type", "text/plain; charset=utf-8"), ("content-disposition", f'inline; filename="{name}.txt"')]
    return PageResponse(200, [*shown, _NOT_STORED, *SECURITY_HEADERS], content)


def redirect_response(location: str, *, resends: bool = False) -> PageResponse:
    """Return a redirect. `location` may be relative, which keeps the prefix that a proxy adds.

    With `resends`, the browser sends the form there that it has sent here.
    """
    return PageResponse(
        _TEMPORARY_REDIRECT if resends else _SEE_OTHER, [("location", location), _NOT_STORED, *SECURITY_HEADERS]
    )


def stream_response(pieces: AsyncGenerator[bytes, None]) -> PageResponse:
    return PageResponse(200, [_EVENTS, _NOT_STORED, _NOT_BUFFERED, *SECURITY_HEADERS], pieces=pieces)


async def stream(exchange: HttpProtocol, response: PageResponse, pieces: AsyncGenerator[bytes, None]) -> None:
    """Send events as they come, until they end or the client is gone. Raises what the generator raises."""
    async with aclosing(pieces):
        sending = exchange.response_stream(response.status, response.headers)
        gone = asyncio.ensure_future(exchange.client_disconnect())
        try:
            while True:
                following = asyncio.ensure_future(anext(pieces, None))
                await asyncio.wait({following, gone}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done() or not following.done():
                    following.cancel()
                    await asyncio.wait({following})
                    return
                if (piece := following.result()) is None:
                    return
                await sending.send_bytes(piece)
        finally:
            gone.cancel()


def send(exchange: HttpProtocol, method: str, response: PageResponse) -> None:
    """Send a small response, or one to a HEAD request."""
    if method == "HEAD":
        headers = [*response.headers, ("content-length", str(len(response.content)))]
        exchange.response_empty(response.status, headers)
    else:
        exchange.response_bytes(response.status, response.headers, response.content)
