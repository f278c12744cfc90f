"""Endpoints of the shop: their responses, and a sender that responds for them.

Nothing leaves the process for a host of the shop. Other URLs, which people add, are requested as usual.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final

from msgspec.structs import replace

from discue.domain.attempts import Outcome, Timings, Trace
from discue.domain.egress import IPAddress
from discue.sending.classify import Failure, classify_response
from discue.sending.dialer import Resolver
from discue.sending.request import AttemptRequest, RequestHeads, attempt_head
from discue.sending.response import SenderLimits
from discue.testing.clock import MovableClock
from discue.testing.sender import KitSender

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS

DOMAIN: Final = "shop.example"
REFUSED: Final = "customer-7"
"""A customer whose invoices the accounting refuses."""

_JSON: Final = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class EndpointResponse:
    """A response of an endpoint, or the failure to get one."""

    status: int = 200
    body: bytes = b""
    first_byte_ms: int = 40
    """From the request to the first byte of the response."""
    failure: Failure | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """A request to an endpoint."""

    request: AttemptRequest
    at: int
    """The time relative to the start of the demo, in milliseconds: negative for its history."""
    random: Random


Endpoint = Callable[[EndpointRequest], EndpointResponse]


def _well(received: EndpointRequest, *, around_ms: int = 45) -> EndpointResponse:
    return EndpointResponse(200, b'{"accepted":true}', _about(received, around_ms))


def _slow(received: EndpointRequest) -> EndpointResponse:
    return EndpointResponse(202, b"", _about(received, 900))


def _crm(received: EndpointRequest) -> EndpointResponse:
    """Return 503 during an outage five hours ago, in one that has begun before the demo, and in one of each hour."""
    hour = received.at % HOUR_MS
    is_down = -5 * HOUR_MS <= received.at < -4.2 * HOUR_MS or -14 * MINUTE_MS <= received.at < 12 * MINUTE_MS
    if is_down or (received.at > HOUR_MS and hour < 6 * MINUTE_MS):
        body = b'{"error":"upstream connect error or disconnect/reset before headers","retry":true}'
        return EndpointResponse(503, body, _about(received, 120), headers=((b"retry-after", b"20"),))
    return _well(received, around_ms=95)


def _search(received: EndpointRequest) -> EndpointResponse:
    if received.request.number == 1 and received.random.random() < 0.09:
        body = b'{"error":{"type":"es_rejected_execution_exception","reason":"queue capacity 200"},"status":500}'
        return EndpointResponse(500, body, _about(received, 30))
    return _well(received, around_ms=28)


def _taxes(received: EndpointRequest) -> EndpointResponse:
    """Return 422 for one currency, since seven hours before the demo."""
    if b'"CHF"' in received.request.body and received.at > -7 * HOUR_MS:
        return EndpointResponse(
            422, b'{"error":"unsupported_currency","detail":"CHF is not configured"}', _about(received, 22)
        )
    return _well(received, around_ms=60)


def _fraud(received: EndpointRequest) -> EndpointResponse:
    if received.random.random() < 0.05:
        text = f"No complete response within {received.request.timeout_ms} ms."
        return EndpointResponse(0, first_byte_ms=received.request.timeout_ms, failure=Failure("timeout", text))
    return _well(received, around_ms=310)


def _acme(received: EndpointRequest) -> EndpointResponse:
    """Return TLS failures since the certificate has expired, nearly three hours before the demo."""
    if received.at > -2.8 * HOUR_MS:
        failure = Failure("tls", f"The certificate of {received.request.target.host} has expired.")
        return EndpointResponse(0, first_byte_ms=0, failure=failure)
    return _well(received, around_ms=140)


def _gone(received: EndpointRequest) -> EndpointResponse:
    if received.at > -2 * HOUR_MS:
        return EndpointResponse(410, b'{"error":"This webhook was removed."}', _about(received, 35))
    return _well(received)


def _accounting(received: EndpointRequest) -> EndpointResponse:
    """Return 500 for one customer, whose later invoices then wait."""
    if f'"{REFUSED}"'.encode() in received.request.body and received.at > -50 * MINUTE_MS:
        body = b'{"error":"duplicate ledger entry","ledger":"AR-2026","customer":"customer-7"}'
        return EndpointResponse(500, body, _about(received, 210))
    return _well(received, around_ms=75)


def _mail(received: EndpointRequest) -> EndpointResponse:
    if received.random.random() < 0.015:
        return EndpointResponse(
            429, b'{"message":"Too many requests"}', _about(received, 15), headers=((b"retry-after", b"30"),)
        )
    return EndpointResponse(202, b'{"queued":true}', _about(received, 55))


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    f"erp.{DOMAIN}": _well,
    f"warehouse.{DOMAIN}": _slow,
    f"crm.{DOMAIN}": _crm,
    f"search.{DOMAIN}": _search,
    f"tax.{DOMAIN}": _taxes,
    f"fraud.{DOMAIN}": _fraud,
    "hooks.acme.example": _acme,
    "api.globex.example": _well,
    f"old.{DOMAIN}": _gone,
    f"accounting.{DOMAIN}": _accounting,
    f"archive.{DOMAIN}": partial(_well, around_ms=18),
    "api.mailer.example": _mail,
    f"pos.{DOMAIN}": partial(_well, around_ms=65),
}
"""By host."""


def _about(received: EndpointRequest, milliseconds: int) -> int:
    """Return a duration that is seldom much longer, and never much shorter."""
    return round(milliseconds * (0.6 + received.random.expovariate(2.2)))


class ShopSender(KitSender):
    """Answers requests to the shop's endpoints, each after the time that it takes on the clock."""

    def __init__(self, clock: MovableClock, limits: SenderLimits, **options: Any) -> None:
        super().__init__(clock, limits, **options)
        self._heads = RequestHeads()
        self._random = Random(20_261_127)  # noqa: S311 - no secret: it varies durations
        self._connected: set[str] = set()
        self._pending: list[tuple[int, int, Callable[[Outcome], None], Outcome]] = []
        self._numbers = count()
        self.started_at = clock.now()
        """When the demo starts, in milliseconds since the epoch: its history is before that."""
        self.is_live = False
        """Whether time passes by itself. Otherwise the code that moves the clock calls `sweep`."""

    @property
    def next_reply_at(self) -> int | None:
        """When the next request in flight ends, in milliseconds since the epoch; None if there is none."""
        return self._pending[0][0] if self._pending else None

    def send(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        endpoint = ENDPOINTS.get(request.target.host)
        if endpoint is None:
            super().send(request, done)
            return
        now = self._moved.now()
        outcome = self._outcome(request, endpoint(EndpointRequest(request, now - self.started_at, self._random)), now)
        heappush(self._pending, (now + outcome.duration_ms, next(self._numbers), done, outcome))
        if self.is_live:
            asyncio.get_running_loop().call_later((outcome.duration_ms + 1) / 1_000, self._end_due)

    def sweep(self) -> None:
        """End requests whose time has come, and close idle connections."""
        super().sweep()
        self._end_due()

    def _end_due(self) -> None:
        now = self._moved.now()
        while self._pending and self._pending[0][0] <= now:
            _, _, done, outcome = heappop(self._pending)
            done(outcome)

    def _outcome(self, request: AttemptRequest, response: EndpointResponse, now: int) -> Outcome:
        host, failure = request.target.host, response.failure
        has_failed_to_open = failure is not None and failure.kind == "tls"
        is_reused = host in self._connected and not has_failed_to_open and self._random.random() < 0.85
        resolve = connect = tls = None
        if not is_reused:
            self._connected.add(host)
            resolve, connect, tls = (round(each + self._random.expovariate(0.3)) for each in (2, 8, 17))
        has_response = failure is None
        after_ms = self._random.randrange(1, 7) if has_response else 0
        total = sum(filter(None, (resolve, connect, tls))) + response.first_byte_ms + after_ms
        total = min(total, request.timeout_ms)
        if failure is not None:
            outcome = Outcome(0, failure.kind, failure.detail, total)
        else:
            retry_after = dict(response.headers).get(b"retry-after", b"")
            outcome = classify_response(response.status, response.body, total, retry_after=retry_after, now=now)
        head = attempt_head(self._heads.preamble(request), request, now // 1_000)
        timings = Timings(resolve, connect, tls, response.first_byte_ms if has_response else None, total)
        headers = (_JSON, (b"server", b"nginx"), *response.headers) if has_response else ()
        address = f"203.0.113.{sum(host.encode()) % 200 + 10}:{request.target.port}"
        trace = Trace(head, headers, response.body, len(response.body), address, is_reused, timings)
        return replace(outcome, trace=trace)


class LoopbackResolver:
    """Resolves names of this machine only, so that the demo asks no name server."""

    def __init__(self) -> None:
        self._resolve = Resolver()

    async def __call__(self, host: str, port: int) -> Sequence[IPAddress]:
        if host != "localhost":
            raise OSError(f"{host} is not resolved: the demo asks no name server")
        return await self._resolve(host, port)
