"""Sends requests, and sends them again if that helps."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from functools import partial
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from discue_client.configuration import NEVER_PROCESSED, is_retried, retry_after_of
from discue_client.errors import (
    APIError,
    ConnectionFailed,
    DiscueError,
    NotFound,
    TimedOut,
    UnexpectedResponse,
    error_of,
)
from discue_client.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from discue_client.configuration import Configuration, RetryPolicy

_log = logging.getLogger("discue_client")

_KEEP_ALIVE_SECONDS = 15.0
_SHORTEST_TIMEOUT = 0.001
_USER_AGENT = f"discue-client/{VERSION} python/{sys.version_info.major}.{sys.version_info.minor}"

# Names of exceptions or of their bases, so that `httpx2`, `httpx` and others need not be imported.
_NO_RESPONSE = frozenset({"OSError", "TimeoutError", "RequestError"})
_TIMEOUT = frozenset({"TimeoutError", "TimeoutException"})
_NEVER_SENT = frozenset({"ConnectionRefusedError", "ConnectError", "ConnectTimeout", "PoolTimeout"})
_PERMANENT = frozenset({"UnsupportedProtocol", "LocalProtocolError"})

# OpenSSL's reasons for invalid certificates and for responses that are not TLS, which differ by version.
# Another attempt would also fail.
_MISCONFIGURED = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
_NO_TLS = "it does not speak TLS at this port: use http:// or another port"


class HttpClient(Protocol):
    """A client such as `httpx2.AsyncClient`; or `httpx2.Client`, whose requests then run on threads.

    `request` takes `content`, `headers` and `timeout`, and raises OSError or TimeoutError if no response arrives.
    """

    @property
    def request(self) -> Any: ...


class Request(NamedTuple):
    """A request to the service."""

    method: str
    path: str
    """Below the URL of the service, query included."""
    content: bytes | None
    headers: Mapping[str, str]
    repeatable: bool
    """Whether sending it twice has the effect of sending it once."""
    extra_time: float
    """How much longer than usual the service may take, in seconds."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class _Failure(NamedTuple):
    """An attempt that failed."""

    error: DiscueError
    may_help: bool
    """Whether another attempt may have another result."""
    had_no_effect: bool
    """Whether the request surely changed nothing."""
    retry_after: float | None = None


class AsyncTransport:
    """Sends requests to the service of a configuration. Opens connections when the first request needs them."""

    def __init__(self, configuration: Configuration, http_client: HttpClient | None) -> None:
        self._url = configuration.url
        self._headers = {"x-api-key": configuration.api_key, "accept": "application/json", "user-agent": _USER_AGENT}
        self._given = http_client
        self._own: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def close(self) -> None:
        """Close the connections, unless they belong to a client that was given."""
        self._closed = True
        if self._own is not None and self._loop is asyncio.get_running_loop():
            await self._own.aclose()
        self._own = None

    async def send(self, request: Request, policy: RetryPolicy) -> bytes:
        """Return the body of the successful response. Raises DiscueError.

        A request that is not repeatable is sent again only if it cannot have had an effect.
        """
        started_at, attempt, may_be_done = monotonic(), 0, False
        while True:
            if self._closed:
                raise RuntimeError("The client is closed.")
            attempt += 1
            left = policy.deadline - (monotonic() - started_at)
            timeout = max(min(policy.timeout, left), _SHORTEST_TIMEOUT) + request.extra_time
            result = await self._attempt(request, timeout, attempt)
            if isinstance(result, bytes):
                return result
            if may_be_done and request.method == "DELETE" and isinstance(result.error, NotFound):
                # An earlier attempt, whose response was lost, has deleted it.
                return b"{}"
            pause = policy.wait(attempt, monotonic() - started_at, result.retry_after) if result.may_help else None
            if pause is None or not (request.repeatable or result.had_no_effect):
                raise result.error
            may_be_done = may_be_done or not result.had_no_effect
            _log.info("Trying again in %.1f s: %s", pause, result.error)
            await asyncio.sleep(pause)

    async def _attempt(self, request: Request, timeout: float, attempt: int) -> bytes | _Failure:
        try:
            response = await self._response(request, timeout)
        except Exception as error:
            names = {kind.__name__ for kind in type(error).__mro__}
            if not names & _NO_RESPONSE:
                raise
            if "DecodingError" in names:
                broken = UnexpectedResponse(f"{request}: the response cannot be read: {error}")
                return _Failure(broken, may_help=False, had_no_effect=False)
            what = f"{request}: no response from {self._url}" + (f" in attempt {attempt}" if attempt > 1 else "")
            if names & _TIMEOUT:
                failed: DiscueError = TimedOut(f"{what} within {timeout:.3g} s.")
            else:
                failed = ConnectionFailed(f"{what}: {_reason(error)}.")
            failed.__cause__ = error
            may_help = not names & _PERMANENT and getattr(_first_cause(error), "reason", None) not in _MISCONFIGURED
            return _Failure(failed, may_help, had_no_effect=bool(names & _NEVER_SENT))
        status = response.status_code
        if 200 <= status < 300:
            content: bytes = response.content
            return content
        retry_after = retry_after_of(response.headers)
        refusal = error_of(status, response.headers, response.content, request=str(request), retry_after=retry_after)
        code = refusal.code if isinstance(refusal, APIError) else None
        return _Failure(refusal, is_retried(status, code), status in NEVER_PROCESSED, retry_after)

    async def _response(self, request: Request, timeout: float) -> Any:
        url, headers = self._url + request.path, {**self._headers, **_trace_headers(), **request.headers}
        options: dict[str, Any] = {"content": request.content, "headers": headers, "timeout": timeout}
        if self._given is None and url.startswith("https:"):
            options["extensions"] = {"trace": _Handshake()}
        send = partial(self._client().request, request.method, url, **options)
        is_async = self._given is None or hasattr(self._given, "aclose")
        work = send() if is_async else asyncio.to_thread(send)
        if sys.version_info >= (3, 11):
            async with asyncio.timeout(timeout):
                return await work
        else:
            return await asyncio.wait_for(work, timeout)

    def _client(self) -> Any:
        loop = asyncio.get_running_loop()
        # Connections belong to an event loop: `asyncio.run` makes another one each time.
        if self._given is None and loop is not self._loop:
            self._own, self._loop = _new_client(self._url), loop
        return self._given or self._own


def _new_client(url: str) -> Any:
    # They take longer to import than all the rest of this package.
    import ssl  # noqa: PLC0415

    import httpx2  # noqa: PLC0415

    # No certificates are loaded where none are needed.
    verify = True if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    limits = httpx2.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=_KEEP_ALIVE_SECONDS)
    return httpx2.AsyncClient(verify=verify, limits=limits)


class _Handshake:
    """Closes the connection of a request that is cancelled during its TLS handshake: `httpcore2` leaves it open."""

    def __init__(self) -> None:
        self._stream: Any = None

    async def __call__(self, step: str, details: Mapping[str, Any]) -> None:
        if step.endswith(".connect_tcp.complete"):
            self._stream = details["return_value"]
        elif step.endswith(".start_tls.failed") and self._stream is not None:
            await self._stream.aclose()


def _trace_headers() -> dict[str, str]:
    """Return the headers that continue the current trace, if the program uses OpenTelemetry."""
    headers: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        import_module("opentelemetry.propagate").inject(headers)
    return headers


def _first_cause(error: BaseException) -> BaseException:
    """Return the cause of the cause, and so on, also those that `from None` hides."""
    cause = error.__cause__ or (error.__context__ if error.__suppress_context__ else None)
    return error if cause is None else _first_cause(cause)


def _reason(error: BaseException) -> str:
    """Return the text of the first cause, without OpenSSL's codes: outer errors only say that a connection failed."""
    first = _first_cause(error)
    if isinstance(first, ConnectionError) and first.errno:
        return os.strerror(first.errno)
    if message := getattr(first, "verify_message", ""):
        is_of_trust = not re.search("expired|mismatch|yet", message)
        hint = ". Set SSL_CERT_FILE to a file with the issuers to trust" if is_of_trust else ""
        return f"its certificate is not valid: {message.rstrip('.')}{hint}"
    if reason := getattr(first, "reason", None):
        return _NO_TLS if reason in _MISCONFIGURED else str(reason).lower().replace("_", " ")
    return (getattr(first, "strerror", None) or str(first) or type(first).__name__).rstrip(".")
