"""`discue check`: finds problems before a server is started."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from discue.backup.archive import read_header
from discue.backup.create import backup_keys, newest_of
from discue.backup.destination import destination_of
from discue.backup.restore import selected_backup, unpack_and_check
from discue.cli.command import DEVELOPMENT_DATABASE, Invocation, open_once, operator_command, utc
from discue.cli.declarations import Command, option
from discue.cli.health import HealthTarget, response_of
from discue.cli.output import say
from discue.cli.tls import load_pair, validity_problem
from discue.config.settings import Settings
from discue.config.types import reachable
from discue.control.encryption import NO_KEY, default_key_file, missing_keys
from discue.crypto import keyring
from discue.crypto.keyring import key_id_of
from discue.dashboard.users.provider import read_providers
from discue.domain.errors import DiscueError, SettingsInvalid, StoreUnusable
from discue.server.http import Address, free_port, is_taken
from discue.server.installation import inspect_database
from discue.store.encryption import CLEAR, Encryption, decode
from discue.store.migrations import DatabaseInspection
from discue.store.sqlite.schema import Contents

if TYPE_CHECKING:
    from discue.store.postgres.schema import ServerStatus

_LEAST_FREE_BYTES: Final = 1 << 30
_CLOCK_TOLERANCE_SECONDS: Final = 60
_PLAUSIBLE_YEARS: Final = range(2025, 2100)
_LATE: Final = 2
"""A backup is late after this many intervals."""
_COST: Final = {
    "fsync": "acknowledged messages can be lost when the machine fails",
    "full_page_writes": "the database can be corrupted when the machine fails",
}
_SUBJECT = "encryption"


class Finding(NamedTuple):
    """A result of a check. `subject` is a setting or a part of the machine."""

    subject: str
    detail: str
    is_problem: bool = False


def command() -> Command:
    return operator_command(
        "check",
        run,
        option(
            "--restore DEST",
            "instead, restore a backup (of a folder or bucket, the newest one) into a temporary folder and check all "
            "of it; TMPDIR says where",
        ),
        option("--decrypt FILE", "file with the key of an encrypted backup", Path),
        description="Changes nothing. Safe while servers run. The exit code is 1 if a problem is found, and 2 if "
        "settings are invalid.",
    )


def run(invocation: Invocation) -> int:
    if invocation.arguments.restore is not None:
        return _say(drill_findings(invocation))
    findings = [Finding("settings", "valid"), *database_findings(invocation)]
    for check in (port_findings, clock_findings, tls_findings, disk_findings, backup_findings, provider_findings):
        findings += check(invocation)
    return _say(findings)


def _say(findings: Iterable[Finding]) -> int:
    problems = 0
    for finding in findings:
        say(f"{'PROBLEM' if finding.is_problem else 'ok':8}{finding.subject}: {finding.detail}")
        problems += finding.is_problem
    say(f"{problems or 'No'} problem{'' if problems == 1 else 's'}.")
    return 1 if problems else 0


def encryption_findings(settings: Settings, stands: Encryption | None) -> Iterator[Finding]:
    """Check that the encryption keys that the next start needs are available. `stands` None: not known."""
    place = keyring.key_file_path(settings)
    try:
        keys = [key_id_of(key) for key in keyring.current_keys(settings)]
    except SettingsInvalid as error:
        yield Finding(_SUBJECT, error.detail, is_problem=True)
        return
    if stands is None:
        return
    if place is not None and place.is_file() and not keyring.is_private(place):
        yield Finding(_SUBJECT, f"other users can read {place}; run chmod 600 {place}", is_problem=True)
    yield _encryption_finding(settings, place, keys, stands)


def _encryption_finding(settings: Settings, place: Path | None, keys: list[str], stands: Encryption) -> Finding:
    missing = [key for key in stands.needed if key not in keys]
    if missing:
        return Finding(_SUBJECT, missing_keys(settings, missing), is_problem=True)
    if not keys and settings.encryption == "none":
        return Finding(_SUBJECT, "encryption = none allows signing secrets in clear text")
    if not keys and place is not None and place == default_key_file(settings):
        return Finding(_SUBJECT, f"the next start creates a key for signing secrets in {place}")
    if not keys:
        return Finding(_SUBJECT, f"`discue serve` does not start: {NO_KEY}", is_problem=True)
    if stands.leaving or stands.current not in (CLEAR, keys[0]):
        detail = f"some secrets are not encrypted with the first key, {keys[0]}; run discue rotate-key"
        return Finding(_SUBJECT, detail, is_problem=True)
    return Finding(_SUBJECT, f"signing secrets are encrypted with the key {keys[0]}")


def provider_findings(invocation: Invocation) -> Iterator[Finding]:
    """Check that the file with the identity providers is valid."""
    path = invocation.settings.identity_providers
    if path is None:
        return
    try:
        providers = read_providers(path)
    except SettingsInvalid as error:
        yield Finding("identity_providers", error.detail.removeprefix("identity_providers: "), is_problem=True)
        return
    if any(provider.client_secret for provider in providers) and not keyring.is_private(path):
        detail = f"other users can read the secrets in {path}; run chmod 600 {path}"
        yield Finding("identity_providers", detail, is_problem=True)
    names = ", ".join(provider.name for provider in providers)
    yield Finding("identity_providers", f"users can sign in with {names}" if names else f"{path} names no provider")


def database_findings(invocation: Invocation) -> Iterator[Finding]:
    """Check that the database exists or can be created, is writable, and has a known schema version, and its keys."""
    settings = invocation.settings
    try:
        found = asyncio.run(inspect_database(settings))
    except StoreUnusable as error:
        yield Finding("database", error.detail, is_problem=True)
        yield from encryption_findings(settings, None)
        return
    if settings.database_path is None:
        yield from server_findings(invocation, found)
    elif found.exists:
        yield Finding("database", f"{settings.database_shown} is writable; {_schema_state(found, settings)}")
    else:
        yield Finding("database", f"{settings.database_shown} does not exist; {_first_start('it', settings)}")
        if DEVELOPMENT_DATABASE.is_file():
            own = f"{DEVELOPMENT_DATABASE} is the database of `discue dev`"
            yield Finding("database", f"{own}: `discue check --database sqlite:///{DEVELOPMENT_DATABASE}` checks it")
    yield from encryption_findings(settings, decode(found.encryption))


def _first_start(created: str, settings: Settings) -> str:
    key = "the key of bootstrap_key" if settings.bootstrap_key else "its first API key, which it prints once"
    return f"`discue serve` creates {created}, the organization {settings.organization} and {key}"


def _schema_state(found: DatabaseInspection, settings: Settings) -> str:
    if not found.version:
        return f"it is empty; {_first_start('its tables', settings)}"
    state = f"schema version {found.version}"
    return f"{state}; pending migrations: {', '.join(found.pending)}" if found.pending else state


def server_findings(invocation: Invocation, found: DatabaseInspection) -> Iterator[Finding]:
    """Check that a PostgreSQL server accepts and keeps writes, and has enough connections for the workers."""
    # Imported here because they import the PostgreSQL driver, which takes longer than all else in a command on SQLite.
    from discue.store.postgres.engine import CONNECTIONS  # noqa: PLC0415
    from discue.store.postgres.schema import server_status  # noqa: PLC0415

    settings = invocation.settings
    try:
        status = asyncio.run(server_status(settings.database))
    except StoreUnusable as error:
        yield Finding("database", error.detail, is_problem=True)
        return
    state = f"{settings.database_shown} is served by PostgreSQL {status.version}; {_schema_state(found, settings)}"
    yield Finding("database", state)
    for problem in _server_problems(status, found):
        yield Finding("database", problem, is_problem=True)
    needed, free = settings.workers * CONNECTIONS, status.connections - status.taken
    detail = (
        f"{free} connections are free, {status.taken} are in use by others; this installation needs up to {needed} "
        f"with workers = {settings.workers}"
    )
    detail += "; raise max_connections, or lower workers" if needed > free else ""
    yield Finding("connections", detail, is_problem=needed > free)
    ahead_ms = status.clock_ms - invocation.clock.now()
    seconds, way = abs(ahead_ms) / 1_000, "ahead of" if ahead_ms > 0 else "behind"
    if seconds <= _CLOCK_TOLERANCE_SECONDS:
        yield Finding("clock", "the clock of the database agrees with this machine")
    else:
        detail = f"the clock of the database is {seconds:.0f} s {way} this machine; correct the wrong one"
        yield Finding("clock", detail, is_problem=True)


def _server_problems(status: "ServerStatus", found: DatabaseInspection) -> Iterator[str]:
    if status.is_standby:
        yield (
            "the server is a standby and rejects writes; name the primary, or all hosts and "
            "target_session_attrs=primary"
        )
    elif not status.takes_writes:
        yield (
            f"transactions of {status.user} are read-only; set default_transaction_read_only to off for the user, "
            f"the database {status.database} and the server"
        )
    if found.pending and not status.may_create:
        yield (
            f"{status.user} cannot create the tables that the next start needs: GRANT CREATE ON SCHEMA "
            f"{status.schema} TO {status.user}, or run discue migrate as a user who can"
        )
    if status.closed:
        yield (
            f"{status.user} lacks privileges on {len(status.closed)} tables, such as {status.closed[0]}: GRANT SELECT, "
            f"INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {status.schema} TO {status.user}"
        )
    for name in status.unsafe:
        yield f"{name} is off: {_COST[name]}; turn it on"


def clock_findings(invocation: Invocation) -> Iterator[Finding]:
    """Check the clock, which leases, retries and signatures depend on."""
    now = utc(invocation.clock.now())
    problem, behind = "", _latest_change(invocation.settings.database_path) - now.timestamp()
    if now.year not in _PLAUSIBLE_YEARS:
        problem = " is not plausible; set the clock of this machine"
    elif behind > _CLOCK_TOLERANCE_SECONDS:
        problem = f" is {behind:.0f} s before the last change of the database; set the clock of this machine"
    yield Finding("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC{problem}", is_problem=bool(problem))


def _latest_change(path: Path | None) -> float:
    """Return the time of the last change of a SQLite file; 0 for PostgreSQL, whose clock is checked separately."""
    if path is None:
        return 0.0
    files = (path, path.with_name(f"{path.name}-wal"))
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def tls_findings(invocation: Invocation) -> Iterator[Finding]:
    """Check that the TLS files are readable, belong together, and are valid now."""
    settings = invocation.settings
    if settings.tls_cert is None or settings.tls_key is None:
        kind = "self-signed, for testing" if settings.tls_self_signed else "off; requests are served in cleartext"
        yield Finding("tls", kind)
        return
    try:
        certificate = load_pair(settings.tls_cert, settings.tls_key)
    except SettingsInvalid as error:
        subject, _, detail = error.detail.partition(": ")
        yield Finding(subject, detail, is_problem=True)
        return
    problem = validity_problem(certificate, utc(invocation.clock.now()))
    good = f"certificate and key match; valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    yield Finding("tls_cert", problem or good, is_problem=problem is not None)


def port_findings(invocation: Invocation) -> Iterator[Finding]:
    """Check that the next start can listen: that the port is free, or a discue server holds it."""
    settings = invocation.settings
    address = Address(settings.host, settings.port)
    try:
        free_port(address)
    except SettingsInvalid as error:
        version = _served_version(settings) if is_taken(error) else None
        if version is None:
            yield Finding("port", error.detail.partition(": ")[2], is_problem=True)
        else:
            running = f"discue {version} listens on {settings.host}:{settings.port}; another start needs another port"
            yield Finding("port", running)
        return
    yield Finding("port", f"{settings.host}:{settings.port} is free" if settings.port else "any")


def _served_version(settings: Settings) -> str | None:
    """Return the version of the discue that listens at the address of the settings; None for another program."""
    try:
        _, body = response_of(HealthTarget(reachable(settings.host), settings.port, settings.has_tls), "/")
        found = json.loads(body)
        return str(found["version"]) if found["name"] == "discue" else None
    except (OSError, ValueError, KeyError, TypeError):
        # Whatever answers like this is not discue.
        return None


def disk_findings(invocation: Invocation) -> Iterator[Finding]:
    """Check the free disk space of a SQLite database."""
    path = invocation.settings.database_path
    folder = None if path is None else path.parent
    if folder is None or not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free
    yield Finding("disk", f"{free >> 20} MiB free for the database", is_problem=free < _LEAST_FREE_BYTES)


def backup_findings(call: Invocation) -> Iterator[Finding]:
    """Check that the newest backup is as recent as the settings want it."""
    settings = call.settings
    if settings.backup_to is None or settings.database_path is None or not settings.database_path.exists():
        return
    try:
        destination = destination_of(settings.backup_to, os.environ)
        made_at = newest_of(settings.database_path, destination)
    except DiscueError as error:
        yield Finding("backup", error.detail, is_problem=True)
        return
    if made_at is None:
        yield Finding("backup", f"{settings.backup_to} has no backup of this database yet")
        return
    seconds = (call.clock.now() - made_at) / 1_000
    yield Finding(
        "backup",
        f"the newest one in {settings.backup_to} is of {utc(made_at):%Y-%m-%d %H:%M:%S} UTC",
        is_problem=seconds > _LATE * settings.backup_every,
    )


def drill_findings(call: Invocation) -> Iterator[Finding]:
    """Restore a backup into a temporary folder, open it as a server would, and check everything in it."""
    arguments = call.arguments
    try:
        keys = () if arguments.decrypt is None else backup_keys(arguments.decrypt)
        with (
            tempfile.TemporaryDirectory(prefix="discue-drill-") as folder,
            selected_backup(arguments.restore, None, Path(folder), os.environ) as backup,
        ):
            header = read_header(backup.path)
            made = f"{backup.name} of {utc(header.created_at):%Y-%m-%d %H:%M:%S} UTC, made by discue {header.discue}"
            yield Finding("backup", made)
            needed, free = header.database_bytes, shutil.disk_usage(folder).free
            if free < needed:
                raise DiscueError(
                    f"The drill needs {needed >> 20:,} MiB in {Path(folder).parent}, and {free >> 20:,} MiB are free. "
                    "Set TMPDIR to a folder with more room."
                )
            database = Path(folder) / "discue.db"
            _, contents = unpack_and_check(backup.path, database, keys)
            yield Finding("restore", "checksums, pages, indexes and cursors are consistent")
            counts = ", ".join(f"{name}: {count:,}" for name, count in contents.counts.items())
            newest = f"; newest message of {utc(contents.newest_message_at):%Y-%m-%d %H:%M:%S} UTC"
            yield Finding("content", f"{counts}{newest if contents.newest_message_at else ''}")
            asyncio.run(open_once(replace(call, settings=replace(call.settings, database=f"sqlite:///{database}"))))
            yield Finding("start", "the database opens with this version of discue")
        yield from _drill_encryption(call, contents)
    except DiscueError as error:
        yield Finding("restore", error.detail, is_problem=True)


def _drill_encryption(call: Invocation, contents: Contents) -> Iterator[Finding]:
    needed = contents.identity.encryption.needed
    available = [key_id_of(key) for key in keyring.current_keys(call.settings)]
    missing = [key for key in needed if key not in available]
    if missing:
        yield Finding("encryption", missing_keys(call.settings, missing), is_problem=True)
    elif needed:
        yield Finding("encryption", "the keys of its signing secrets are available")
