"""`discue dev`: a server for a developer's machine, with a fixed key, a demo queue and an inbox."""

import dataclasses
import os
from ipaddress import IPv4Address
from pathlib import Path
from shlex import quote
from textwrap import dedent, indent
from typing import Final

import msgspec
import uvloop

from discue import __version__
from discue.auth.control_plane_cache import KeyRejected
from discue.cli.command import DEVELOPMENT_DATABASE, DEVELOPMENT_URL, Invocation, operator_command
from discue.cli.declarations import Command, switch
from discue.cli.health import HealthTarget, response_of
from discue.cli.inbox import INBOX_PATH, DeliveryLines, DevelopmentLog, InboxEndpoint, delivery_of
from discue.cli.output import say, say_json
from discue.cli.serve import serving, until_stopped
from discue.config.settings import Settings
from discue.config.types import is_loopback, reachable
from discue.control import api_keys, listeners, queues
from discue.control.context import ControlContext
from discue.control.encryption import ensure_encryption
from discue.control.listener_fields import ListenerFields
from discue.control.organizations import ensure_operator
from discue.control.queues import QueueFields
from discue.crypto.keyring import write_temporary
from discue.dashboard.inbox import Inbox
from discue.dashboard.users.sign_in import one_time_code
from discue.domain import api_key
from discue.domain.egress import literal_address
from discue.domain.errors import SettingsInvalid
from discue.domain.headers import INBOX_HEADER
from discue.domain.scopes import Principal
from discue.observability.span_export import traced
from discue.product import edge
from discue.server.http import Address, next_free_port
from discue.server.installation import egress_policy, open_installation
from discue.server.process import alone_on, prepare_process
from discue.server.processes import all_predecessors
from discue.server.signals import stop_on_signal
from discue.server.worker import Worker
from discue.store.pagination import Selection

_QUEUE_ALIAS: Final = "demo"
_LISTENER_ALIAS: Final = "inbox"
_ONCE: Final = "\n" + " " * 23 + "The link signs in once, within a minute. Restart for a new one."


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
        await api_keys.restore_key(control, organization, key)
    return (await control.cache.authenticate(key)).principal


def _refusal_of_inbox(settings: Settings) -> str:
    """Return a note if the settings forbid requests to the inbox, which is at a private address; "" if they do not."""
    host = reachable(settings.host)
    address = literal_address(host) or (IPv4Address("127.0.0.1") if is_loopback(host) else None)
    if address is None or egress_policy(settings).refusal(address) is None:
        return ""
    return (
        f"There is no inbox: it would be at the private address {host}, and\n"
        "`allow_private_targets` forbids requests to it. Remove that setting to\n"
        "get an inbox.\n"
    )


async def _ensure_demo(control: ControlContext, principal: Principal, url: str, *, with_listener: bool) -> None:
    """Create the demo queue and listener if needed, and update the listener's URLs."""
    found = (await queues.page(control, principal, Selection(alias=_QUEUE_ALIAS))).items
    details = found[0] if found else await queues.create(control, principal, QueueFields(_QUEUE_ALIAS))
    if not with_listener:
        return
    queue = details.queue.public_id
    fields = ListenerFields(notify_url=url + INBOX_PATH, liveness_url=f"{url}/health/live")
    for summary in details.listeners:
        if summary.alias == _LISTENER_ALIAS:
            path = (queue, summary.public_id)
            listener = (await listeners.get(control, principal, *path)).listener
            # The port may have changed since the last start.
            if (listener.notify_url, listener.liveness_url) != (fields.notify_url, fields.liveness_url):
                await listeners.change(control, principal, *path, fields=fields)
            return
    await listeners.create(control, principal, queue, msgspec.structs.replace(fields, alias=_LISTENER_ALIAS))


def _publish_command(url: str, key_header: str) -> str:
    """Return a command that publishes to the demo queue. `key_header` is an argument of a shell."""
    return dedent(f"""\
        curl {url}/queues/{_QUEUE_ALIAS}/messages \\
          -H {key_header} \\
          -H 'Content-Type: application/json' \\
          -d '{{"data": {{"hello": "world"}}}}'""")


def _key_header(settings: Settings) -> str:
    """Return the header with the API key as an argument of a shell, without the key: pages must not show it."""
    if settings.bootstrap_key:
        return "'X-API-KEY: …'"
    return f'"X-API-KEY: $(cat {quote(str((_FOLDER / "key").resolve()))})"'


def _welcome(url: str, key: str, place: str, dashboard: str, *, has_inbox: bool) -> str:
    """Return the text shown at the start. Its commands work in any POSIX shell. `place` is where the data is stored.

    `dashboard` is a link to it; "" if it is turned off.
    """
    publish = indent(_publish_command(url, f"'X-API-KEY: {key}'"), " " * 8).strip()
    headers = f"-H 'X-API-KEY: {key}' \\\n          -H 'Content-Type: application/json'"
    links = f"""
        Dashboard:     {dashboard or "turned off"}{_ONCE if dashboard else ""}
        Documentation: {url}/docs
        Quickstart:    {url}/docs/quickstart
        """
    start = f"""
        Publish a message to the queue {_QUEUE_ALIAS}:

        {publish}
        """
    if has_inbox:
        links += f"""Inbox:         {url}{INBOX_PATH}?pretty=true
        """
        start = f"""
        Publish a message to the queue {_QUEUE_ALIAS}. Its listener, the inbox, shows it here:

        {publish}

        Read the inbox:

        curl '{url}{INBOX_PATH}?pretty=true'

        Add a listener to the queue {_QUEUE_ALIAS} (here the inbox, a second time):

        curl {url}/queues/{_QUEUE_ALIAS}/listeners \\
          {headers} \\
          -d '{{"notify_url": "{url}{INBOX_PATH}",
               "liveness_url": "{url}/health/live"}}'
        """
    return dedent(f"""
        discue {__version__} is ready at {url}
        Data is stored in {place}. Press Ctrl-C to stop.
        {links}{start}
        Create a queue:

        curl {url}/queues \\
          {headers} \\
          -d '{{"alias": "orders"}}'
        """)


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


def command() -> Command:
    return operator_command(
        "dev",
        run,
        switch(
            "--ephemeral",
            "Serve a new database that is deleted at the end, with a clock that requests can move: for tests.",
        ),
        switch("--json", "With --ephemeral: print URL and key as one line of JSON when ready."),
        description="Stores data and a fixed API key in .discue in the working directory; with PostgreSQL, only the "
        "key. Prints links, curl commands to start with, and a line for each delivery. Listeners can be on this "
        "machine. If the port is in use, the next free one is used. .discue/url contains the URL.",
        base=BASE,
    )


def run(invocation: Invocation) -> None:
    arguments = invocation.arguments
    if arguments.json and not arguments.ephemeral:
        arguments.parser.error("--json needs --ephemeral")
    if arguments.ephemeral and invocation.settings.database != BASE["database"]:
        arguments.parser.error("--ephemeral has a database of its own; leave out the setting `database`")
    require_cleartext(invocation.settings)
    if arguments.ephemeral:
        prepare_process()
        uvloop.run(_serve_ephemeral(invocation))
        return
    wanted = invocation.settings
    with next_free_port(Address(wanted.host, wanted.port)) as port:
        _run(dataclasses.replace(invocation, settings=_settings(wanted, port)), wanted)


def _run(invocation: Invocation, wanted: Settings) -> None:
    settings = invocation.settings
    prepare_process()
    # The folder has the key: only its owner may read it, and git ignores it.
    if _FOLDER.is_symlink():
        raise SettingsInvalid(f"{_FOLDER} is a symbolic link. Remove it, or start discue dev in another folder.")
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    # Replaced, not written to: a repository of others may contain a link in its place.
    ignored = _FOLDER / ".gitignore"
    write_temporary(ignored, "*\n").replace(ignored)
    with alone_on(settings.database_path):
        DEVELOPMENT_URL.unlink(missing_ok=True)
        # Only now: another `discue dev` in this folder has the port, and is the reason why this one ends.
        if wanted.port not in (0, settings.port):
            say(f"Port {wanted.port} is taken by {_holder(wanted)}: this server uses port {settings.port}.")
            say(f"Its URL is in {DEVELOPMENT_URL}.")
        uvloop.run(_develop(invocation))


def require_cleartext(settings: Settings) -> None:
    """Raise SettingsInvalid for TLS: the inbox cannot verify it."""
    if settings.has_tls:
        raise SettingsInvalid(
            "discue dev does not support TLS: remove the TLS settings, or use discue serve --tls-self-signed."
        )


def _settings(settings: Settings, port: int) -> Settings:
    """Return the settings for development, at a port."""
    settings = dataclasses.replace(settings, port=port, role="all", dashboard_port=None)
    if settings.database_path is None and not (settings.encryption_key or settings.encryption_key_file):
        return dataclasses.replace(settings, encryption_key_file=_ENCRYPTION_KEY_FILE)
    return settings


def _holder(settings: Settings) -> str:
    """Return which program listens at the address of the settings. `discue dev` is recognized by its inbox."""
    try:
        head, _ = response_of(HealthTarget(reachable(settings.host), settings.port, has_tls=False), INBOX_PATH)
    except OSError:
        # Another protocol, or no response in time.
        head = b""
    return "another `discue dev`" if INBOX_HEADER.encode() in head.lower() else "another program"


async def _serve_ephemeral(invocation: Invocation) -> None:
    """Serve a new database until a signal arrives, for tests of programs in any language."""
    # Imported here: other commands do without it.
    from discue.testing.ephemeral import ephemeral  # noqa: PLC0415

    stop = stop_on_signal(invocation.log)
    async with ephemeral(invocation.settings, invocation.log) as server:
        if invocation.arguments.json:
            say_json({"url": server.url, "api_key": server.key})
        else:
            say(f"discue {__version__} is ready at {server.url} with the API key {server.key}. Press Ctrl-C to stop.")
        await until_stopped(stop, server.ended())


async def _develop(invocation: Invocation) -> None:
    settings, log = invocation.settings, invocation.log
    stop = stop_on_signal(log)
    url = Address(reachable(settings.host), settings.port).url
    refusal = _refusal_of_inbox(settings)
    # With SQLite, the key file is next to the database, and created by default.
    new_key_file = _ENCRYPTION_KEY_FILE if settings.encryption_key_file == _ENCRYPTION_KEY_FILE else None
    async with (
        open_installation(settings, invocation.clock, log) as control,
        traced(os.environ, log, control.clock, control.random_bytes) as tracer,
    ):
        await ensure_encryption(control, log, new_key_file=new_key_file)
        key = settings.bootstrap_key or _kept_key(control, _FOLDER / "key")
        principal = await _developer(control, key)
        await _ensure_demo(control, principal, url, with_listener=not refusal)
        lines = DeliveryLines(control, principal.organization, url + INBOX_PATH, log)
        worker_log = DevelopmentLog(lines.add, control.clock.now)
        inbox: Inbox | None = None
        if not refusal:
            inbox = Inbox(control, principal.organization, example=_publish_command(url, _key_header(settings)))
        worker = Worker(control, worker_log, edge(inbox=inbox), predecessors=all_predecessors(settings), tracer=tracer)
        if inbox is not None:
            worker.application = InboxEndpoint(
                worker.application, inbox, settings, lambda received: lines.add(delivery_of(received))
            )
        async with serving(invocation, worker) as server:
            # Other commands in this directory find the server by it.
            write_temporary(DEVELOPMENT_URL, url + "\n").replace(DEVELOPMENT_URL)
            dashboard = ""
            if settings.dashboard:
                # The link signs in once, within a minute; who comes later signs in as a user.
                dashboard = f"{url}/dashboard/open?code={await one_time_code(control, principal.organization)}"
            place = str(settings.database_path or settings.database_shown)
            say(_welcome(url, key, place, dashboard, has_inbox=not refusal))
            if refusal:
                say(refusal)
            await until_stopped(stop, server.ended())
            say("Stopping.")
