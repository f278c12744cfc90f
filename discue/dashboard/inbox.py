"""The inbox of `discue dev`: the requests that it has received, and how it responds to the next ones."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Literal, get_args

import msgspec

from discue.control.context import ControlContext, one_of, out_of
from discue.control.encryption import secrets_of
from discue.crypto.signing import SignatureInvalid, signing_key_of, verify
from discue.domain.errors import invalid
from discue.store import listeners

VERIFIED: Final = "verified"
"""The `signature` of a request whose signature is valid."""

Behaviour = Literal["accept", "fail", "slow"]
"""How the inbox responds: at once with 200, with 503, or with 200 after a while."""

TIMES: Final = range(1, 101)
SLOW_SECONDS: Final = 5.0

_REQUESTS_KEPT: Final = 100
_CHARACTERS_KEPT: Final = 65_536
_BEHAVIOURS: Final[tuple[Behaviour, ...]] = get_args(Behaviour)


class ReceivedRequest(msgspec.Struct, frozen=True):
    number: int
    """1 for the first request since the start."""
    received_at: int
    """Milliseconds since the epoch."""
    signature: str
    """"verified", or why the signature is invalid."""
    status: int
    delay_ms: int
    """How long the response is held back."""
    headers: list[tuple[str, str]]
    bytes: int
    """Size of the body."""
    body: str
    """The first 65,536 characters."""

    def header(self, name: str) -> str:
        return dict(self.headers).get(name, "")


class ResponsePlan(msgspec.Struct, frozen=True):
    behaviour: Behaviour = "accept"
    left: int | None = None
    """The number of requests that it applies to. None: all, until it is reset."""

    def after_one(self) -> "ResponsePlan":
        """Return the plan for the requests after the next one."""
        if self.left is None:
            return self
        return ResponsePlan() if self.left == 1 else ResponsePlan(self.behaviour, self.left - 1)


class Inbox:
    """Keeps the last 100 requests, and checks their signatures with the secrets of the listeners that sent them."""

    def __init__(
        self, control: ControlContext, organization: int, *, example: str = "", slow_seconds: float = SLOW_SECONDS
    ) -> None:
        """`organization` is the row id of the organization whose listeners can send to the inbox.

        `example` is a shell command that publishes a message to it.
        """
        self.organization = organization
        self.example = example
        self.slow_seconds = slow_seconds
        self.plan = ResponsePlan()
        self._control = control
        self.received: deque[ReceivedRequest] = deque(maxlen=_REQUESTS_KEPT)
        """The requests that are kept, the newest first."""
        self.total = 0
        """The number of requests since the start."""
        self._changed = asyncio.Event()

    def respond_with(self, behaviour: str, times: int | None) -> None:
        """Respond to the next `times` requests in this way; None: to all, until the next call. Ends slow responses now.

        Raises Unprocessable for an unknown behaviour or a number out of bounds.
        """
        chosen = one_of(_BEHAVIOURS, behaviour, "/action")
        if times is not None and times not in TIMES:
            raise invalid("/times", out_of(TIMES))
        self.plan = ResponsePlan() if chosen == "accept" else ResponsePlan(chosen, times)
        self._changed.set()
        self._changed = asyncio.Event()

    async def receive(self, headers: Sequence[tuple[str, str]], body: bytes) -> ReceivedRequest:
        """Keep a request, and decide how to respond to it."""
        signature = await self._verify(dict(headers), body)
        behaviour, self.plan = self.plan.behaviour, self.plan.after_one()
        self.total += 1
        received = ReceivedRequest(
            self.total,
            self._control.clock.now(),
            signature,
            503 if behaviour == "fail" else 200,
            round(self.slow_seconds * 1_000) if behaviour == "slow" else 0,
            list(headers),
            len(body),
            body.decode(errors="backslashreplace")[:_CHARACTERS_KEPT],
        )
        self.received.appendleft(received)
        return received

    async def until_due(self, received: ReceivedRequest) -> None:
        # After the time, the request was slow enough.
        if received.delay_ms:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), received.delay_ms / 1_000)

    async def _verify(self, headers: dict[str, str], body: bytes) -> str:
        public_id = headers.get("discue-listener", "")
        listener = await self._control.store.read(lambda tx: listeners.get(tx, self.organization, public_id))
        if listener is None:
            return "not sent by a listener of this server"
        failure = "the listener has no secret"
        for secret in secrets_of(self._control, listener).signing:
            try:
                verify(signing_key_of(secret), headers, body, self._control.clock.now())
                return VERIFIED
            except SignatureInvalid as error:
                failure = str(error)
        return failure
