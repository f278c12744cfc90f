"""Test requests to listeners: real requests whose outcome changes nothing, a few at a time."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec.structs import replace

from discue.domain.attempts import Outcome
from discue.domain.clock import Clock
from discue.domain.errors import TooManyRequests
from discue.domain.rate import RateLimit, TokenBucket
from discue.sending.endpoint_auth import AccessTokens, AuthorizingSender
from discue.sending.request import AttemptRequest
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender

AT_ONCE: Final = 64
MAX_IN_FLIGHT_PER_ORGANIZATION: Final = 4
RATE: Final = RateLimit(1.0, 10)
"""Tests per organization and worker."""

_BUCKETS_KEPT: Final = 10_000


class EndpointTester:
    """Makes test requests, each over a new connection and with a trace.

    Belongs to the event loop on which it is first used. A request counts as in flight until it ends, even if its
    client is gone.
    """

    def __init__(
        self, sender_of: Callable[..., Sender], tokens: AccessTokens, clock: Clock, limits: SenderLimits
    ) -> None:
        """`sender_of` makes the sender of the requests. `limits` are those of deliveries; no connection is kept."""
        sender = sender_of(clock=clock, limits=replace(limits, idle_seconds=0), details="all")
        self._sender = AuthorizingSender(sender, tokens, clock)
        self.close = self._sender.close
        self._clock = clock
        self._in_flight: Counter[int] = Counter()
        self._buckets: OrderedDict[int, TokenBucket] = OrderedDict()

    async def attempt(self, organization: int, request: AttemptRequest) -> Outcome:
        """Make one request and return its outcome. Raises TooManyRequests."""
        if self._in_flight[organization] >= MAX_IN_FLIGHT_PER_ORGANIZATION or self._in_flight.total() >= AT_ONCE:
            raise TooManyRequests("Too many tests are in flight. Try again soon.", retry_after_seconds=1)
        now = self._clock.monotonic()
        bucket = self._buckets.get(organization) or TokenBucket(RATE, now, is_full=True)
        if bucket.wait_seconds(now) > 0:
            raise TooManyRequests("This organization tests too often. Try again soon.", retry_after_seconds=1)
        bucket.take(now)
        # Refused requests take no token: a client that keeps trying is served again.
        self._in_flight[organization] += 1
        self._buckets[organization] = bucket
        self._buckets.move_to_end(organization)
        if len(self._buckets) > _BUCKETS_KEPT:
            self._buckets.popitem(last=False)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._sender.send(request, partial(self._ended, organization, outcome))
        return await outcome

    def _ended(self, organization: int, outcome: asyncio.Future[Outcome], found: Outcome) -> None:
        self._in_flight[organization] -= 1
        if not self._in_flight[organization]:
            del self._in_flight[organization]
        if not outcome.done():
            outcome.set_result(found)
