"""Shared code of the sender tests: a sender that is closed at the end, and one attempt as a coroutine."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from discue.crypto.signing import HmacKey
from discue.domain.attempts import AttemptDetailLevel, Outcome
from discue.domain.clock import SystemClock
from discue.domain.egress import EgressPolicy, parse_target
from discue.domain.message_data import JSON_VALUE
from discue.sending.dialer import Resolve
from discue.sending.request import AttemptRequest, Destination
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender

KEY = HmacKey(range(32))
MESSAGE_ID = "0123456789abcdefghijk"
QUEUE_ID = "q" * 21
LISTENER_ID = "l" * 21


class MovableClock(SystemClock):
    """Clocks that stand still, except for what a test adds to them: a busy machine must not let time pass."""

    def __init__(self) -> None:
        self.added_seconds = 0.0
        self._now, self._monotonic = super().now(), super().monotonic()

    def now(self) -> int:
        return self._now + int(self.added_seconds * 1_000)

    def monotonic(self) -> float:
        return self._monotonic + self.added_seconds


def request_to(url: str, **changes: Any) -> AttemptRequest:
    destination: dict[str, Any] = {
        "target": parse_target(url, "/notify_url"),
        "queue_id": QUEUE_ID,
        "listener_id": LISTENER_ID,
    }
    destination |= {name: changes.pop(name) for name in Destination.__struct_fields__ if name in changes}
    values: dict[str, Any] = {
        "destination": Destination(**destination),
        "message_id": MESSAGE_ID,
        "codec": JSON_VALUE,
        "body": b'{"hello":"world"}',
        "keys": (KEY,),
        "number": 1,
        "timeout_ms": 5_000,
    }
    return AttemptRequest(**(values | changes))


def begin(sender: Sender, request: AttemptRequest) -> asyncio.Future[Outcome]:
    """Start an attempt. A second outcome, or one that comes before `send` returned, fails the test."""
    outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    sender.send(request, outcome.set_result)
    assert not outcome.done()
    return outcome


async def attempt(sender: Sender, request: AttemptRequest) -> Outcome:
    """The outcome of one attempt."""
    return await begin(sender, request)


@asynccontextmanager
async def a_sender(
    *,
    policy: EgressPolicy | None = None,
    limits: SenderLimits | None = None,
    resolve: Resolve | None = None,
    ssl_context: ssl.SSLContext | None = None,
    clock: SystemClock | None = None,
    details: AttemptDetailLevel = "none",
) -> AsyncIterator[Sender]:
    """A sender that may go anywhere; at its end nothing is in flight, and no connection is left."""
    sender = Sender(
        clock=clock or SystemClock(),
        policy=policy or EgressPolicy(allow_private=True),
        limits=limits,
        resolve=resolve,
        ssl_context=ssl_context,
        details=details,
    )
    try:
        yield sender
    finally:
        await sender.close(0)
        left = (sender.in_flight, sender.open_connections)
        assert left == (0, 0), left
