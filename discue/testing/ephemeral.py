"""A server for tests in a process of its own, whose clock is moved by requests."""

import hmac
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import msgspec

from discue.config.settings import Settings
from discue.domain.errors import reason_phrase
from discue.http.rsgi import Application, HttpProtocol, HttpScope
from discue.observability.logs import Log
from discue.server.http import next_free_port
from discue.testing.clock import milliseconds_of
from discue.testing.receiver import AttemptKey
from discue.testing.server import SETTLE_SECONDS, Running, StillWorking, Timeline, running

PREFIX: Final = "/testing/"
_NOT_SETTLED: Final = "Something that is due was not done in time. `waits_for` in its deliveries says why."


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /testing/clock`, which changes nothing. All other bodies include its fields."""

    held: tuple[AttemptKey, ...] = ()
    """Attempts that a listener of the test keeps waiting."""

    async def run(self, timeline: Timeline) -> None:
        """Do what the request asks for."""


class SettleAction(Action, frozen=True):
    """The body of `POST /testing/settle`."""

    seconds: float = SETTLE_SECONDS
    pulls: bool = True
    """Whether messages count that consumers can pull or hold."""

    async def run(self, timeline: Timeline) -> None:
        await timeline.settle(self.seconds, lambda: self.held, pulls=self.pulls)


class AdvanceAction(Action, frozen=True):
    """The body of `POST /testing/advance`: `by` or `to`. Without both, the clock moves to what is due next."""

    by: str | float | None = None
    """A duration such as "1h", or seconds."""
    to: int | None = None
    """A time in milliseconds since the epoch. The clock does not move to a time that has passed."""
    seconds: float = SETTLE_SECONDS
    """How long each step may take, in real time."""

    async def run(self, timeline: Timeline) -> None:
        if self.by is not None and self.to is not None:
            raise ValueError("Send either `by` or `to`, not both.")
        if self.by is not None:
            await timeline.advance_by(milliseconds_of(self.by), lambda: self.held, self.seconds)
        elif self.to is not None:
            await timeline.advance_to(self.to, lambda: self.held, self.seconds)
        else:
            await timeline.advance_to_next(lambda: self.held, self.seconds)


class FreezeAction(Action, frozen=True):
    """The body of `POST /testing/freeze`."""

    stands_still: bool = True
    """False: the clock runs again."""

    async def run(self, timeline: Timeline) -> None:
        await timeline.freeze(stands_still=self.stands_still)


class AvailabilityAction(Action, frozen=True, kw_only=True):
    """The body of `POST /testing/availability`."""

    is_available: bool
    """False: all requests to the API get `503`."""

    async def run(self, timeline: Timeline) -> None:
        await timeline.set_available(is_available=self.is_available)


_ACTIONS: Final[Mapping[str, type[Action]]] = {
    "settle": SettleAction,
    "advance": AdvanceAction,
    "freeze": FreezeAction,
    "clock": Action,
    "availability": AvailabilityAction,
}


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
        exchange.response_bytes(status, [("content-type", "application/json")], json.dumps(content).encode())

    async def _respond(self, scope: HttpScope, exchange: HttpProtocol) -> tuple[int, Any]:
        """Return the status, and the content of the response: for errors, their detail."""
        if not hmac.compare_digest(scope.headers.get("x-api-key", "").encode(), self._key):
            return 401, "Send the key that discue dev --ephemeral printed in x-api-key."
        body = _ACTIONS.get(scope.path.removeprefix(PREFIX))
        if body is None:
            return 404, f"No route for {scope.path}. The routes are {', '.join(PREFIX + name for name in _ACTIONS)}."
        if scope.method != "POST":
            return 405, f"{scope.path} needs POST."
        try:
            action = msgspec.json.decode(await exchange() or b"{}", type=body)
            await action.run(self._timeline)
        except (ValueError, msgspec.MsgspecError) as error:
            return 400, str(error)
        except StillWorking:
            return 409, _NOT_SETTLED
        # The time of the next delivery, delayed message or schedule is null if there is none.
        return 200, {"now": await self._timeline.now(), "next_at": self._timeline.next_delivery_at(action.held)}


@asynccontextmanager
async def ephemeral(settings: Settings, log: Log) -> AsyncIterator[Running]:
    """Serve a new database in a temporary folder, with a clock that requests can move."""
    with tempfile.TemporaryDirectory(prefix="discue-") as folder:
        settings = replace(settings, database=f"sqlite:///{folder}/discue.db", role="all", drain_timeout_seconds=0)
        async with running(settings, log, MovableApplication, hold=next_free_port) as found:
            yield found
