"""`discue dev`: a server for a developer's machine, with a fixed key, a demo queue and an inbox."""

import dataclasses
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import uvloop

from discue import __version__
from discue.auth.control_plane_cache import KeyRejected
from discue.cli import inbox
from discue.cli.command import Commands, Invocation, add_command, say
from discue.cli.inbox import PATH, VERIFIED, ReceivedRequest
from discue.cli.serve import serving, until_stopped
from discue.config.settings import Settings
from discue.control import admin, listeners, queues
from discue.control.context import ControlContext
from discue.control.encryption import ensure_encryption
from discue.control.listeners import ListenerFields
from discue.control.organizations import ensure_operator
from discue.control.queues import QueueDetails, QueueFields
from discue.domain import api_key
from discue.domain.errors import SettingsInvalid
from discue.domain.scopes import Principal
from discue.server.http import Address, free_port
from discue.server.installation import Installation, open_installation
from discue.server.processes import all_predecessors, stop_on_signal
from discue.server.worker import Worker, alone_on, prepare_process
from discue.store.pagination import Selection

QUEUE_ALIAS = "demo"
LISTENER_ALIAS = "inbox"

_PER_PAGE = 100


class Targets(NamedTuple):
    """The URLs of the demo listener."""

    notify_url: str
    liveness_url: str


def kept_key(control: ControlContext, path: Path) -> str:
    """Return the key in the file, after creating the file if needed. Only its owner can read it."""
    if path.exists():
        text = path.read_text(encoding="ascii", errors="replace").strip()
        if api_key.parse(text) is not None:
            return text
    text = api_key.compose(control.public_ids.next(), api_key.new_secret(control.random_text))
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
    fresh.replace(path)
    return text


async def developer(control: ControlContext, key: str) -> Principal:
    """Return the principal of the key, which has every scope in the first organization. Creates both if needed."""
    organization, _ = await ensure_operator(control, control.settings.organization, key)
    try:
        return (await control.cache.authenticate(key)).principal
    except KeyRejected:
        # The database is older than the key, or the key was disabled or deleted.
        await admin.restore_key(control, organization, key)
    return (await control.cache.authenticate(key)).principal


async def ensure_demo(control: ControlContext, principal: Principal, targets: Targets) -> str:
    """Create the demo queue and listener if needed, and update the listener's URLs. Returns the id of the queue."""
    details = await _demo_queue(control, principal)
    queue = details.queue.public_id
    fields = ListenerFields(notify_url=targets.notify_url, liveness_url=targets.liveness_url)
    for listener in details.listeners:
        if listener.alias == LISTENER_ALIAS:
            await _update_urls(control, principal, (queue, listener.public_id), fields)
            return queue
    fields = ListenerFields(LISTENER_ALIAS, notify_url=targets.notify_url, liveness_url=targets.liveness_url)
    await listeners.create(control, principal, queue, fields)
    return queue


async def _demo_queue(control: ControlContext, principal: Principal) -> QueueDetails:
    selection = Selection(per_page=_PER_PAGE)
    while True:
        listing = await queues.page(control, principal, selection)
        for details in listing.items:
            if details.queue.alias == QUEUE_ALIAS:
                return details
        if not listing.has_next:
            return await queues.create(control, principal, QueueFields(QUEUE_ALIAS))
        selection = Selection(per_page=_PER_PAGE, after=listing.items[-1].queue.public_id)


async def _update_urls(
    control: ControlContext, principal: Principal, path: tuple[str, str], fields: ListenerFields
) -> None:
    """Update the URLs of the listener if they differ: the port may have changed since the last start."""
    listener = (await listeners.get(control, principal, *path)).listener
    if (listener.notify_url, listener.liveness_url) != (fields.notify_url, fields.liveness_url):
        await listeners.change(control, principal, *path, fields=fields)


_COLUMNS = 80
_SHOWN_CHARACTERS = 2_000
_INDENT = "  "


def welcome(url: str, key: str, queue: str, place: str) -> str:
    """Return the text shown at the start. Its commands work in any POSIX shell. `place` is where the data is stored."""
    return dedent(f"""
        discue {__version__} is ready at {url}
        Data is stored in {place}. Press Ctrl-C to stop.

        Publish a message to the queue {QUEUE_ALIAS}. Its listener, the inbox, shows it here:

        curl {url}/queues/{queue}/messages \\
          -H 'X-API-KEY: {key}' \\
          -H 'Content-Type: application/json' \\
          -d '{{"data": {{"hello": "world"}}}}'

        Read the inbox:

        curl '{url}{PATH}?pretty=true'

        Add a listener to the queue {QUEUE_ALIAS} (here the inbox, a second time):

        curl {url}/queues/{queue}/listeners \\
          -H 'X-API-KEY: {key}' \\
          -H 'Content-Type: application/json' \\
          -d '{{"notify_url": "{url}{PATH}",
               "liveness_url": "{url}/health/live"}}'

        Create a queue:

        curl {url}/queues \\
          -H 'X-API-KEY: {key}' \\
          -H 'Content-Type: application/json' \\
          -d '{{"alias": "orders"}}'
        """)


def receipt(received: ReceivedRequest) -> str:
    """Return the text shown for a request that the inbox received."""
    at = datetime.fromtimestamp(received.received_at / 1_000, UTC)
    good = received.signature == VERIFIED
    lines = [f"{at:%H:%M:%S} UTC  POST {PATH}, signature {'verified ✓' if good else 'NOT verified ✗'}"]
    lines += [] if good else [f"({received.signature})"]
    lines += [f"{name}: {value}" for name, value in received.headers]
    lines += ["", *_body_lines(received)]
    return "\n".join([*_wrapped(lines), ""])


def _body_lines(received: ReceivedRequest) -> list[str]:
    lines = received.body[:_SHOWN_CHARACTERS].split("\n")
    if len(received.body) > _SHOWN_CHARACTERS:
        lines.append(f"… {received.bytes} bytes in total")
    return lines


def _wrapped(lines: list[str]) -> Iterator[str]:
    """Yield lines that fit the terminal, with control characters escaped."""
    for number, line in enumerate(lines):
        text = (_INDENT if number else "") + "".join(map(_escaped, line))
        yield text[:_COLUMNS].rstrip()
        for start in range(_COLUMNS, len(text), _COLUMNS - 2 * len(_INDENT)):
            yield 2 * _INDENT + text[start : start + _COLUMNS - 2 * len(_INDENT)]


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


FOLDER = Path(".discue")
KEY_FILE = FOLDER / "key"
ENCRYPTION_KEY_FILE = FOLDER / "encryption_key"
BASE = {
    "database": f"sqlite:///{FOLDER}/discue.db",
    "allow_private_targets": "true",
    "attempt_details": "all",
    # The terminal belongs to the inbox.
    "log_level": "warning",
}

_PORTS_TRIED = 100
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to connect to, not to bind


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "dev",
        "dev",
        run,
        summary="run a development server, with an inbox that shows received messages",
        description="Stores data and a fixed API key in .discue in the working directory; with PostgreSQL, only the "
        "key. Prints curl commands to start with. Listeners can be on this machine. If the port is in use, the "
        "next free one is used.",
    )
    parser.set_defaults(base=BASE)


def run(invocation: Invocation) -> int:
    settings = _settings(invocation.settings)
    prepare_process()
    _make_folder()
    with alone_on(settings.database_path):
        uvloop.run(_develop(dataclasses.replace(invocation, settings=settings)))
    return 0


def _make_folder() -> None:
    """Create the folder with the key: only readable by its owner, and ignored by git."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n", encoding="ascii")


def _settings(settings: Settings) -> Settings:
    """Return the settings for development. Raises SettingsInvalid for TLS: the inbox cannot verify it."""
    if settings.has_tls:
        raise SettingsInvalid(
            "discue dev does not support TLS: remove the TLS settings, or use discue serve --tls-self-signed."
        )
    port = _next_free(settings.host, settings.port)
    if settings.port not in (0, port):
        say(f"Port {settings.port} is in use; using port {port}.")
    settings = dataclasses.replace(settings, port=port, role="all")
    if settings.database_path is None and not (settings.encryption_key or settings.encryption_key_file):
        return dataclasses.replace(settings, encryption_key_file=ENCRYPTION_KEY_FILE)
    return settings


def _own_encryption_key(settings: Settings) -> Path | None:
    """Return the key file to create for PostgreSQL. With SQLite, one is created next to the database."""
    return ENCRYPTION_KEY_FILE if settings.encryption_key_file == ENCRYPTION_KEY_FILE else None


def _next_free(host: str, wanted: int) -> int:
    """Return the port, or the next free one. Raises SettingsInvalid if none of 100 ports is free."""
    for port in range(wanted, min(wanted + _PORTS_TRIED, 65_535)):
        try:
            return free_port(Address(host, port))
        except SettingsInvalid:
            continue
    return free_port(Address(host, wanted))


async def _develop(invocation: Invocation) -> None:
    settings = invocation.settings
    stop = stop_on_signal(invocation.log)
    url = Address(_EVERYWHERE.get(settings.host, settings.host), settings.port).url
    async with open_installation(settings, invocation.clock, invocation.log) as installation:
        await ensure_encryption(
            installation.control, invocation.log, new_key_file=_own_encryption_key(invocation.settings)
        )
        key = settings.bootstrap_key or kept_key(installation.control, KEY_FILE)
        worker, queue = await _with_inbox(invocation, installation, key, url)
        async with serving(invocation, worker) as server:
            say(welcome(url, key, queue, str(settings.database_path or settings.database_shown)))
            await until_stopped(stop, server)
            say("Stopping.")


async def _with_inbox(invocation: Invocation, installation: Installation, key: str, url: str) -> tuple[Worker, str]:
    """Return the worker with the inbox, and the id of the demo queue."""
    control = installation.control
    principal = await developer(control, key)
    targets = Targets(notify_url=url + inbox.PATH, liveness_url=f"{url}/health/live")
    queue = await ensure_demo(control, principal, targets)
    worker = Worker(installation, invocation.log, predecessors=all_predecessors(invocation.settings))
    worker.application = inbox.Inbox(
        worker.application, control, principal.organization, lambda received: say(receipt(received))
    )
    return worker, queue
