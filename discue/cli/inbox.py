"""Deliveries that `discue dev` shows: the path `/inbox`, and a line for each request to it and for each attempt."""

import shutil
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from discue.api.resource import links_of
from discue.cli.output import DIM, GREEN, PLAIN, RED, clock_time, has_colour, printable, say
from discue.config.settings import Settings
from discue.control.context import ControlContext
from discue.dashboard.inbox import VERIFIED, Inbox, ReceivedRequest
from discue.domain.egress import literal_address
from discue.domain.errors import DiscueError, Forbidden, MethodNotAllowed, reason_phrase
from discue.domain.headers import INBOX_HEADER
from discue.http.body import BodyReader
from discue.http.pipeline import base_url
from discue.http.rsgi import Application, HttpHeaders, HttpProtocol, HttpScope
from discue.observability.logs import Log
from discue.observability.supervisor import BackgroundTasks
from discue.store import listeners, queues
from discue.store.engine import Transaction

INBOX_PATH: Final = "/inbox"

_BODY_LIMIT: Final = 8_388_608
_BODY_SECONDS: Final = 30.0
_WAITING_BYTES: Final = 64 << 20
_ALLOWED: Final = ("GET", "HEAD", "POST")
_OWN_SITES: Final = frozenset({"none", "same-origin"})
_WAITING: Final = 10_000
_COLUMNS: Final = 80
_FEWEST_COLUMNS: Final = 40


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
    """Handles requests to `/inbox`, and passes all others to the application."""

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
        # Names are listed once, also of a header that was sent several times.
        pairs = [(name, value) for name in headers.keys() for value in headers.get_all(name)]  # noqa: SIM118
        try:
            body = await self._bodies.read(exchange, headers, _BODY_LIMIT, organization=self._inbox.organization)
            received = await self._inbox.receive(pairs, body)
        finally:
            # Before the response, which may be slow: later bodies wait for the memory.
            self._bodies.release()
        self._show(received)
        await self._inbox.until_due(received)
        if received.status == 200:
            return 200, b"{}"
        return received.status, _problem(received.status, "The inbox was asked to fail, on its page.")


def _problem(status: int, detail: str) -> bytes:
    return msgspec.json.encode({"title": reason_phrase(status), "status": status, "detail": detail})


class ShownDelivery(NamedTuple):
    """A request of a listener, as it is shown."""

    at: int
    """Milliseconds since the epoch."""
    queue_id: str
    listener_id: str
    """"" if no listener of this server sent it."""
    result: str
    is_good: bool
    rest: str
    is_received: bool = False
    """Whether the inbox reports it: it also shows the data."""


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


def line_of(delivery: ShownDelivery, names: str, *, columns: int = _COLUMNS, is_coloured: bool = False) -> str:
    """Return the line of a delivery, without control characters but colours.

    Data is cut off where it would not fit the terminal. The reason of a failure and the id of its message are not cut:
    the developer needs both to find the cause.
    """
    time = clock_time(delivery.at / 1_000)
    result = printable(f"{delivery.result} {'✓' if delivery.is_good else '✗'}")
    start = printable(f"{names}, ")
    room = max(columns, _FEWEST_COLUMNS) - len(time) - 1 - len(start) - len(result) - 2
    rest = printable(delivery.rest[: columns + 1] if delivery.is_received else delivery.rest)
    if delivery.is_received and len(rest) > room:
        rest = rest[: max(room - 1, 0)] + "…"
    if is_coloured:
        time, result = f"{DIM}{time}{PLAIN}", f"{GREEN if delivery.is_good else RED}{result}{PLAIN}"
    return f"{time} {start}{result}  {rest}".rstrip()


class DeliveryLines:
    """Prints deliveries of one organization with the names of their queue and listener, in order."""

    def __init__(self, control: ControlContext, organization: int, inbox_url: str, log: Log) -> None:
        self._control = control
        self._organization = organization
        self._inbox_url = inbox_url
        self._is_coloured = has_colour(sys.stdout)
        self._tasks = BackgroundTasks(log, "delivery_not_shown")
        self._is_busy = False
        self._waiting: deque[ShownDelivery] = deque(maxlen=_WAITING)

    def add(self, delivery: ShownDelivery) -> None:
        """Print a delivery as soon as its names are known."""
        self._waiting.append(delivery)
        if not self._is_busy:
            self._is_busy = True
            self._tasks.spawn(self._show())

    async def _show(self) -> None:
        try:
            while self._waiting:
                delivery = self._waiting.popleft()
                names = await self._control.store.read(partial(self._names, delivery=delivery))
                if names is not None:
                    columns = shutil.get_terminal_size((_COLUMNS, 0)).columns if self._is_coloured else _COLUMNS
                    say(line_of(delivery, names, columns=columns, is_coloured=self._is_coloured))
        finally:
            self._is_busy = False

    async def _names(self, tx: Transaction, delivery: ShownDelivery) -> str | None:
        """Return the names of queue and listener; None for what the inbox reports already."""
        listener = await listeners.get(tx, self._organization, delivery.listener_id)
        queue = await queues.get(tx, self._organization, delivery.queue_id)
        if listener is not None and listener.notify_url == self._inbox_url and delivery.is_good:
            if not delivery.is_received:
                return None
        elif listener is None and delivery.is_received:
            return "POST /inbox"
        shown = delivery.queue_id if queue is None else queue.alias
        return f"{shown} → {delivery.listener_id if listener is None else listener.alias}"


class DevelopmentLog(Log):
    """A log that prints attempts instead of writing them."""

    def __init__(self, show: Callable[[ShownDelivery], None], now: Callable[[], int]) -> None:
        super().__init__()
        self._show = show
        self._now = now

    @property
    def is_debug(self) -> bool:
        return True

    def debug(self, event: str, /, **fields: object) -> None:
        if event == "attempt":
            self._show_attempt(fields, f"{fields['status']} in {fields['took_ms']} ms", is_good=True)

    def warning(self, event: str, /, **fields: object) -> None:
        if event != "attempt":
            super().warning(event, **fields)
        else:
            self._show_attempt(fields, f"attempt {fields['number']} failed", is_good=False)

    def _show_attempt(self, fields: dict[str, object], result: str, *, is_good: bool) -> None:
        rest = f"{fields.get('detail', '')} {fields['message']}".strip()
        self._show(ShownDelivery(self._now(), str(fields["queue"]), str(fields["listener"]), result, is_good, rest))
