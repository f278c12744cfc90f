"""`discue dev`: for a developer's machine."""

import dataclasses
from pathlib import Path

import uvloop

from discue.cli import demo, inbox, terminal
from discue.cli.demo import Targets
from discue.cli.encryption import establish
from discue.cli.invocation import Commands, Invocation, add_command, say
from discue.cli.serve import until_stopped
from discue.cli.serving import serving
from discue.config.settings import Settings
from discue.domain.errors import SettingsInvalid
from discue.server.http import Address, free_port
from discue.server.installation import Installation, opened
from discue.server.signals import stop_asked
from discue.server.worker import Worker, alone_on, prepare_process
from discue.server.worker_pipe import all_before

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
        summary="run everything on a developer's machine, with an inbox that shows what arrives",
        description="Data and a key that stays the same are kept in .discue, in the working directory; with a database "
        "of PostgreSQL, only the key. Prints curl commands to begin with. Listeners may be on this machine. If the "
        "port is taken, the next free one is used.",
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
    """It holds a key: nobody else on this machine reads it, and no version control takes it along."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n", encoding="ascii")


def _settings(settings: Settings) -> Settings:
    """Raises SettingsInvalid for TLS: the inbox would have to trust the certificate."""
    if settings.has_tls:
        raise SettingsInvalid("discue dev serves cleartext: leave TLS out, or use discue serve --tls-self-signed.")
    port = _next_free(settings.host, settings.port)
    if settings.port not in (0, port):
        say(f"Port {settings.port} is taken; this is port {port}.")
    settings = dataclasses.replace(settings, port=port, role="all")
    if settings.database_path is None and not (settings.encryption_key or settings.encryption_key_file):
        return dataclasses.replace(settings, encryption_key_file=ENCRYPTION_KEY_FILE)
    return settings


def _own_encryption_key(settings: Settings) -> Path | None:
    """Beside a database file there is one anyway."""
    return ENCRYPTION_KEY_FILE if settings.encryption_key_file == ENCRYPTION_KEY_FILE else None


def _next_free(host: str, wanted: int) -> int:
    """The port, or the next free one. Raises SettingsInvalid when none of a hundred is free."""
    for port in range(wanted, min(wanted + _PORTS_TRIED, 65_535)):
        try:
            return free_port(Address(host, port))
        except SettingsInvalid:
            continue
    return free_port(Address(host, wanted))


async def _develop(invocation: Invocation) -> None:
    settings = invocation.settings
    stop = stop_asked(invocation.log)
    url = Address(_EVERYWHERE.get(settings.host, settings.host), settings.port).url
    async with opened(settings, invocation.clock, invocation.log) as installation:
        await establish(installation, invocation.log, makes=_own_encryption_key(invocation.settings))
        key = settings.bootstrap_key or demo.kept_key(installation.control, KEY_FILE)
        worker, queue = await _with_inbox(invocation, installation, key, url)
        async with serving(invocation, worker) as server:
            say(terminal.welcome(url, key, queue, str(settings.database_path or settings.database_shown)))
            await until_stopped(stop, server)
            say("Stopping.")


async def _with_inbox(invocation: Invocation, installation: Installation, key: str, url: str) -> tuple[Worker, str]:
    """The worker, and the id of the demo queue."""
    control = installation.control
    principal = await demo.developer(control, key)
    targets = Targets(notify_url=url + inbox.PATH, liveness_url=f"{url}/health/live")
    queue = await demo.ensure_demo(control, principal, targets)
    worker = Worker(installation, invocation.log, predecessors=all_before(invocation.settings))
    worker.application = inbox.Inbox(
        worker.application, control, principal.organization, lambda received: say(terminal.receipt(received))
    )
    return worker, queue
