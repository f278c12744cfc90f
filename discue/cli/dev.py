"""`discue dev`: a server for a developer's machine, with a fixed key, a demo queue and an inbox."""

import dataclasses
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Final
from urllib.parse import urlsplit

import msgspec
import uvloop

from discue import __version__
from discue.api.guides.layout import ICON, ICON_TYPE
from discue.api.structs import links_of
from discue.auth.control_plane_cache import KeyRejected
from discue.cli import ephemeral
from discue.cli.command import DEVELOPMENT_DATABASE, Invocation, add_command
from discue.cli.delivery_lines import DeliveryLines, DevelopmentLog, ShownDelivery
from discue.cli.output import say
from discue.cli.serve import serving, until_stopped
from discue.cli.verbs import Commands
from discue.config.settings import Settings, reachable
from discue.control import admin, listeners, queues
from discue.control.context import ControlContext
from discue.control.encryption import ensure_encryption, opened
from discue.control.listeners import ListenerFields
from discue.control.organizations import ensure_operator
from discue.control.queues import QueueFields
from discue.control.sign_in import one_time_code
from discue.crypto.key_file import write_temporary
from discue.crypto.signing import SignatureInvalid, signing_key_of, verify
from discue.domain import api_key
from discue.domain.egress import literal_address
from discue.domain.errors import DiscueError, Forbidden, MethodNotAllowed, SettingsInvalid, reason_phrase
from discue.domain.headers import INBOX_HEADER
from discue.domain.scopes import Principal
from discue.http.admission import base_url
from discue.http.body import BodyReader
from discue.http.rsgi import Application, HttpHeaders, HttpProtocol, HttpScope
from discue.server.http import Address, free_port
from discue.server.installation import open_installation
from discue.server.processes import all_predecessors, stop_on_signal
from discue.server.tracing import traced
from discue.server.worker import Worker, alone_on, prepare_process
from discue.store import listeners as listener_rows
from discue.store.pagination import Selection

_QUEUE_ALIAS: Final = "demo"
_LISTENER_ALIAS: Final = "inbox"
_INBOX_PATH: Final = "/inbox"
_ICON_PATH: Final = "/favicon.ico"
_ICON_HEADERS: Final = (("content-type", ICON_TYPE), ("cache-control", "public, max-age=86400"))


def _kept_key(control: ControlContext, path: Path) -> str:
    """Return the key in the file, after creating the file if needed. Only its owner can read it."""
    if path.exists():
        text = path.read_text(encoding="ascii", errors="replace").strip()
        if api_key.parse(text) is not None:
            return text
    text = api_key.compose(control.public_ids.next(), api_key.new_secret(control.random_text))
    # Replaced in one step: a start that is killed must not leave half a key.
    write_temporary(path, text + "\n").replace(path)
    return text


async def _developer(control: ControlContext, key: str) -> Principal:
    """Return the principal of the key, which has every scope in the first organization. Creates both if needed."""
    organization, _ = await ensure_operator(control, control.settings.organization, key)
    try:
        return (await control.cache.authenticate(key)).principal
    except KeyRejected:
        # The database is older than the key, or the key was disabled or deleted.
        await admin.restore_key(control, organization, key)
    return (await control.cache.authenticate(key)).principal


async def _ensure_demo(control: ControlContext, principal: Principal, url: str) -> None:
    """Create the demo queue and listener if needed, and update the listener's URLs."""
    found = (await queues.page(control, principal, Selection(alias=_QUEUE_ALIAS))).items
    details = found[0] if found else await queues.create(control, principal, QueueFields(_QUEUE_ALIAS))
    queue = details.queue.public_id
    fields = ListenerFields(notify_url=url + _INBOX_PATH, liveness_url=f"{url}/health/live")
    for summary in details.listeners:
        if summary.alias == _LISTENER_ALIAS:
            path = (queue, summary.public_id)
            listener = (await listeners.get(control, principal, *path)).listener
            # The port may have changed since the last start.
            if (listener.notify_url, listener.liveness_url) != (fields.notify_url, fields.liveness_url):
                await listeners.change(control, principal, *path, fields=fields)
            return
    await listeners.create(control, principal, queue, msgspec.structs.replace(fields, alias=_LISTENER_ALIAS))


VERIFIED: Final = "verified"

_REQUESTS_KEPT: Final = 100
_BODY_LIMIT: Final = 8_388_608
_BODY_SECONDS: Final = 30.0
_WAITING_BYTES: Final = 64 << 20
_CHARACTERS_KEPT: Final = 65_536
_ALLOWED: Final = ("GET", "HEAD", "POST")
_OWN_SITES: Final = frozenset({"none", "same-origin"})


def check_origin(scope: HttpScope, settings: Settings) -> None:
    """Raise Forbidden for requests that a page of another site makes in the developer's browser.

    The pages need no key, so a name that resolves to this machine (DNS rebinding) must not open them either.
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


class ReceivedRequest(msgspec.Struct, frozen=True):
    """A request that the inbox received."""

    received_at: int
    """Milliseconds since the epoch."""
    signature: str
    """"verified", or why the signature is invalid."""
    headers: list[tuple[str, str]]
    bytes: int
    """Size of the body."""
    body: str
    """The first 65,536 characters."""


class Inbox:
    """Handles requests to `/inbox`, and passes all others to the application.

    Browsers that show JSON ask for an icon, which it has, too.
    """

    def __init__(
        self,
        application: Application,
        control: ControlContext,
        organization: int,
        show: Callable[[ReceivedRequest], None],
    ) -> None:
        """`organization` is the row id of the organization whose listeners can send to the inbox."""
        self._application = application
        self._control = control
        self._organization = organization
        self._show = show
        self._received: deque[ReceivedRequest] = deque(maxlen=_REQUESTS_KEPT)
        self._bodies = BodyReader(deadline_seconds=_BODY_SECONDS, max_bytes=_WAITING_BYTES)

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        if scope.path == _ICON_PATH and scope.method == "GET":
            exchange.response_bytes(200, list(_ICON_HEADERS), ICON)
            return
        if scope.path != _INBOX_PATH:
            await self._application.__rsgi__(scope, exchange)
            return
        status, headers = 200, [("content-type", "application/json"), (INBOX_HEADER, "true")]
        try:
            check_origin(scope, self._control.settings)
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
        shown = [{**msgspec.to_builtins(each), "headers": dict(each.headers)} for each in reversed(self._received)]
        links = links_of(base_url(scope, scope.headers) + _INBOX_PATH)
        content = msgspec.json.encode({"received": shown, "_links": links})
        return msgspec.json.format(content) if "pretty=true" in scope.query_string.split("&") else content

    async def _receive(self, headers: HttpHeaders, exchange: HttpProtocol) -> None:
        body = await self._bodies.read(exchange, headers, _BODY_LIMIT, organization=self._organization)
        lines = list(zip(headers.keys(), headers.values(), strict=True))
        signature = await self._verify(dict(lines), body)
        text = body.decode(errors="backslashreplace")[:_CHARACTERS_KEPT]
        received = ReceivedRequest(self._control.clock.now(), signature, lines, len(body), text)
        self._received.append(received)
        self._show(received)

    async def _verify(self, headers: dict[str, str], body: bytes) -> str:
        public_id = headers.get("discue-listener", "")
        listener = await self._control.store.read(lambda tx: listener_rows.get(tx, self._organization, public_id))
        if listener is None:
            return "not sent by a listener of this server"
        failure = "the listener has no secret"
        for secret in opened(self._control, listener):
            try:
                verify(signing_key_of(secret), headers, body, self._control.clock.now())
                return VERIFIED
            except SignatureInvalid as error:
                failure = str(error)
        return failure


def _welcome(url: str, key: str, place: str, dashboard: str) -> str:
    """Return the text shown at the start. Its commands work in any POSIX shell. `place` is where the data is stored.

    `dashboard` is a link to it; "" if it is turned off.
    """
    return dedent(f"""
        discue {__version__} is ready at {url}
        Data is stored in {place}. Press Ctrl-C to stop.

        Dashboard:     {dashboard or "turned off"}
        Documentation: {url}/docs
        Quickstart:    {url}/docs/quickstart
        Inbox:         {url}{_INBOX_PATH}?pretty=true

        Publish a message to the queue {_QUEUE_ALIAS}. Its listener, the inbox, shows it here:

        curl {url}/queues/{_QUEUE_ALIAS}/messages \\
          -H 'X-API-KEY: {key}' \\
          -H 'Content-Type: application/json' \\
          -d '{{"data": {{"hello": "world"}}}}'

        Read the inbox:

        curl '{url}{_INBOX_PATH}?pretty=true'

        Add a listener to the queue {_QUEUE_ALIAS} (here the inbox, a second time):

        curl {url}/queues/{_QUEUE_ALIAS}/listeners \\
          -H 'X-API-KEY: {key}' \\
          -H 'Content-Type: application/json' \\
          -d '{{"notify_url": "{url}{_INBOX_PATH}",
               "liveness_url": "{url}/health/live"}}'

        Create a queue:

        curl {url}/queues \\
          -H 'X-API-KEY: {key}' \\
          -H 'Content-Type: application/json' \\
          -d '{{"alias": "orders"}}'
        """)


def delivery_of(received: ReceivedRequest) -> ShownDelivery:
    """Return what is shown of a request that the inbox received."""
    headers, good = dict(received.headers), received.signature == VERIFIED
    return ShownDelivery(
        received.received_at,
        headers.get("discue-queue", ""),
        headers.get("discue-listener", ""),
        "signature verified" if good else received.signature.rstrip("."),
        good,
        received.body,
        is_received=True,
    )


_FOLDER: Final = DEVELOPMENT_DATABASE.parent
_ENCRYPTION_KEY_FILE: Final = _FOLDER / "encryption_key"
BASE: Final = {
    "database": f"sqlite:///{DEVELOPMENT_DATABASE}",
    "allow_private_targets": "true",
    "show_private_responses": "true",
    "attempt_details": "all",
    "rate_limit": "0",
    # The terminal belongs to deliveries.
    "log_level": "warning",
}

_PORTS_TRIED: Final = 100


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "dev",
        run,
        summary="run a development server, with an inbox that shows received messages",
        description="Stores data and a fixed API key in .discue in the working directory; with PostgreSQL, only the "
        "key. Prints links, curl commands to start with, and a line for each delivery. Listeners can be on this "
        "machine. If the port is in use, the next free one is used.",
        base=BASE,
    )
    parser.add_argument(
        "--ephemeral",
        action="store_true",
        help="Serve a new database that is deleted at the end, with a clock that requests can move: for tests.",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="With --ephemeral: print URL and key as one line of JSON when ready.",
    )


def run(invocation: Invocation) -> None:
    arguments = invocation.arguments
    if arguments.json and not arguments.ephemeral:
        arguments.parser.error("--json needs --ephemeral")
    if arguments.ephemeral and invocation.settings.database != BASE["database"]:
        arguments.parser.error("--ephemeral has a database of its own; leave out the setting `database`")
    require_cleartext(invocation.settings)
    if arguments.ephemeral:
        ephemeral.run(invocation)
        return
    settings = _settings(invocation.settings)
    prepare_process()
    # The folder has the key: only its owner may read it, and git ignores it.
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    (_FOLDER / ".gitignore").write_text("*\n", encoding="ascii")
    with alone_on(settings.database_path):
        # Only now: another `discue dev` in this folder has the port, and is the reason why this one ends.
        if invocation.settings.port not in (0, settings.port):
            say(f"Port {invocation.settings.port} is in use; using port {settings.port}.")
        uvloop.run(_develop(dataclasses.replace(invocation, settings=settings)))


def require_cleartext(settings: Settings) -> None:
    """Raise SettingsInvalid for TLS: the inbox cannot verify it."""
    if settings.has_tls:
        raise SettingsInvalid(
            "discue dev does not support TLS: remove the TLS settings, or use discue serve --tls-self-signed."
        )


def _settings(settings: Settings) -> Settings:
    """Return the settings for development, with a port that is free."""
    settings = dataclasses.replace(settings, port=_next_free(settings.host, settings.port), role="all")
    if settings.database_path is None and not (settings.encryption_key or settings.encryption_key_file):
        return dataclasses.replace(settings, encryption_key_file=_ENCRYPTION_KEY_FILE)
    return settings


def _next_free(host: str, wanted: int) -> int:
    """Return the port, or the next free one. Raises SettingsInvalid if none of 100 ports is free."""
    for port in range(wanted, min(wanted + _PORTS_TRIED, 65_535)):
        try:
            return free_port(Address(host, port))
        except SettingsInvalid:
            continue
    return free_port(Address(host, wanted))


async def _develop(invocation: Invocation) -> None:
    settings, log = invocation.settings, invocation.log
    stop = stop_on_signal(log)
    url = Address(reachable(settings.host), settings.port).url
    # With SQLite, the key file is next to the database, and created by default.
    new_key_file = _ENCRYPTION_KEY_FILE if settings.encryption_key_file == _ENCRYPTION_KEY_FILE else None
    async with (
        open_installation(settings, invocation.clock, log) as control,
        traced(os.environ, control, log) as tracer,
    ):
        await ensure_encryption(control, log, new_key_file=new_key_file)
        key = settings.bootstrap_key or _kept_key(control, _FOLDER / "key")
        principal = await _developer(control, key)
        await _ensure_demo(control, principal, url)
        lines = DeliveryLines(control, principal.organization, url + _INBOX_PATH, log)
        worker_log = DevelopmentLog(lines.add, control.clock.now)
        worker = Worker(control, worker_log, predecessors=all_predecessors(settings), tracer=tracer)
        worker.application = Inbox(
            worker.application, control, principal.organization, lambda received: lines.add(delivery_of(received))
        )
        async with serving(invocation, worker) as server:
            # Other commands in this directory find the server by it.
            write_temporary(_FOLDER / "url", url + "\n").replace(_FOLDER / "url")
            dashboard = ""
            if settings.dashboard:
                # The link signs in once, within a minute; who comes later signs in as a user.
                dashboard = f"{url}/dashboard/open?code={await one_time_code(control, principal.organization)}"
            say(_welcome(url, key, str(settings.database_path or settings.database_shown), dashboard))
            await until_stopped(stop, server)
            say("Stopping.")
