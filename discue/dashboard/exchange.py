"""Responses of the dashboard: their headers, and how they are sent."""

from typing import Final, NamedTuple

from discue.http.rsgi import HttpProtocol

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

SECURITY_HEADERS: Final = (
    ("content-security-policy", _POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
)
"""Nothing inline and nothing from elsewhere: text of a message that gets into a page cannot become a script."""

_NOT_STORED: Final = ("cache-control", "no-store")
_HTML: Final = ("content-type", "text/html; charset=utf-8")
_SEE_OTHER: Final = 303


class PageResponse(NamedTuple):
    """A response."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes = b""


def page_response(content: bytes, status: int = 200) -> PageResponse:
    return PageResponse(status, [_HTML, _NOT_STORED, *SECURITY_HEADERS], content)


def redirect_response(location: str) -> PageResponse:
    """Return a redirect. `location` may be relative, which keeps the prefix that a proxy adds."""
    return PageResponse(_SEE_OTHER, [("location", location), _NOT_STORED, *SECURITY_HEADERS])


def send(exchange: HttpProtocol, method: str, response: PageResponse) -> None:
    """Send a small response, or one to a HEAD request."""
    if method == "HEAD":
        headers = [*response.headers, ("content-length", str(len(response.content)))]
        exchange.response_empty(response.status, headers)
    else:
        exchange.response_bytes(response.status, response.headers, response.content)
