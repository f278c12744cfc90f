"""Responses of pages, with their headers, and the style and the scripts of the pages, from memory."""

import gzip
import hashlib
from collections.abc import AsyncGenerator, Sequence
from importlib.resources import files
from typing import Final, NamedTuple

import msgspec

from discue.domain.errors import DiscueError
from discue.http.frame import ICON, STYLE
from discue.http.negotiation import headers_of, negotiate, problem_of
from discue.http.pipeline import Request

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
_TEMPORARY_REDIRECT: Final = 307


class PageResponse(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    content: bytes = b""
    pieces: AsyncGenerator[bytes, None] | None = None
    """The events of a stream, in place of the content."""


def page_response(content: bytes, status: int = 200, security: Headers = SECURITY_HEADERS) -> PageResponse:
    return PageResponse(status, [_HTML, _NOT_STORED, *security], content)


def problem_response(request: Request, error: DiscueError, origin: str) -> PageResponse:
    """Return an error as the API does, for clients that accept no HTML."""
    headers = [*headers_of(error, negotiate(request.accept)), _NOT_STORED, *SECURITY_HEADERS]
    return PageResponse(error.status, headers, msgspec.json.encode(problem_of(error, request.id, origin)))


def plain_response(content: bytes, name: str) -> PageResponse:
    """Return data as text that browsers show, or as a CSV file that they save if `name` ends with `.csv`.

    The content is untrusted: browsers must not interpret it as a page or a script.
    """
    kind, place = ("csv", "attachment") if name.endswith(".csv") else ("plain", "inline")
    shown = [("content-type", f"text/{kind}; charset=utf-8"), ("content-disposition", f'{place}; filename="{name}"')]
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


# The URLs of styles and scripts contain a hash, so browsers keep them forever.
_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_HASH_CHARACTERS: Final = 12
_NAMES: Final = ("dashboard.js", "invitation.js", "portal.css", "portal.js", "embed.js")
_MODULE: Final = "shared.js"
"""The module that other scripts import: with its hash, so that browsers do not keep an old one."""


class StaticFile(NamedTuple):
    path: str
    """Below `/dashboard`."""
    content_type: str
    content: bytes
    compressed: bytes


def _read(name: str) -> bytes:
    return files("discue.dashboard").joinpath("static", name).read_bytes()


def _static_file(name: str, content: bytes) -> StaticFile:
    stem, _, kind = name.rpartition(".")
    digest = hashlib.sha256(content).hexdigest()[:_HASH_CHARACTERS]
    return StaticFile(f"/static/{stem}-{digest}.{kind}", _TYPES[kind], content, gzip.compress(content, mtime=0))


def _files() -> dict[str, StaticFile]:
    module = _static_file(_MODULE, _read(_MODULE))
    imported = f".{module.path.removeprefix('/static')}".encode()
    contents = {"icon.svg": ICON, "dashboard.css": STYLE + _read("dashboard.css")}
    for name in _NAMES:
        contents[name] = _read(name).replace(f"./{_MODULE}".encode(), imported)
    return {_MODULE: module, **{name: _static_file(name, content) for name, content in contents.items()}}


FILES: Final = _files()

BY_PATH: Final = {each.path: each for each in FILES.values()}
