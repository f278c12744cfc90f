"""The parts of RSGI 1.x that are used here, and what is checked of every request at this level."""

import re
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any, Protocol

from discue.domain.errors import BadRequest, HeadersTooLarge, UriTooLong

URI_CHARACTERS = 8_192
"""Maximum length of the decoded path and the query together."""

HEADER_LINES = 100
HEADER_BYTES = 32_768
_LINE_EXTRA = len(": \r\n")
_CACHED_BASES = 1_024

_SINGLE = ("content-length", "content-type", "host", "x-api-key")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class HttpHeaders(Protocol):
    """Request headers. Names are lower case. Values that are not printable ASCII are left out."""

    def __contains__(self, name: str) -> bool:
        """Whether a header was sent, even if its values are left out."""
        ...

    def get(self, name: str, default: Any = None) -> Any:
        """Return the first value of a name."""
        ...

    def get_all(self, name: str) -> list[str]: ...

    def keys(self) -> list[str]:
        """Return each name once."""
        ...

    def values(self) -> list[str]:
        """Return one value for each line."""
        ...


class HttpScope(Protocol):
    """A request. `path` is percent-decoded: what was encoded cannot be told from what was not."""

    @property
    def proto(self) -> str: ...
    @property
    def http_version(self) -> str: ...
    @property
    def client(self) -> str: ...
    @property
    def server(self) -> str: ...
    @property
    def scheme(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query_string(self) -> str: ...
    @property
    def authority(self) -> str | None: ...
    @property
    def headers(self) -> HttpHeaders: ...


class HttpProtocol(Protocol):
    """Reads the body of a request, and sends its response."""

    async def __call__(self) -> bytes:
        """Return the whole body."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def client_disconnect(self) -> None:
        """Return when the client has disconnected."""
        ...

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> "ResponseStream": ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...


class ResponseStream(Protocol):
    """Sends a response in pieces. Raises if a piece cannot be sent any more."""

    async def send_bytes(self, data: bytes) -> None: ...


class ClientGone(Exception):
    """The client has disconnected."""


class Application(Protocol):
    """Called by the HTTP server for each request."""

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None: ...


def check_request(scope: HttpScope, headers: HttpHeaders) -> None:
    """Raises UriTooLong, HeadersTooLarge, and BadRequest if a header occurs twice that must not."""
    if len(scope.path) + len(scope.query_string) > URI_CHARACTERS:
        raise UriTooLong(f"The URL has more than {URI_CHARACTERS} characters.")
    names, values = headers.keys(), headers.values()
    lines = len(values)
    size = len("".join(names)) + len("".join(values)) + lines * _LINE_EXTRA
    if lines > HEADER_LINES or size > HEADER_BYTES:
        raise HeadersTooLarge(f"The headers have more than {HEADER_LINES} lines or {HEADER_BYTES} bytes.")
    if len(names) != lines:
        for name in _SINGLE:
            if len(headers.get_all(name)) > 1:
                raise given_twice(name)


def given_twice(name: str) -> BadRequest:
    """Return the error for a header that can be given only once."""
    return BadRequest(f"The header {name} is given more than once.")


def client_request_id(headers: HttpHeaders) -> str | None:
    """Return the client's `X-Request-Id` if it is safe to return it."""
    given = headers.get("x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else None


def base_url(scope: HttpScope, headers: HttpHeaders) -> str:
    """Return the scheme and host that the client used. Raises BadRequest if that is no host."""
    return _base_url(scope.scheme, scope.authority or headers.get("host") or scope.server)


@lru_cache(_CACHED_BASES)
def _base_url(scheme: str, host: str) -> str:
    if _HOST.fullmatch(host) is None:
        raise BadRequest("The Host header is not a host.")
    return f"{scheme}://{host}"
