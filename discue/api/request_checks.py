"""What every request is checked for before it is routed: the size of its address and headers, doubled headers."""

import re

from discue.api.rsgi import HttpHeaders, HttpScope
from discue.domain.errors import BadRequest, HeadersTooLarge, UriTooLong

URI_CHARACTERS = 8_192
"""Of the path, decoded, and the query."""

HEADER_LINES = 100
HEADER_BYTES = 32_768
_LINE_EXTRA = len(": \r\n")

_SINGLE = ("content-length", "content-type", "host", "x-api-key")
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def check_request(scope: HttpScope, headers: HttpHeaders) -> None:
    """Raises UriTooLong, HeadersTooLarge, or BadRequest for a header that came twice and can only come once."""
    if len(scope.path) + len(scope.query_string) > URI_CHARACTERS:
        raise UriTooLong(f"The address can have {URI_CHARACTERS} characters at most.")
    names, values = headers.keys(), headers.values()
    lines = len(values)
    size = len("".join(names)) + len("".join(values)) + lines * _LINE_EXTRA
    if lines > HEADER_LINES or size > HEADER_BYTES:
        raise HeadersTooLarge(f"The headers can have {HEADER_LINES} lines and {HEADER_BYTES} bytes at most.")
    if len(names) != lines:
        _refuse_doubles(headers)


def _refuse_doubles(headers: HttpHeaders) -> None:
    for name in _SINGLE:
        if len(headers.get_all(name)) > 1:
            raise BadRequest(f"The header {name} can be given once only.")


def accepted(headers: HttpHeaders) -> str:
    """The Accept header: lines of it are one list."""
    accept: str = headers.get("accept", "")
    return ",".join(headers.get_all("accept")) if accept else accept


def sane_request_id(headers: HttpHeaders) -> str | None:
    """The client's X-Request-Id if it can be echoed."""
    given = headers.get("x-request-id")
    return given if given is not None and _SANE_ID.fullmatch(given) else None
