"""What the HTTP server hands over (RSGI 1.x): the parts of it that are used here."""

from collections.abc import AsyncIterator
from typing import Any, Protocol


class HttpHeaders(Protocol):
    """Names are lower case. Values that are not printable ASCII are left out."""

    def __contains__(self, name: str) -> bool:
        """Also of a name whose values are left out."""
        ...

    def get(self, name: str, default: Any = None) -> Any:
        """The first value of that name."""
        ...

    def get_all(self, name: str) -> list[str]: ...

    def keys(self) -> list[str]:
        """Each name once, however often it came."""
        ...

    def values(self) -> list[str]:
        """One for each header line."""
        ...


class HttpScope(Protocol):
    """One request. `path` is percent-decoded, and what came encoded cannot be told from what did not."""

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
    """The body of a request, and the way to answer it."""

    async def __call__(self) -> bytes:
        """The whole body."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def client_disconnect(self) -> None:
        """Returns when the client has gone away."""
        ...

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> "Pieces": ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...


class Pieces(Protocol):
    """The way to answer piece by piece. What cannot be sent any more raises."""

    async def send_bytes(self, data: bytes) -> None: ...


class ClientGone(Exception):
    """Nobody is there for the answer any more."""


class Application(Protocol):
    """What the HTTP server calls for each request."""

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None: ...
