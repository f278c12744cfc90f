"""Makes attempts that need an access token, and hands on those that do not."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec.structs import replace

from discue.domain.clock import Clock
from discue.domain.model import Outcome
from discue.sending.access_tokens import AccessTokens, Token, TokenRefused
from discue.sending.attempt_request import AttemptRequest
from discue.sending.presented import Grant
from discue.sending.sender import Sender

_UNAUTHORIZED: Final = 401
_HEADER: Final = "authorization"
_CLOSED: Final = Outcome(0, "internal", "The service stopped before an answer came.", 0)
_UNEXPECTED: Final = Outcome(0, "internal", "The request could not be sent.", 0)

_logger = logging.getLogger(__name__)


class Authorizer:
    """In front of a sender. Belongs to the event loop that it is first used on."""

    def __init__(self, sender: Sender, tokens: AccessTokens, clock: Clock) -> None:
        self._sender = sender
        self._tokens = tokens
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        """As `Sender.send`. A token that was kept and is refused is got anew, once, within the same attempt."""
        if request.grant is None:
            self._sender.send(request, done)
            return
        task = asyncio.get_running_loop().create_task(self._run(request, request.grant, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, grace_seconds: float) -> None:
        """Stop, as the sender does. Attempts that still wait for a token fail."""
        await self._sender.close(grace_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, request: AttemptRequest, grant: Grant, done: Callable[[Outcome], None]) -> None:
        outcome, began = _CLOSED, self._clock.monotonic()
        try:
            outcome = await self._attempt(request, grant, began)
        except Exception:
            _logger.exception("an attempt with an access token could not be made")
            outcome = _UNEXPECTED
        finally:
            # Also when it was cancelled: every attempt has an outcome.
            done(replace(outcome, took_ms=int((self._clock.monotonic() - began) * 1_000)))

    async def _attempt(self, request: AttemptRequest, grant: Grant, began: float) -> Outcome:
        try:
            token = await self._token(request, grant, began)
            outcome = await self._send(request, token, began)
            is_kept = token.got_at < began
            if outcome.status == _UNAUTHORIZED and is_kept and self._tokens.refuse(grant, token):
                outcome = await self._send(request, await self._token(request, grant, began), began)
            return outcome
        except TokenRefused as error:
            return Outcome(0, "authentication", str(error), 0)

    async def _token(self, request: AttemptRequest, grant: Grant, began: float) -> Token:
        try:
            async with asyncio.timeout(self._left_ms(request, began) / 1_000):
                return await self._tokens.get(grant)
        except TimeoutError:
            raise TokenRefused("No access token came in time.") from None

    async def _send(self, request: AttemptRequest, token: Token, began: float) -> Outcome:
        others = [each for each in request.headers if each[0].lower() != _HEADER]
        authorized = replace(
            request,
            headers=(*others, (_HEADER, f"Bearer {token.text}")),
            grant=None,
            timeout_ms=self._left_ms(request, began),
        )
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._sender.send(authorized, partial(_set, outcome))
        return await outcome

    def _left_ms(self, request: AttemptRequest, began: float) -> int:
        return max(1, request.timeout_ms - int((self._clock.monotonic() - began) * 1_000))


def _set(outcome: asyncio.Future[Outcome], found: Outcome) -> None:
    if not outcome.done():
        outcome.set_result(found)
