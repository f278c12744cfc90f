"""The responses of a listener in a test, in the order of its requests."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from discue.testing.receiver import EndpointConnection
from discue.testing.requests import Received, Reply
from discue.testing.sender import AttemptKey

Callback = Callable[[Received], Reply | int | None]
"""Responds to a request: with a reply, a status, or `200` for None. Runs on a thread of its own."""

_DRIPPED: Final = b"." * 16

_logger = logging.getLogger("discue.testing")


@dataclass(frozen=True)
class Step:
    """A response, and how many requests get it; None: all from now on."""

    kind: str
    reply: Reply = field(default_factory=Reply)
    seconds: float = 0.0
    callback: Callback | None = None
    times: int | None = None


class Script:
    """The responses of a listener: `200` where there is no step.

    A step without `times` lasts until another one is added.
    """

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._lock = threading.Lock()
        self._held: set[AttemptKey] = set()
        self.requests: list[Received] = []
        """All requests, in the order in which they arrived."""
        self.errors: list[Exception] = []
        """The exceptions that callbacks have raised, oldest first."""

    @property
    def held(self) -> frozenset[AttemptKey]:
        """The attempts that `hang` keeps without a response."""
        return frozenset(self._held)

    def respond(
        self,
        status: int,
        *,
        times: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | bytes = b"",
    ) -> Self:
        """Respond with a status."""
        content = body.encode() if isinstance(body, str) else body
        return self._add(Step("send", Reply(status, tuple((headers or {}).items()), content), times=times))

    def retry_after(self, seconds: int, *, status: int = 503, times: int | None = None) -> Self:
        """Respond that the next attempt should come so many seconds later."""
        return self.respond(status, times=times, headers={"retry-after": str(seconds)})

    def gone(self, *, times: int | None = None) -> Self:
        """Respond with `410`, which disables the listener."""
        return self.respond(410, times=times)

    def slow(self, seconds: float, *, status: int = 200, times: int | None = None) -> Self:
        """Respond after so many seconds of real time."""
        return self._add(Step("slow", Reply(status), seconds, times=times))

    def drip(self, seconds: float, *, status: int = 200, times: int | None = None) -> Self:
        """Respond at once, with a body that takes so many seconds of real time."""
        return self._add(Step("drip", Reply(status, body=_DRIPPED), seconds, times=times))

    def reset(self, *, times: int | None = None) -> Self:
        """Break the connection in place of a response."""
        return self._add(Step("reset", times=times))

    def hang(self, *, times: int | None = None) -> Self:
        """Never respond: the attempt fails when the clock has moved by the listener's timeout."""
        return self._add(Step("hang", times=times))

    def callback(self, callback: Callback, *, times: int | None = None) -> Self:
        """Respond with what the function returns for the request, or `500` if it raises."""
        return self._add(Step("callback", callback=callback, times=times))

    async def handle(self, received: Received, connection: EndpointConnection) -> None:
        """Respond to the next request."""
        step = self._next(received)
        if step.kind == "reset":
            connection.reset()
        elif step.kind == "hang":
            key = key_of(received)
            self._held.add(key)
            try:
                await connection.until_closed()
            finally:
                self._held.discard(key)
        elif step.kind == "drip":
            await connection.drip(step.reply, step.seconds)
        else:
            await asyncio.sleep(step.seconds)
            await connection.send(await self._reply(step, received))

    async def _reply(self, step: Step, received: Received) -> Reply:
        if step.callback is None:
            return step.reply
        try:
            result = await asyncio.to_thread(step.callback, received)
        except Exception as error:
            self.errors.append(error)
            _logger.exception("the callback of a listener raised")
            return Reply(500)
        return result if isinstance(result, Reply) else Reply(result or 200)

    def _add(self, step: Step) -> Self:
        with self._lock:
            self._steps = [each for each in self._steps if each.times is not None]
            self._steps.append(step)
        return self

    def _next(self, received: Received) -> Step:
        with self._lock:
            self.requests.append(received)
            if not self._steps:
                return Step("send")
            step = self._steps[0]
            if step.times is not None:
                rest = [replace(step, times=step.times - 1)] if step.times > 1 else []
                self._steps[:1] = rest
            return step


def key_of(received: Received) -> AttemptKey:
    """Return the attempt that a request makes."""
    fields = received.fields
    number, replay_id = int(fields["discue-attempt"]), fields.get("discue-replay", "")
    return AttemptKey(fields["discue-listener"], fields["webhook-id"], number, replay_id)
