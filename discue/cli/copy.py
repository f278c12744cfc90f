"""`discue copy`: copies a database into an empty one of either engine."""

import argparse
import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from discue.backup import copying
from discue.backup.copying import Side, compare
from discue.cli.command import Invocation, Progress, operator_command, resumable
from discue.cli.declarations import Command, option
from discue.cli.output import say
from discue.config.settings import Settings
from discue.config.types import DATABASE, InvalidValue
from discue.crypto import keyring
from discue.domain.errors import DiscueError, StoreUnusable
from discue.server.installation import inspect_database, open_engine
from discue.server.process import alone_on
from discue.store.migrations import newest
from discue.store.store import Store
from discue.store.tables import TABLES

_HINT: Final = "The new database is not complete: run the same command again to start over."


def command() -> Command:
    return operator_command(
        "copy",
        run,
        option(
            "--from DATABASE",
            "database to copy, in the form of the setting database",
            _database,
            dest="source",
            required=True,
        ),
        option(
            "--to DATABASE",
            "database to create: a file that does not exist, or an empty PostgreSQL database",
            _database,
            dest="target",
            required=True,
        ),
        description="Copies every id, key, signing secret and pending delivery, between SQLite and PostgreSQL in "
        "either direction. Stop the servers of both databases first. To start over after an "
        "interruption, run the command again. The new database cannot be served until the copy is complete and "
        "verified. The old database is not changed: never serve both. Keep passwords in ~/.pgpass: other users of "
        "the machine can read flags.",
    )


def run(invocation: Invocation) -> None:
    arguments, settings = invocation.arguments, invocation.settings
    source = replace(settings, database=arguments.source, workers=1)
    target = replace(settings, database=arguments.target, workers=1)
    one, other = source.database_path, target.database_path
    if one is not None and other is not None and one.resolve() == other.resolve():
        raise StoreUnusable(f"{source.database_shown} and {target.database_shown} are the same file.")
    # Before the locks, which would create files next to databases that do not exist.
    asyncio.run(_require_current(source, target))
    with alone_on(source.database_path), alone_on(target.database_path):
        asyncio.run(_run(invocation, source, target))
        if about_keys := _copy_keys(source, target):
            say(about_keys)


def _copy_keys(source: Settings, target: Settings) -> str:
    """Make sure that the copied secrets can be decrypted. Returns a sentence about the keys, "" if there is none."""
    old, new = keyring.key_file_path(source), keyring.key_file_path(target)
    keys = keyring.read_keys(old) if old is not None else source.encryption_key or ()
    if not keys or old == new:
        return "The new database needs the same encryption keys." if keys else ""
    if new is None:
        return f"The new database needs the encryption keys in {old}: set encryption_key_file to that file."
    keyring.insert_keys(new, keys)
    return f"The encryption keys in {old} were copied to {new}."


def _database(text: str) -> str:
    """Return the database URL. The error does not repeat it, unlike that of argparse: it may contain a password."""
    try:
        return str(DATABASE.parse(text))
    except ValueError as error:
        reason = f"{error}; " if isinstance(error, InvalidValue) else ""
        raise argparse.ArgumentTypeError(f"{reason}expected {DATABASE.expected}") from None


async def _require_current(source: Settings, target: Settings) -> None:
    """Raise StoreUnusable unless both schemas are current: opening an older database would migrate it."""
    found = await inspect_database(source)
    if not found.version:
        raise StoreUnusable(f"{source.database_shown} contains no discue database.")
    for settings, version in ((source, found.version), (target, (await inspect_database(target)).version)):
        if version > newest():
            raise StoreUnusable(
                f"{settings.database_shown} was created by a newer version of discue. Copy it with that version."
            )
        if 0 < version < newest():
            raise StoreUnusable(
                f"{settings.database_shown} has schema version {version}, but this version of discue needs {newest()}. "
                f"Run `discue migrate --database {settings.database_shown}` first."
            )


async def _run(invocation: Invocation, source: Settings, target: Settings) -> None:
    with resumable(invocation, _HINT) as progress:
        async with _opened(invocation, source) as old, _opened(invocation, target) as new:
            await _copy(invocation, old, new, progress)


@asynccontextmanager
async def _opened(invocation: Invocation, settings: Settings) -> AsyncIterator[Side]:
    async with open_engine(settings, invocation.log) as engine:
        store = Store(engine, max_waiting_bytes=settings.max_waiting_bytes)
        yield Side(store, settings.database_shown, is_held=settings.database_path is not None)


async def _copy(invocation: Invocation, source: Side, target: Side, progress: Progress) -> None:
    """Copy all rows, compare both databases, and allow the target to be served. Raises DiscueError if they differ."""
    copy = await copying.begin(source, target, invocation.clock.now(), secrets.token_hex(8))
    if copy.starts_again:
        say(f"The rows of an unfinished copy in {target.name} are deleted first.")
    total = done = 0
    for spec in TABLES:
        progress.require_running()
        total += await copying.count(source.store, spec)
    progress.begin(total)
    async for table, rows in copying.fill(copy):
        done += rows
        progress.show(f"copying {table}", done)
    progress.begin(total)
    compared, size, differences = dict.fromkeys((table.name for table in TABLES), 0), 0, list[str]()
    async for batch in compare(copy):
        compared[batch.table] += batch.rows
        size += batch.bytes
        progress.show(f"comparing {batch.table}", sum(compared.values()))
        if batch.difference:
            differences.append(batch.difference)
    if differences:
        text = "The copy differs from its source and cannot be served. Run the same command again to copy again."
        raise DiscueError("\n  ".join([text, *differences]))
    await copying.finish(copy)
    say(f"{source.name} was copied to {target.name}. Both contain the same rows:")
    for name, rows in compared.items():
        bodies = f", {size:,} bytes of messages" if name == "log" else ""
        say(f"  {name:14}{rows:>14,}{bodies}")
    say("Serve only the new database: the old one would deliver the same messages again.")
