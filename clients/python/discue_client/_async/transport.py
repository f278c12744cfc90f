"""Sends requests, and sends them again if that helps."""

from __future__ import annotations

import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, cast

from discue_client import wire
from discue_client._async.waiting import close_with, sleep, within
from discue_client.configuration import NEVER_PROCESSED, is_retried, retry_after_of
from discue_client.errors import APIError, ConnectionFailed, DiscueError, NotFound, TimedOut, error_of
from discue_client.version import VERSION

if TYPE_CHECKING:
    from discue_client.configuration import Configuration, RetryPolicy
    from discue_client.wire import AsyncHttpClient, Request

_KEEP_ALIVE_SECONDS = 15.0
_SHORTEST_TIMEOUT = 0.001
_USER_AGENT = f"discue-client/{VERSION} python/{sys.version_info.major}.{sys.version_info.minor}"


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

    def __init__(self, configuration: Configuration, http_client: AsyncHttpClient | None) -> None:
        self._url = configuration.url
        self._headers = {"x-api-key": configuration.api_key, "accept": "application/json", "user-agent": _USER_AGENT}
        self._given = http_client is not None
        self._http = http_client
        self._closed = False
        self._opening = threading.Lock()

    async def close(self) -> None:
        """Close the connections, unless they belong to a client that was given."""
        self._closed = True
        if self._http is not None and not self._given:
            await self._http.aclose()
            self._http = None

    async def send(self, request: Request, policy: RetryPolicy, timeout: float) -> bytes:
        """Return the body of the successful response.

        `timeout` is for each attempt. Raises DiscueError. A request that is not repeatable is sent again only if it
        cannot have had an effect.
        """
        if self._closed:
            raise RuntimeError("The client is closed.")
        started_at, attempt, may_be_done = monotonic(), 0, False
        while True:
            attempt += 1
            left = policy.deadline - (monotonic() - started_at)
            result = await self._attempt(request, max(min(timeout, left), _SHORTEST_TIMEOUT))
            if isinstance(result, bytes):
                return result
            if may_be_done and request.method == "DELETE" and isinstance(result.error, NotFound):
                # An earlier attempt, whose response was lost, has deleted it.
                return b"{}"
            pause = policy.wait(attempt, monotonic() - started_at, result.retry_after) if result.may_help else None
            if pause is None or not (request.repeatable or result.had_no_effect):
                raise result.error
            may_be_done = may_be_done or not result.had_no_effect
            await sleep(pause)

    async def _attempt(self, request: Request, timeout: float) -> bytes | _Failure:
        headers = {**self._headers, **wire.trace_headers(), **request.headers}
        http = self._client()
        try:
            url, content = self._url + request.path, request.content
            sent = http.request(request.method, url, content=content, headers=headers, timeout=timeout)
            response = await within(timeout, sent)
        except wire.connection_errors() as error:
            failed = _connection_error(error, f"{request}: no response from {self._url}", timeout)
            return _Failure(failed, may_help=not wire.is_permanent(error), had_no_effect=wire.was_never_sent(error))
        status = response.status_code
        if 200 <= status < 300:
            return response.content
        retry_after = retry_after_of(response.headers)
        refusal = error_of(status, response.headers, response.content, request=str(request), retry_after=retry_after)
        code = refusal.code if isinstance(refusal, APIError) else None
        return _Failure(refusal, is_retried(status, code), status in NEVER_PROCESSED, retry_after)

    def _client(self) -> AsyncHttpClient:
        # Threads may send their first requests at the same time.
        with self._opening:
            return self._http or self._open()

    def _open(self) -> AsyncHttpClient:
        # They take longer to import than all the rest of this package.
        import ssl  # noqa: PLC0415

        import httpx2  # noqa: PLC0415

        # No certificates are loaded where none are needed.
        verify = True if self._url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        limits = httpx2.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=_KEEP_ALIVE_SECONDS)
        self._http = cast("AsyncHttpClient", httpx2.AsyncClient(verify=verify, limits=limits))
        close_with(self, self._http)
        return self._http


def _connection_error(cause: Exception, what: str, timeout: float) -> DiscueError:
    reason = str(cause) or type(cause).__name__
    error = (
        TimedOut(f"{what} within {timeout:.3g} s ({reason}).")
        if wire.is_timeout(cause)
        else ConnectionFailed(f"{what}: {reason}")
    )
    error.__cause__ = cause
    return error
