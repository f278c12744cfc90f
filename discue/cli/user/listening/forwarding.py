"""Forwarding messages to a local server, with requests that are those of the service."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import msgspec

from discue.cli.user.listening.screen import Forwarded, Screen
from discue.domain.attempts import Outcome
from discue.domain.message_data import Data
from discue.sending.request import AttemptRequest
from discue.sending.sender import Sender
from discue_client.models import Listener, Message, PulledMessage

_AWAY: Final = frozenset({"connect", "connect_timeout", "resolve"})
"""Failures before anything was sent: no server is there."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 3.0


class Forwarder:
    """Sends messages to one local server and counts them. Waits while it is away: only a response is an outcome."""

    def __init__(self, sender: Sender, template: AttemptRequest, screen: Screen, wanted: int | None) -> None:
        """`template` is a request without a message. `wanted` outcomes end the command."""
        self._sender = sender
        self._template = template
        self._screen = screen
        self._wanted = wanted
        self._is_away = False
        self._changed_at = 0.0
        self.ended = asyncio.Event()
        """Ends the command: nothing more is sent."""
        self.started = 0
        """Messages that are being forwarded or were."""
        self.accepted = 0
        self.refused = 0
        self.is_gone = False
        """Whether the local server has responded `410`, which ends the command."""

    def may_begin(self) -> bool:
        """Count a message that is about to be forwarded; False if there were enough already."""
        if self.started == self._wanted:
            return False
        self.started += 1
        return True

    async def forward(
        self, queue: str, listener: Listener, message: Message | PulledMessage, data: Data
    ) -> Outcome | None:
        """Send a message once. Returns None if it is neither accepted nor refused: the command ends."""
        body, codec = data
        pulled = message if isinstance(message, PulledMessage) else None
        request = msgspec.structs.replace(
            self._template,
            message_id=message.id,
            codec=codec,
            body=body,
            queue_id=listener.queue_id,
            listener_id=listener.id,
            number=1 if pulled is None else pulled.attempt,
            headers=tuple({**(message.headers or {}), **dict(self._template.headers)}.items()),
            media_type=message.content_type or "",
            traceparent="" if pulled is None else pulled.traceparent or "",
        )
        outcome = await self._send(queue, message.key, request)
        if outcome is None:
            return None
        self.accepted += outcome.acknowledged
        self.refused += not outcome.acknowledged
        if self.accepted + self.refused == self._wanted:
            self.ended.set()
        # An incomplete response does not disable a listener in push mode.
        if outcome.status != HTTPStatus.GONE or outcome.error != "status":
            return outcome
        if not self.is_gone:
            self._screen.note(
                f"Stopped for 410 Gone: the service would now disable the listener of {queue}, and its messages would "
                "wait until it is enabled."
            )
        self.is_gone = True
        self.ended.set()
        return None

    async def repeat(self, forwarded: Forwarded) -> None:
        """Send a message again, which does not count."""
        await self._send(forwarded.queue, forwarded.key, forwarded.request, is_repeated=True)

    async def _send(
        self, queue: str, key: str | None, request: AttemptRequest, *, is_repeated: bool = False
    ) -> Outcome | None:
        """Send a request as soon as the local server is there. Returns None if the command ends before that."""
        pause = _FIRST_PAUSE
        while not self.ended.is_set():
            at = time.time()
            outcome = await self._sender.attempt(request)
            is_away = outcome.error in _AWAY
            # A request that was sent before the last change tells nothing new.
            if is_away != self._is_away and at >= self._changed_at:
                self._is_away, self._changed_at = is_away, time.time()
                change = (
                    f"is away ({outcome.detail.rstrip('.')}). Messages wait; none is lost" if is_away else "is back"
                )
                self._screen.note(f"{request.target.authority} {change}.")
            if not is_away:
                self._screen.show(Forwarded(at, queue, key, request, outcome, is_repeated))
                return outcome
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return None
