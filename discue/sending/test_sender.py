"""Makes attempts with samples: real requests that nothing follows from, a few at a time."""

import asyncio
import ssl
from collections import Counter, OrderedDict
from functools import partial
from ipaddress import ip_address
from typing import Final

from discue.domain.attempts import Outcome
from discue.domain.clock import Clock
from discue.domain.egress import EgressPolicy
from discue.domain.errors import TooManyRequests
from discue.domain.rate import RateLimit, TokenBucket
from discue.sending.endpoint_auth import AccessTokens, AuthorizingSender
from discue.sending.request import AttemptRequest
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender

AT_ONCE: Final = 64
MAX_IN_FLIGHT_PER_ORGANIZATION: Final = 4
RATE: Final = RateLimit(1.0, 10)
"""Of each organization, on each worker."""

PUBLIC_ADDRESSES: Final = EgressPolicy()
"""The public addresses."""

_ORGANIZATIONS_KNOWN: Final = 10_000


class EndpointTester:
    """Each request goes over a connection of its own, beside those of deliveries, and every outcome has a trace.

    Belongs to the event loop that it is first used on. A place is given back when the request has ended, whether or
    not anybody waits for that any more.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        policy: EgressPolicy,
        tokens: AccessTokens,
        connect_timeout_ms: int = 5_000,
        ssl_context: ssl.SSLContext | None = None,
        public: EgressPolicy = PUBLIC_ADDRESSES,
    ) -> None:
        """`public`: the addresses whose responses may be told."""
        limits = SenderLimits(connect_timeout_ms=connect_timeout_ms, idle_seconds=0)
        sender = Sender(clock=clock, policy=policy, limits=limits, ssl_context=ssl_context, details="all")
        self._sender = AuthorizingSender(sender, tokens, clock)
        self._clock = clock
        self._public = public
        self._in_flight: Counter[int] = Counter()
        self._paces: OrderedDict[int, TokenBucket] = OrderedDict()

    async def attempt(self, organization: int, request: AttemptRequest) -> Outcome:
        """What comes of one request. Raises TooManyRequests."""
        self._enter(organization)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._sender.send(request, partial(self._ended, organization, outcome))
        return await outcome

    def may_tell(self, outcome: Outcome) -> bool:
        """Whether what was answered comes from where anybody may ask: what an operator allows beyond that is not shown.

        Where nothing was connected to, nothing was answered.
        """
        address = outcome.trace.address if outcome.trace is not None else ""
        return not address or self._public.refusal(ip_address(address.rpartition(":")[0].strip("[]"))) is None

    async def close(self) -> None:
        """Requests that are under way fail."""
        await self._sender.close(0)

    def _enter(self, organization: int) -> None:
        if self._in_flight[organization] >= MAX_IN_FLIGHT_PER_ORGANIZATION or self._in_flight.total() >= AT_ONCE:
            raise TooManyRequests("Too many tests are under way. Try again soon.", retry_after_seconds=1)
        now = self._clock.monotonic()
        pace = self._paces.get(organization) or TokenBucket(RATE, now, is_full=True)
        if pace.wait_seconds(now) > 0:
            raise TooManyRequests("This organization tests too often. Try again soon.", retry_after_seconds=1)
        pace.take(now)
        self._in_flight[organization] += 1
        self._paces[organization] = pace
        self._paces.move_to_end(organization)
        if len(self._paces) > _ORGANIZATIONS_KNOWN:
            self._paces.popitem(last=False)

    def _ended(self, organization: int, outcome: asyncio.Future[Outcome], found: Outcome) -> None:
        self._in_flight[organization] -= 1
        if not self._in_flight[organization]:
            del self._in_flight[organization]
        if not outcome.done():
            outcome.set_result(found)
