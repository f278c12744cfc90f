"""`discue systemd`: prints a unit that runs this installation of the program, hardened, with a watchdog."""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from discue.backup.destination import SCHEME
from discue.cli.command import Invocation, operator_command
from discue.cli.declarations import Command, option
from discue.cli.output import say
from discue.config.settings import Settings
from discue.domain.errors import SettingsInvalid

STATE: Final = Path("/var/lib/discue")
"""The folder that `StateDirectory=discue` creates. Relative paths of settings are relative to it."""

_FIRST_UNPRIVILEGED_PORT: Final = 1024
_STOP_MARGIN_SECONDS: Final = 40
"""Time to end, in addition to that for requests in flight: the parent kills workers 30 s after their drain timeout."""

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_PLAIN_PATH = re.compile(r"[\w./+@-]+")

_UNIT: Final = """\
# Written by `discue systemd`.
[Unit]
Description=discue
Documentation={documentation}
After=network-online.target
Wants=network-online.target
# A service that keeps failing is started again for ever: what it needs may come back.
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
# Settings that are secrets, such as PGPASSWORD=… or DISCUE_METRICS_KEY=…
EnvironmentFile=-/etc/discue/environment
# A start waits for a database that does not respond, and for a disk that has no room.
TimeoutStartSec=infinity
# The service is killed if its event loop hangs that long.
WatchdogSec=30
# SIGTERM drains: no new requests; those in flight finish within drain_timeout_seconds.
KillMode=mixed
TimeoutStopSec={stop_seconds}
Restart=always
RestartSec=1
# Invalid settings do not become valid by another start.
RestartPreventExitStatus=2
LimitNOFILE=65536

User={user}
StateDirectory=discue
StateDirectoryMode=0700
WorkingDirectory={state}
UMask=0077
{paths}
# Only what the service needs: `systemd-analyze security discue` explains each line.
{capabilities}
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

_UNPRIVILEGED: Final = "CapabilityBoundingSet=\nPrivateUsers=yes"
_LOW_PORT: Final = "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE"


def command() -> Command:
    return operator_command(
        "systemd",
        _run,
        option("--user NAME", "user that runs it [discue]", _user, default="discue"),
        description="The unit runs the program that prints it, with the settings of --config. It depends on port, "
        "paths and drain timeout: print it again after changing these. Changes nothing.",
    )


def _user(text: str) -> str:
    if not _USER.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a user")
    if text == "root":
        raise argparse.ArgumentTypeError("the service needs no privileges; name a user of its own")
    return text


def _run(invocation: Invocation) -> None:
    config = getattr(invocation.arguments, "config", None)
    say(unit(invocation.settings, user=invocation.arguments.user, config=config).rstrip())


def unit(settings: Settings, *, user: str, config: str | None) -> str:
    """Return the unit. Raises SettingsInvalid if a path has characters that units give a meaning."""
    command = [*_program(), "serve", *([] if config is None else ["--config", _plain(Path(config).absolute())])]
    folders = [f"ReadWritePaths={_plain(folder)}\n" for folder in _written(settings)]
    ports = settings.port, settings.dashboard_port, settings.metrics_port
    needs_capability = any(0 < port < _FIRST_UNPRIVILEGED_PORT for port in ports if port is not None)
    return _UNIT.format(
        documentation=f"{settings.public_url or 'https://localhost'}/docs",
        command=" ".join(command),
        stop_seconds=settings.drain_timeout_seconds + _STOP_MARGIN_SECONDS,
        user=user,
        state=STATE,
        paths="".join(folders),
        capabilities=_LOW_PORT if needs_capability else _UNPRIVILEGED,
    )


def _program() -> list[str]:
    """Return the command that starts this program: the script next to the interpreter, or the interpreter itself."""
    # Not resolved: the interpreter of a virtual environment is a link, and finds its packages by its own place.
    interpreter = Path(sys.executable)
    script = interpreter.with_name("discue")
    return [_plain(script)] if script.is_file() else [_plain(interpreter), "-m", "discue"]


def _written(settings: Settings) -> Iterator[Path]:
    """Yield the folders outside of the state directory that the service writes to."""
    folders = [] if settings.database_path is None else [settings.database_path.parent]
    if settings.backup_to is not None and not settings.backup_to.startswith(SCHEME):
        folders.append(Path(settings.backup_to))
    for folder in folders:
        absolute = STATE / folder
        if not absolute.is_relative_to(STATE):
            yield absolute


def _plain(path: Path) -> str:
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise SettingsInvalid(f"{path}: a unit needs paths without spaces, quotes, % and $. Move or link it.")
    return str(path)
