"""Single requests for probes, access tokens and domain checks, each on a new connection, with egress checks."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final, cast

import msgspec

from discue.domain.attempts import FailureKind
from discue.domain.egress import PUBLIC_ADDRESSES, EgressPolicy, Target
from discue.sending.dialer import Dialer, DialTimings, Resolve, Resolver, system_tls_context
from discue.sending.request import for_proxy, form_head, get_head
from discue.sending.response import RequestFailed, ResponseReader, SenderLimits, classify_lost_connection

KEPT_BYTES: Final = 1_024
"""How much of a response body is kept by default."""

_HEAD_BYTES: Final = 16_384

_logger = logging.getLogger(__name__)


class FetchResult(msgspec.Struct, frozen=True):
    """The result of a request: the status and the first bytes of the body, or the reason why there is no response."""

    status: int
    body: bytes
    error: FailureKind = ""
    detail: str = ""
    """A sentence about a failed TLS handshake with an address that may be shown; "" otherwise."""


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
        public: EgressPolicy = PUBLIC_ADDRESSES,
    ) -> None:
        """`connect_seconds` limits resolving, connecting and TLS together.

        `public` allows the addresses whose failures may be shown.
        """
        self._policy = policy
        self._public = public
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
        opened: list[asyncio.Transport] = []
        connect_seconds = min(timeout_seconds, self._connect_seconds)
        timings = DialTimings(monotonic, monotonic())
        try:
            async with asyncio.timeout(timeout_seconds):
                sent, proxy = request(), self._policy.proxy_of(target)
                if proxy is not None and target.scheme == "http":
                    sent = for_proxy(sent, target, proxy)
                factory = partial(_Connection, sent, result, opened, self._limits)
                try:
                    async with asyncio.timeout(connect_seconds):
                        await self._dialer.dial(target, factory, connect_seconds, timings)
                except TimeoutError:
                    return FetchResult(0, b"", timings.timeout)
                return await result
        except RequestFailed as error:
            failure = error.failure
            # The reason for a failed connection reveals as much about the network as a response.
            is_shown = failure.kind == "tls" and not self._public.withholds(timings.address)
            return FetchResult(0, b"", failure.kind, failure.detail if is_shown else "")
        except TimeoutError:
            return FetchResult(0, b"", "timeout")
        except Exception:
            _logger.exception("a connection could not be opened")
            return FetchResult(0, b"", "internal")
        finally:
            for transport in opened:
                transport.abort()


class _Connection(asyncio.Protocol):
    """A connection that sends a request and reads its response, unless another connection was faster."""

    def __init__(
        self, request: bytes, result: asyncio.Future[FetchResult], opened: list[asyncio.Transport], limits: SenderLimits
    ) -> None:
        self._request = request
        self._result = result
        self._opened = opened
        self._response = ResponseReader(limits)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._opened.append(cast(asyncio.Transport, transport))
        self._opened[-1].write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._result.done():
            return
        try:
            decided = self._response.feed(data)
        except RequestFailed as error:
            self._result.set_result(FetchResult(0, b"", error.failure.kind))
        else:
            if decided:
                self._result.set_result(self._whole())

    def eof_received(self) -> None:
        self._ended_by_peer(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended_by_peer(exc)
        self._response.close()

    def _ended_by_peer(self, error: Exception | None) -> None:
        if self._result.done():
            return
        if not isinstance(error, ssl.SSLError) and self._response.end():
            self._result.set_result(self._whole())
        else:
            failure = classify_lost_connection(error, response_started=self._response.received > 0)
            self._result.set_result(FetchResult(0, b"", failure.kind))

    def _whole(self) -> FetchResult:
        return FetchResult(self._response.status, self._response.take_excerpt())
