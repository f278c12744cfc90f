"""Endpoints of the shop: their responses, and a sender that responds for them.

Nothing leaves the process for a host of the shop. Other URLs, which people add, are requested as usual.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from random import Random
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from discue.domain.attempts import Outcome, Timings, Trace
from discue.domain.egress import IPAddress
from discue.sending.request import AttemptRequest, attempt_head
from discue.sending.response import Failure, SenderLimits, classify_response
from discue.testing.clock import MovableClock
from discue.testing.receiver import AttemptKey
from discue.testing.server import KitSender

HOUR_MS: Final = 3_600_000

DOMAIN: Final = "shop.example"
REFUSED: Final = "customer-7"
"""A customer whose invoices the accounting refuses."""


class Response(NamedTuple):
    """A response of an endpoint."""

    status: int
    body: bytes = b""
    retry_after: bytes = b""


Fails = Callable[[AttemptRequest, float, float], bool]
"""Whether a request fails, by the hours since the start of the demo and a random number below 1.

The hours are negative in its history.
"""


class ShopEndpoint(NamedTuple):
    """A server that receives webhooks."""

    around_ms: int
    """How long it takes to respond."""
    response: Response = Response(200, b'{"accepted":true}')
    fails: Fails = lambda *_: False
    failure: Response | Failure = Response(500)


def _crm_is_down(_: AttemptRequest, hours: float, __: float) -> bool:
    """Fail in an outage five hours ago, in one that has begun before the demo, and in one of each hour."""
    return -5 <= hours < -4.2 or -0.24 <= hours < 0.2 or (hours > 1 and hours % 1 < 0.1)


_ENDPOINTS: Final[Mapping[str, ShopEndpoint]] = {
    "warehouse": ShopEndpoint(900, Response(202)),
    "crm-sync": ShopEndpoint(
        95,
        fails=_crm_is_down,
        failure=Response(503, b'{"error":"upstream connect error or disconnect/reset before headers"}', b"20"),
    ),
    "search-index": ShopEndpoint(
        28,
        fails=lambda request, _, draw: request.number == 1 and draw < 0.09,
        failure=Response(500, b'{"error":{"type":"es_rejected_execution_exception","reason":"queue capacity 200"}}'),
    ),
    "tax-report": ShopEndpoint(
        60,
        fails=lambda request, hours, _: hours > -7 and b'"CHF"' in request.body,
        failure=Response(422, b'{"error":"unsupported_currency","detail":"CHF is not configured"}'),
    ),
    "fraud-check": ShopEndpoint(
        310,
        fails=lambda _, __, draw: draw < 0.05,
        failure=Failure("timeout", "No complete response within 5000 ms."),
    ),
    "acme-orders": ShopEndpoint(
        140,
        fails=lambda _, hours, __: hours > -2.8,
        failure=Failure("tls", f"The certificate of acme-orders.{DOMAIN} has expired."),
    ),
    "old-shop": ShopEndpoint(
        45, fails=lambda _, hours, __: hours > -2, failure=Response(410, b'{"error":"This webhook was removed."}')
    ),
    "accounting": ShopEndpoint(
        75,
        fails=lambda request, hours, _: hours > -0.8 and f'"{REFUSED}"'.encode() in request.body,
        failure=Response(500, b'{"error":"duplicate ledger entry","ledger":"AR-2026","customer":"customer-7"}'),
    ),
    "mailer": ShopEndpoint(
        55,
        Response(202, b'{"queued":true}'),
        fails=lambda _, __, draw: draw < 0.015,
        failure=Response(429, b'{"message":"Too many requests"}', b"30"),
    ),
}
"""Endpoints by the alias of their listener, which is also the host name."""
_RELIABLE: Final = ShopEndpoint(45)


class ShopSender(KitSender):
    """Responds to requests to the shop's endpoints, each after the time that it takes on the clock."""

    def __init__(self, clock: MovableClock, limits: SenderLimits, *, started_at: int, **options: Any) -> None:
        """`started_at` is the start of the demo, in milliseconds since the epoch: its history is before that."""
        super().__init__(clock, limits, **options)
        self._started_at = started_at
        self._random = Random(20_261_127)  # noqa: S311 - no secret: it varies durations
        self._numbers = count()
        self._replies: list[tuple[int, int, Callable[[Outcome], None], Outcome]] = []
        """A heap of the outcomes to come, by their time."""

    def next_deadline(self, of: Collection[AttemptKey]) -> int | None:
        """Return when the next request ends, in milliseconds since the epoch."""
        return self._replies[0][0] if self._replies else super().next_deadline(of)

    def send(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        alias, _, domain = request.destination.target.host.partition(".")
        if domain != DOMAIN:
            super().send(request, done)
            return
        outcome = self._outcome(request, _ENDPOINTS.get(alias, _RELIABLE))
        heappush(self._replies, (self._moved.now() + outcome.duration_ms, next(self._numbers), done, outcome))
        if not self._moved.is_frozen:
            asyncio.get_running_loop().call_later((outcome.duration_ms + 1) / 1_000, self.sweep)

    def sweep(self) -> None:
        """End requests whose time has come, and close idle connections."""
        super().sweep()
        while self._replies and self._replies[0][0] <= self._moved.now():
            _, _, done, outcome = heappop(self._replies)
            done(outcome)

    def _outcome(self, request: AttemptRequest, endpoint: ShopEndpoint) -> Outcome:
        now = self._moved.now()
        fails = endpoint.fails(request, (now - self._started_at) / HOUR_MS, self._random.random())
        response = endpoint.failure if fails else endpoint.response
        if isinstance(response, Failure):
            total_ms = request.timeout_ms if response.kind == "timeout" else 34
            return Outcome(0, response.kind, response.detail, total_ms)
        # Seldom much longer than usual, and never much shorter.
        total_ms = round(endpoint.around_ms * (0.6 + self._random.expovariate(2.2)))
        headers = [(b"content-type", b"application/json"), (b"server", b"nginx")]
        headers += [(b"retry-after", response.retry_after)] if response.retry_after else []
        outcome = classify_response(response.status, response.body, total_ms, retry_after=response.retry_after, now=now)
        timings = Timings(None, None, None, total_ms, total_ms)
        target = request.destination.target
        address = f"203.0.113.{sum(target.host.encode()) % 200 + 10}:{target.port}"
        head = attempt_head(request, now // 1_000)
        trace = Trace(head, tuple(headers), response.body, len(response.body), address, is_reused=True, timings=timings)
        return replace(outcome, trace=trace)


async def resolve_loopback(host: str, _: int) -> Sequence[IPAddress]:
    """Resolve names of this machine only, so that the demo asks no name server."""
    if host != "localhost":
        raise OSError(f"{host} is not resolved: the demo asks no name server")
    return [IPv4Address("127.0.0.1"), IPv6Address("::1")]
