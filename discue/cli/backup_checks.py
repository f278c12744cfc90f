"""Checks of backups: whether the newest one is recent, and the drill, which restores it."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from discue.backup.archive import Header, read_header
from discue.backup.create import backup_keys, newest_of
from discue.backup.destination import destination_of
from discue.backup.restore import selected_backup, unpack_and_check
from discue.cli.command import Invocation, utc
from discue.cli.finding import Finding
from discue.control.encryption import missing_keys
from discue.crypto import keyring
from discue.crypto.keyring import key_id_of
from discue.domain.errors import DiscueError
from discue.server.installation import open_installation
from discue.store.sqlite.schema import Contents

_LATE: Final = 2
"""A backup is late after this many intervals."""


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
        yield Finding("backup", f"{settings.backup_to} has no backup of this database yet", is_problem=False)
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
            yield Finding("backup", made, is_problem=False)
            _require_room(header, Path(folder))
            database = Path(folder) / "discue.db"
            _, contents = unpack_and_check(backup.path, database, keys)
            yield from _contained(contents)
            asyncio.run(_open(call, database))
            yield Finding("start", "the database opens as at a start of this version", is_problem=False)
        yield from _encryption(call, contents)
    except DiscueError as error:
        yield Finding("restore", error.detail, is_problem=True)


def _require_room(header: Header, folder: Path) -> None:
    needed, free = header.database_bytes, shutil.disk_usage(folder).free
    if free < needed:
        raise DiscueError(
            f"The drill needs {needed >> 20:,} MiB in {folder.parent}, and {free >> 20:,} MiB are free. Set TMPDIR to "
            "a folder with more room."
        )


def _contained(contents: Contents) -> Iterator[Finding]:
    counts = ", ".join(f"{name}: {count:,}" for name, count in contents.counts.items())
    newest = f"; newest message of {utc(contents.newest_message_at):%Y-%m-%d %H:%M:%S} UTC"
    yield Finding("restore", "checksums, pages, indexes and cursors are consistent", is_problem=False)
    yield Finding("content", f"{counts}{newest if contents.newest_message_at else ''}", is_problem=False)


async def _open(call: Invocation, database: Path) -> None:
    async with open_installation(replace(call.settings, database=f"sqlite:///{database}"), call.clock, call.log):
        pass


def _encryption(call: Invocation, contents: Contents) -> Iterator[Finding]:
    needed = contents.identity.encryption.needed
    available = [key_id_of(key) for key in keyring.current_keys(call.settings)]
    missing = [key for key in needed if key not in available]
    if missing:
        yield Finding("encryption", missing_keys(call.settings, missing), is_problem=True)
    elif needed:
        yield Finding("encryption", "the keys of its signing secrets are available", is_problem=False)
