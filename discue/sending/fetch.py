"""Single requests for probes, access tokens and domain checks, each on a new connection, with egress checks."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final, cast

import msgspec

from discue.domain.attempts import FailureKind
from discue.domain.egress import EgressPolicy, Target
from discue.sending.classify import classify_lost_connection
from discue.sending.dialer import Dialer, DialFailed, Resolve, Resolver, system_tls_context
from discue.sending.request import RequestInvalid, form_head, get_head
from discue.sending.response import ResponseHeadTooLarge, ResponseMalformed, ResponseReader, SenderLimits

KEPT_BYTES: Final = 1_024
"""How much of a response body is kept by default."""

_HEAD_BYTES: Final = 16_384

_logger = logging.getLogger(__name__)


class FetchResult(msgspec.Struct, frozen=True):
    """The result of a request: the status and the first bytes of the body, or the reason why there is no response."""

    status: int
    body: bytes
    error: FailureKind = ""


class Fetcher:
    """Makes single requests. Follows no redirects and decompresses nothing.

    Belongs to the event loop on which it is first used.
    """

    def __init__(
        self,
        *,
        policy: EgressPolicy,
        connect_seconds: float = 5.0,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """`connect_seconds` limits resolving, connecting and TLS together."""
        self._limits = SenderLimits(
            head_bytes=_HEAD_BYTES, response_bytes=_HEAD_BYTES + kept_bytes, excerpt_bytes=kept_bytes
        )
        self._dialer = Dialer(policy, resolve or Resolver(), ssl_context or system_tls_context())
        self._connect_seconds = connect_seconds

    async def get(self, target: Target, timeout_seconds: float) -> FetchResult:
        """Send a GET. `timeout_seconds` limits the whole request. Never raises, unless it is cancelled."""
        return await self._fetch(target, partial(get_head, target), timeout_seconds)

    async def post_form(self, target: Target, authorization: str, form: bytes, timeout_seconds: float) -> FetchResult:
        """Send a form in a POST. Never raises, unless it is cancelled."""
        return await self._fetch(target, lambda: form_head(target, authorization, form) + form, timeout_seconds)

    async def _fetch(self, target: Target, request: Callable[[], bytes], timeout_seconds: float) -> FetchResult:
        result: asyncio.Future[FetchResult] = asyncio.get_running_loop().create_future()
        exchange = _Exchange(result, self._limits)
        try:
            async with asyncio.timeout(timeout_seconds):
                error = await self._send(target, request, exchange, min(timeout_seconds, self._connect_seconds))
                return FetchResult(0, b"", error) if error else await result
        except TimeoutError:
            return FetchResult(0, b"", "timeout")
        finally:
            exchange.close()

    async def _send(
        self, target: Target, request: Callable[[], bytes], exchange: "_Exchange", connect_seconds: float
    ) -> FailureKind:
        """Send the request. Returns why that failed, or ""."""
        try:
            exchange.request = request()
            async with asyncio.timeout(connect_seconds):
                await self._dialer.dial(target, partial(_Connection, exchange), connect_seconds)
        except DialFailed as error:
            return error.failure.kind
        except TimeoutError:
            return "connect_timeout"
        except RequestInvalid:
            return "internal"
        except Exception:
            _logger.exception("a connection could not be opened")
            return "internal"
        return ""


class _Exchange:
    """A request and its response, over whichever of the tried connections opens."""

    def __init__(self, result: asyncio.Future[FetchResult], limits: SenderLimits) -> None:
        self.request = b""
        self.limits = limits
        self._result = result
        self._transports: list[asyncio.Transport] = []

    def opened(self, transport: asyncio.Transport) -> None:
        self._transports.append(transport)
        transport.write(self.request)

    def ended(self, fetched: FetchResult) -> None:
        if not self._result.done():
            self._result.set_result(fetched)

    def close(self) -> None:
        for transport in self._transports:
            transport.abort()


class _Connection(asyncio.Protocol):
    """A connection that reads one response."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._response = ResponseReader(exchange.limits)
        self._has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._exchange.opened(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        if self._has_ended:
            return
        try:
            decided = self._response.feed(data)
        except ResponseMalformed:
            self._end(FetchResult(0, b"", "protocol"))
        except ResponseHeadTooLarge:
            self._end(FetchResult(0, b"", "response_too_large"))
        else:
            if decided:
                self._end(self._whole())

    def eof_received(self) -> None:
        self._ended_by_peer(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended_by_peer(exc)
        self._response.close()

    def _ended_by_peer(self, error: Exception | None) -> None:
        if self._has_ended:
            return
        if not isinstance(error, ssl.SSLError) and self._response.end():
            self._end(self._whole())
        else:
            failure = classify_lost_connection(error, response_started=self._response.received > 0)
            self._end(FetchResult(0, b"", failure.kind))

    def _whole(self) -> FetchResult:
        return FetchResult(self._response.status, self._response.take_excerpt())

    def _end(self, fetched: FetchResult) -> None:
        self._has_ended = True
        self._exchange.ended(fetched)
