"""`discue health`: asks a running server whether it is ready, for health checks of containers and service managers.

Such checks run every few seconds, so this module imports neither the client nor, if a URL is given, the settings.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
from contextlib import closing
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from discue.cli.declarations import Command, argument, option, switch
from discue.cli.exit_codes import CommandFailed, guarded

_TIMEOUT_SECONDS: Final = 3.0
_READ_BYTES: Final = 65_536
_OK: Final = 200
_PORTS: Final = {"http": 80, "https": 443}


class HealthTarget(NamedTuple):
    """A server to ask."""

    host: str
    port: int
    has_tls: bool
    path: str = ""
    """The path in front of `/health`."""

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.has_tls else 'http'}://{host}:{self.port}{self.path}"


def command() -> Command:
    return Command(
        start=_start,
        arguments=(
            argument(
                "url",
                "address of the server; without it, the one of this machine with the same settings",
                _target_of,
                nargs="?",
                metavar="URL",
            ),
            switch("--live", "ask only whether the process responds, also while it starts or drains"),
            option("--config FILE", "TOML file with the settings of the server"),
        ),
        description="The exit code is 0 if it is, and 1 if it is not or does not respond within 3 seconds. Needs no "
        "API key. The certificate of the server is not verified: nothing secret is sent.",
    )


def _target_of(text: str) -> HealthTarget:
    """Parse the URL of a server. Raises ArgumentTypeError if it is none."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL: {error}") from error
    if parts.scheme not in _PORTS or host is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL such as http://127.0.0.1:3000")
    return HealthTarget(host, port or _PORTS[parts.scheme], parts.scheme == "https", parts.path.rstrip("/"))


def _start(parsed: argparse.Namespace) -> int:
    return guarded(lambda: _require(parsed.url or _configured(parsed.config), "live" if parsed.live else "ready"))


def _configured(config: str | None) -> HealthTarget:
    """Return the address that a server with these settings listens on. Raises CommandFailed if they are invalid."""
    # A check with a URL does not wait for these.
    from pathlib import Path  # noqa: PLC0415

    from discue.config.sources import load  # noqa: PLC0415
    from discue.config.types import reachable  # noqa: PLC0415
    from discue.domain.errors import SettingsInvalid  # noqa: PLC0415

    try:
        settings = load({} if config is None else {"config": config}, os.environ, Path.read_bytes)
    except SettingsInvalid as error:
        raise CommandFailed(error.detail) from error
    return HealthTarget(reachable(settings.host), settings.port, settings.has_tls)


def _require(target: HealthTarget, state: str) -> None:
    """Raise CommandFailed unless the server responds that it is in the state."""
    try:
        head, body = response_of(target, f"{target.path}/health/{state}")
        status = int(head.split(b" ", 2)[1])
        found = json.loads(body)
        detail = found["status"] if status == _OK else found.get("detail", f"status {status}")
    except OSError as error:
        from discue.domain.connection_errors import connection_problem  # noqa: PLC0415 - only failures need it

        reason = "no response within 3 seconds" if isinstance(error, TimeoutError) else connection_problem(error)
        raise CommandFailed(f"{target.url} does not respond: {reason}.") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CommandFailed(f"Something other than discue responds at {target.url}.") from error
    if detail != state:
        raise CommandFailed(f"{target.url} is not {state}: {detail}")


def response_of(target: HealthTarget, path: str) -> tuple[bytes, bytes]:
    """Return head and body of the response to a GET. Raises OSError, TimeoutError after 3 seconds in total."""
    ends_at = time.monotonic() + _TIMEOUT_SECONDS
    request = f"GET {path} HTTP/1.1\r\nHost: {target.host}\r\nConnection: close\r\n\r\n"
    with closing(_connected(target)) as connection:
        connection.sendall(request.encode())
        received = b""
        while len(received) < _READ_BYTES:
            connection.settimeout(max(0.001, ends_at - time.monotonic()))
            chunk = connection.recv(_READ_BYTES)
            if not chunk:
                break
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


def _connected(target: HealthTarget) -> socket.socket:
    connection = socket.create_connection((target.host, target.port), timeout=_TIMEOUT_SECONDS)
    if not target.has_tls:
        return connection
    import ssl  # noqa: PLC0415 - a check without TLS does not wait for it

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return context.wrap_socket(connection, server_hostname=target.host)
    except OSError:
        connection.close()
        raise
