"""A server for tests in a process of its own, whose clock is moved by requests."""

import hmac
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from discue.config.settings import Settings
from discue.domain.errors import reason_phrase
from discue.http.rsgi import Application, HttpProtocol, HttpScope
from discue.observability.logs import Log
from discue.testing.clock import milliseconds_of
from discue.testing.sender import AttemptKey
from discue.testing.server import SETTLE_SECONDS, Running, StillWorking, Timeline, running

PREFIX: Final = "/testing/"
_NOT_SETTLED: Final = "Something that is due was not done in time. `waits_for` in its deliveries says why."


class SettleBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /testing/settle`."""

    seconds: float = SETTLE_SECONDS
    held: tuple[AttemptKey, ...] = ()
    pulls: bool = True
    """Whether messages count that consumers can pull or hold."""


class AdvanceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /testing/advance`: `by` or `to`. Without both, the clock moves to what is due next."""

    by: str | float | None = None
    """A duration such as "1h", or seconds."""
    to: int | None = None
    """A time in milliseconds since the epoch. The clock does not move to a time that has passed."""
    seconds: float = SETTLE_SECONDS
    """How long each step may take, in real time."""
    held: tuple[AttemptKey, ...] = ()
    """Attempts that a listener of the test keeps waiting."""


class FreezeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /testing/freeze`."""

    stands_still: bool = True
    """False: the clock runs again."""


class AvailabilityBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /testing/availability`."""

    is_available: bool
    """False: all requests to the API get `503`."""


class ClockBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /testing/clock`, which changes nothing."""

    held: tuple[AttemptKey, ...] = ()


class ClockResponse(msgspec.Struct, frozen=True):
    """The state of the clock. Times are in milliseconds since the epoch."""

    now: int
    next_at: int | None
    """When a delivery, delayed message or schedule is next due; None if none is."""


class MovableApplication:
    """Handles requests below `/testing/`, and passes all others to the application."""

    def __init__(self, application: Application, timeline: Timeline, key: str) -> None:
        """`key` is the only one that may move the clock."""
        self._application = application
        self._timeline = timeline
        self._key = key.encode()

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        if not scope.path.startswith(PREFIX):
            await self._application.__rsgi__(scope, exchange)
            return
        status, content = await self._respond(scope, exchange)
        if isinstance(content, str):
            content = {"title": reason_phrase(status), "status": status, "detail": content}
        body = json.dumps(content).encode()
        exchange.response_bytes(status, [("content-type", "application/json")], body)

    async def _respond(self, scope: HttpScope, exchange: HttpProtocol) -> tuple[int, Any]:
        """Return the status, and the content of the response: for errors, their detail."""
        if not hmac.compare_digest(scope.headers.get("x-api-key", "").encode(), self._key):
            return 401, "Send the key that discue dev --ephemeral printed in x-api-key."
        actions = {
            "settle": self._settle,
            "advance": self._advance,
            "freeze": self._freeze,
            "clock": self._clock,
            "availability": self._set_available,
        }
        action = actions.get(scope.path.removeprefix(PREFIX))
        if action is None:
            return 404, f"No route for {scope.path}. There are {', '.join(PREFIX + name for name in actions)}."
        if scope.method != "POST":
            return 405, f"{scope.path} needs POST."
        body = await exchange()
        try:
            return 200, msgspec.to_builtins(await action(body or b"{}"))
        except (ValueError, msgspec.MsgspecError) as error:
            return 400, str(error)
        except StillWorking:
            return 409, _NOT_SETTLED

    async def _settle(self, content: bytes) -> ClockResponse:
        body = msgspec.json.decode(content, type=SettleBody)
        await self._timeline.settle(body.seconds, lambda: body.held, pulls=body.pulls)
        return await self._state(body.held)

    async def _advance(self, content: bytes) -> ClockResponse:
        body = msgspec.json.decode(content, type=AdvanceBody)
        if body.by is not None and body.to is not None:
            raise ValueError("Send either `by` or `to`, not both.")
        if body.by is not None:
            await self._timeline.advance_by(milliseconds_of(body.by), lambda: body.held, body.seconds)
        elif body.to is not None:
            await self._timeline.advance_to(body.to, lambda: body.held, body.seconds)
        else:
            await self._timeline.advance_to_next(lambda: body.held, body.seconds)
        return await self._state(body.held)

    async def _freeze(self, content: bytes) -> ClockResponse:
        body = msgspec.json.decode(content, type=FreezeBody)
        await self._timeline.freeze(stands_still=body.stands_still)
        return await self._state(())

    async def _set_available(self, content: bytes) -> ClockResponse:
        body = msgspec.json.decode(content, type=AvailabilityBody)
        await self._timeline.set_available(is_available=body.is_available)
        return await self._state(())

    async def _clock(self, content: bytes) -> ClockResponse:
        return await self._state(msgspec.json.decode(content, type=ClockBody).held)

    async def _state(self, held: Sequence[AttemptKey]) -> ClockResponse:
        return ClockResponse(await self._timeline.now(), self._timeline.next_delivery_at(held))


@asynccontextmanager
async def ephemeral(settings: Settings, folder: Path, log: Log) -> AsyncIterator[Running]:
    """Serve a new database in the folder, with a clock that requests can move."""
    settings = replace(settings, database=f"sqlite:///{folder}/discue.db", drain_timeout_seconds=0)
    async with running(settings, log, MovableApplication) as found:
        yield found
