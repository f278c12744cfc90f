"""Requests and responses, before and after the connection."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET

from discue_client.errors import UnexpectedResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

Query = tuple[tuple[str, str], ...]


class HttpResponse(Protocol):
    """A response that was read completely."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...  # names are looked up in lower case

    @property
    def content(self) -> bytes: ...


class AsyncHttpClient(Protocol):
    """A client such as `httpx2.AsyncClient` or `httpx.AsyncClient`.

    Another one raises OSError or TimeoutError if no response arrives.
    """

    async def request(
        self, method: str, url: str, *, content: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> HttpResponse: ...
    async def aclose(self) -> None: ...


class HttpClient(Protocol):
    """A client such as `httpx2.Client` or `httpx.Client`.

    Another one raises OSError or TimeoutError if no response arrives.
    """

    def request(
        self, method: str, url: str, *, content: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> HttpResponse: ...
    def close(self) -> None: ...


class Request(msgspec.Struct, frozen=True):
    """A request to the service."""

    method: str
    path: str
    """Below the URL of the service, query included."""
    content: bytes | None
    headers: dict[str, str]
    repeatable: bool
    """Whether sending it twice has the effect of sending it once."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def path_of(*segments: str) -> str:
    """Return the path with the segments, encoded. Raises ValueError for one that would lead elsewhere."""
    for segment in segments:
        if segment in ("", ".", ".."):
            raise ValueError(f"{segment!r} is not the id or the alias of a resource.")
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def query_of(fields: Mapping[str, object]) -> Query:
    """Return the parameters that are given, as text."""
    return tuple((name, _parameter(value)) for name, value in fields.items() if value is not None)


def _parameter(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def with_query(path: str, query: Query) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def given(**fields: object) -> dict[str, object]:
    """Return the fields that are given: `UNSET` leaves a field as it is, `None` clears it."""
    return {name: value for name, value in fields.items() if value is not UNSET}


def encode(body: object) -> bytes:
    """Encode a body. Raises TypeError for values that have no JSON form."""
    return msgspec.json.encode(body)


def new_idempotency_key() -> str:
    return os.urandom(16).hex()


def decode(content: bytes, type_: type[T], request: str) -> T:
    """Decode the body of a successful response. Raises UnexpectedResponse."""
    try:
        return _decoder(type_).decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnexpectedResponse(f"{request}: the response cannot be read: {error}") from None


_decoders: dict[object, msgspec.json.Decoder[Any]] = {}


def _decoder(type_: type[T]) -> msgspec.json.Decoder[T]:
    """Return the decoder of a type. There are as many as there are responses."""
    found = _decoders.get(type_)
    if found is None:
        found = _decoders[type_] = msgspec.json.Decoder(type_)
    return found


def connection_errors() -> tuple[type[Exception], ...]:
    """Return what HTTP clients raise if no response arrives: `httpx2`, `httpx` if it is in use, and the rest."""
    return (OSError, TimeoutError, *(module.TransportError for module in _http_modules()))


def is_timeout(error: Exception) -> bool:
    return isinstance(error, (TimeoutError, *(module.TimeoutException for module in _http_modules())))


def was_never_sent(error: Exception) -> bool:
    """Return whether no byte of the request can have reached the service."""
    never = [(module.ConnectError, module.ConnectTimeout, module.PoolTimeout) for module in _http_modules()]
    return isinstance(error, (ConnectionRefusedError, *(kind for kinds in never for kind in kinds)))


def is_permanent(error: Exception) -> bool:
    """Return whether the failure stays until somebody changes something: a certificate, or a setting."""
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ == "SSLCertVerificationError":
            return True
        cause = cause.__cause__ or cause.__context__
    return isinstance(error, tuple(module.UnsupportedProtocol for module in _http_modules()))


def _http_modules() -> list[Any]:
    return [sys.modules[name] for name in ("httpx2", "httpx") if name in sys.modules]


def trace_headers() -> dict[str, str]:
    """Return the headers that continue the current trace, if the program uses OpenTelemetry."""
    headers: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        import_module("opentelemetry.propagate").inject(headers)
    return headers
