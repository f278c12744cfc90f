"""The parts of RSGI 1.x that are used here."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from granian._granian import RSGIProtocolClosed as ClientGone

__all__ = ["Application", "ClientGone", "HttpHeaders", "HttpProtocol", "HttpScope", "ResponseStream"]


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

    http_version: str
    client: str
    server: str
    scheme: str
    method: str
    path: str
    query_string: str
    authority: str | None
    headers: HttpHeaders


class HttpProtocol(Protocol):
    """Reads the body of a request, and sends its response."""

    async def __call__(self) -> bytes:
        """Return the whole body."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def client_disconnect(self) -> None:
        """Return when the client has disconnected, or a streamed response has been passed on whole."""
        ...

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> "ResponseStream": ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...


class ResponseStream(Protocol):
    """Sends a response in pieces. Raises ClientGone if a piece cannot be sent any more."""

    async def send_bytes(self, data: bytes) -> None: ...


class Application(Protocol):
    """Called by the HTTP server for each request."""

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None: ...
