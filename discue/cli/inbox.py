"""The address `/inbox` of `discue dev`: receives requests, and lists them as JSON for scripts."""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from discue.api.resource import links_of
from discue.cli.delivery_lines import ShownDelivery
from discue.config.settings import Settings
from discue.dashboard.inbox import VERIFIED, Inbox, ReceivedRequest
from discue.domain.egress import literal_address
from discue.domain.errors import DiscueError, Forbidden, MethodNotAllowed, reason_phrase
from discue.domain.headers import INBOX_HEADER
from discue.http.body import BodyReader
from discue.http.frame import ICON, ICON_TYPE
from discue.http.pipeline import base_url
from discue.http.rsgi import Application, HttpHeaders, HttpProtocol, HttpScope

INBOX_PATH: Final = "/inbox"

_ICON_PATH: Final = "/favicon.ico"
_ICON_HEADERS: Final = (("content-type", ICON_TYPE), ("cache-control", "public, max-age=86400"))
_BODY_LIMIT: Final = 8_388_608
_BODY_SECONDS: Final = 30.0
_WAITING_BYTES: Final = 64 << 20
_ALLOWED: Final = ("GET", "HEAD", "POST")
_OWN_SITES: Final = frozenset({"none", "same-origin"})


def check_origin(scope: HttpScope, settings: Settings) -> None:
    """Raise Forbidden for requests that a page of another site makes in the developer's browser.

    The inbox needs no key, so a name that resolves to this machine (DNS rebinding) must not open it either.
    """
    headers = scope.headers
    host = urlsplit(base_url(scope, headers)).hostname or ""
    own = {"localhost", settings.host, urlsplit(settings.public_url or "").hostname}
    if literal_address(host) is None and host not in own:
        raise Forbidden(f"The host {host} is not this server. Use the address that discue dev prints.")
    origin = headers.get("origin")
    is_foreign = headers.get("sec-fetch-site", "none") not in _OWN_SITES
    if is_foreign or (origin is not None and origin != base_url(scope, headers)):
        raise Forbidden("Pages of other sites cannot use this page.")


class InboxEndpoint:
    """Handles requests to `/inbox`, and passes all others to the application.

    Browsers that show JSON ask for an icon, which it has, too.
    """

    def __init__(
        self,
        application: Application,
        inbox: Inbox,
        settings: Settings,
        show: Callable[[ReceivedRequest], None],
    ) -> None:
        self._application = application
        self._inbox = inbox
        self._settings = settings
        self._show = show
        self._bodies = BodyReader(deadline_seconds=_BODY_SECONDS, max_bytes=_WAITING_BYTES)

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        if scope.path == _ICON_PATH and scope.method == "GET":
            exchange.response_bytes(200, list(_ICON_HEADERS), ICON)
            return
        if scope.path != INBOX_PATH:
            await self._application.__rsgi__(scope, exchange)
            return
        status, headers = 200, [("content-type", "application/json"), (INBOX_HEADER, "true")]
        try:
            check_origin(scope, self._settings)
            status, content = await self._respond(scope, exchange)
        except DiscueError as error:
            status = error.status
            headers += [("allow", ", ".join(error.allow))] if error.allow else []
            content = _problem(status, error.detail)
        exchange.response_bytes(status, headers, content)

    async def _respond(self, scope: HttpScope, exchange: HttpProtocol) -> tuple[int, bytes]:
        if scope.method == "POST":
            return await self._receive(scope.headers, exchange)
        if scope.method not in _ALLOWED:
            raise MethodNotAllowed(allow=_ALLOWED)
        shown = [{**msgspec.to_builtins(each), "headers": dict(each.headers)} for each in self._inbox.received]
        links = links_of(base_url(scope, scope.headers) + INBOX_PATH)
        content = msgspec.json.encode({"received": shown, "_links": links})
        return 200, msgspec.json.format(content) if "pretty=true" in scope.query_string.split("&") else content

    async def _receive(self, headers: HttpHeaders, exchange: HttpProtocol) -> tuple[int, bytes]:
        received = await self._kept(headers, exchange)
        self._show(received)
        await self._inbox.until_due(received)
        if received.status == 200:
            return 200, b"{}"
        return received.status, _problem(received.status, "The inbox was asked to fail, on its page.")

    async def _kept(self, headers: HttpHeaders, exchange: HttpProtocol) -> ReceivedRequest:
        # Names are listed once, also of a header that was sent several times.
        pairs = [(name, value) for name in headers.keys() for value in headers.get_all(name)]  # noqa: SIM118
        try:
            body = await self._bodies.read(exchange, headers, _BODY_LIMIT, organization=self._inbox.organization)
            return await self._inbox.receive(pairs, body)
        finally:
            # Before the response, which may be slow: later bodies wait for the memory.
            self._bodies.release()


def _problem(status: int, detail: str) -> bytes:
    return msgspec.json.encode({"title": reason_phrase(status), "status": status, "detail": detail})


def delivery_of(received: ReceivedRequest) -> ShownDelivery:
    """Return what is shown of a request that the inbox received."""
    good = received.signature == VERIFIED
    result = "signature verified" if good else received.signature.rstrip(".")
    if received.status != 200:
        result += f", answered {received.status}"
    return ShownDelivery(
        received.received_at,
        received.header("discue-queue"),
        received.header("discue-listener"),
        result,
        good and received.status == 200,
        received.body,
        is_received=True,
    )
