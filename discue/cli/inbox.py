"""The inbox of `discue dev`: a built-in endpoint that shows the requests it receives."""

from collections import deque
from collections.abc import Callable

import msgspec

from discue.api.body import BodyReader
from discue.api.rsgi import Application, HttpHeaders, HttpProtocol, HttpScope
from discue.api.structs import base_url, link_to
from discue.control.context import ControlContext
from discue.control.encryption import opened
from discue.crypto.signatures import SignatureInvalid, verify
from discue.domain.errors import DiscueError, MethodNotAllowed, reason_phrase
from discue.domain.model import Listener
from discue.store import listeners

PATH = "/inbox"
KEPT = 100
VERIFIED = "verified"

_BODY_LIMIT = 8_388_608
_BODY_SECONDS = 30.0
_WAITING_BYTES = 64 << 20
_KEPT_CHARACTERS = 65_536
_ALLOWED = ("GET", "HEAD", "POST")
_JSON = [("content-type", "application/json")]


class ReceivedRequest(msgspec.Struct, frozen=True):
    """A received request."""

    received_at: int
    """Milliseconds since the epoch."""
    signature: str
    """"verified", or why the signature is invalid."""
    headers: list[tuple[str, str]]
    bytes: int
    """Size of the body."""
    body: str
    """The first 65,536 characters."""


Show = Callable[[ReceivedRequest], None]


class Inbox:
    """Handles requests to `/inbox`, and passes all others to the application."""

    def __init__(self, application: Application, control: ControlContext, organization: int, show: Show) -> None:
        """`organization` is the row id of the organization whose listeners can send to the inbox."""
        self._application = application
        self._control = control
        self._organization = organization
        self._show = show
        self._received: deque[ReceivedRequest] = deque(maxlen=KEPT)
        self._bodies = BodyReader(deadline_seconds=_BODY_SECONDS, max_bytes=_WAITING_BYTES)

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        if scope.path != PATH:
            await self._application.__rsgi__(scope, exchange)
            return
        status, headers = 200, list(_JSON)
        try:
            content = await self._respond(scope, exchange)
        except DiscueError as error:
            status = error.status
            headers += [("allow", ", ".join(error.allow))] if error.allow else []
            content = msgspec.json.encode({"title": reason_phrase(status), "status": status, "detail": error.detail})
        exchange.response_bytes(status, headers, content)

    async def _respond(self, scope: HttpScope, exchange: HttpProtocol) -> bytes:
        if scope.method == "POST":
            await self._receive(scope.headers, exchange)
            return b"{}"
        if scope.method not in _ALLOWED:
            raise MethodNotAllowed(allow=_ALLOWED)
        shown = [_shown(received) for received in reversed(self._received)]
        links = link_to(base_url(scope, scope.headers) + PATH)
        content = msgspec.json.encode({"received": shown, "_links": links})
        return msgspec.json.format(content) if "pretty=true" in scope.query_string.split("&") else content

    async def _receive(self, headers: HttpHeaders, exchange: HttpProtocol) -> None:
        body = await self._bodies.read(exchange, headers, _BODY_LIMIT)
        lines = list(zip(headers.keys(), headers.values(), strict=True))
        signature = await self._verify(dict(lines), body)
        text = body.decode(errors="backslashreplace")[:_KEPT_CHARACTERS]
        received = ReceivedRequest(self._control.clock.now(), signature, lines, len(body), text)
        self._received.append(received)
        self._show(received)

    async def _verify(self, headers: dict[str, str], body: bytes) -> str:
        listener = await self._listener(headers.get("discue-listener", ""))
        if listener is None:
            return "not sent by a listener of this server"
        failure = "the listener has no secret"
        for secret in opened(self._control, listener):
            try:
                verify(secret.text, headers, body, self._control.clock.now())
                return VERIFIED
            except SignatureInvalid as error:
                failure = str(error)
        return failure

    async def _listener(self, public_id: str) -> Listener | None:
        return await self._control.store.read(lambda tx: listeners.get(tx, self._organization, public_id))


def _shown(received: ReceivedRequest) -> dict[str, object]:
    return {**msgspec.to_builtins(received), "headers": dict(received.headers)}
