"""Forwarding messages to a local server, with requests that are those of the service."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from discue.cli.user.listening.target import Signing
from discue.domain.attempts import Outcome
from discue.domain.clock import SystemClock
from discue.domain.egress import EgressPolicy, Target
from discue.domain.message_data import TEXT, Codec
from discue.sending.request import AttemptRequest
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender

if TYPE_CHECKING:
    from discue_client.models import PulledMessage

_AWAY: Final = frozenset({"connect", "connect_timeout", "resolve"})
"""Failures before anything was sent: no server is there."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 3.0
_CLOSING_SECONDS: Final = 0.2


class Forwardable(NamedTuple):
    """A message, as it is forwarded."""

    id: str
    body: bytes
    media_type: str
    key: str | None
    headers: dict[str, str]
    attempt: int
    codec: Codec = TEXT
    """Decides about the media type if the message has none."""
    traceparent: str = ""
    """The trace context of the attempt; "" for none."""

    @classmethod
    def of(cls, message: PulledMessage) -> Forwardable:
        encoded = message.data_base64
        body = (message.data or "").encode() if encoded is None else base64.b64decode(encoded)
        return cls(
            message.id,
            body,
            message.content_type,
            message.key,
            message.headers or {},
            message.attempt,
            traceparent=message.traceparent or "",
        )


class QueueListener(NamedTuple):
    """The queue and the listener that a request names."""

    queue: str
    """Alias of the queue."""
    queue_id: str
    listener_id: str


class Forwarded(NamedTuple):
    """A request to the local server, and its outcome."""

    at: float
    """Seconds since the epoch."""
    source: QueueListener
    message: Forwardable
    outcome: Outcome
    is_repeated: bool
    """Whether a user asked to repeat it: it is not an attempt to deliver the message."""


class Stopped(Exception):
    """The command ends before the local server has responded."""


class Forwarder:
    """Sends messages to one local server. Waits while it is away: only a response is an outcome.

    `show` gets each request with its outcome, `note` a sentence when the server goes away and when it is back.
    """

    def __init__(
        self,
        target: Target,
        signing: Signing,
        *,
        headers: dict[str, str],
        timeout_seconds: float,
        ssl_context: ssl.SSLContext | None,
        show: Callable[[Forwarded], None],
        note: Callable[[str], None],
    ) -> None:
        self._target = target
        self._signing = signing
        self._headers = headers
        self._timeout_ms = round(timeout_seconds * 1_000)
        self._show = show
        self._note = note
        self._sender = Sender(
            clock=SystemClock(),
            # The address was given by the person who runs the command.
            policy=EgressPolicy(allow_private=True),
            limits=SenderLimits(),
            ssl_context=ssl_context,
        )
        self._is_present = asyncio.Event()
        self._is_present.set()
        self._is_stopped = asyncio.Event()

    async def forward(self, source: QueueListener, message: Forwardable, *, is_repeated: bool = False) -> Outcome:
        """Send a message once, as soon as the local server is there, and return the outcome. Raises Stopped."""
        request = self._request(source, message)
        while True:
            await self._is_present.wait()
            if self._is_stopped.is_set():
                raise Stopped
            sent_at = time.time()
            outcome = await self._send(request)
            if outcome.error in _AWAY:
                if not self._is_present.is_set():
                    # Another message tries already.
                    continue
                sent_at, outcome = await self._until_present(request, outcome)
            self._show(Forwarded(sent_at, source, message, outcome, is_repeated))
            return outcome

    def stop(self) -> None:
        """Let everything that waits for the local server raise Stopped."""
        self._is_stopped.set()
        self._is_present.set()

    async def close(self) -> None:
        await self._sender.close(_CLOSING_SECONDS)

    async def _until_present(self, request: AttemptRequest, outcome: Outcome) -> tuple[float, Outcome]:
        """Try one message until a server is there, while all others wait."""
        self._is_present.clear()
        self._note(f"{self._target.authority} is away ({outcome.detail.rstrip('.')}). Messages wait; none is lost.")
        pause = _FIRST_PAUSE
        try:
            while True:
                await self._pause(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                sent_at = time.time()
                outcome = await self._send(request)
                if outcome.error not in _AWAY:
                    self._note(f"{self._target.authority} is back.")
                    return sent_at, outcome
        finally:
            self._is_present.set()

    async def _pause(self, seconds: float) -> None:
        """Raises Stopped as soon as the command ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_stopped.wait()
        if self._is_stopped.is_set():
            raise Stopped

    async def _send(self, request: AttemptRequest) -> Outcome:
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(found: Outcome) -> None:
            if not outcome.done():
                outcome.set_result(found)

        self._sender.send(request, done)
        return await outcome

    def _request(self, source: QueueListener, message: Forwardable) -> AttemptRequest:
        return AttemptRequest(
            target=self._target,
            message_id=message.id,
            codec=message.codec,
            body=message.body,
            keys=self._signing.keys,
            queue_id=source.queue_id,
            listener_id=source.listener_id,
            number=message.attempt,
            headers=tuple({**message.headers, **self._headers}.items()),
            timeout_ms=self._timeout_ms,
            media_type=message.media_type,
            traceparent=message.traceparent,
        )
