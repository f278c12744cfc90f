"""`discue copy`: copies a database into an empty one of either engine."""

import argparse
import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from discue.cli.command import Invocation, operator_command
from discue.cli.declarations import Command, option
from discue.cli.output import say
from discue.cli.progress import ProgressLine, resumable
from discue.config.settings import Settings
from discue.config.types import DATABASE, InvalidValue
from discue.crypto import keyring
from discue.domain.errors import DiscueError, StoreUnusable
from discue.server.installation import inspect_database, open_engine
from discue.server.process import alone_on
from discue.store import copying
from discue.store.copying import Side, compare
from discue.store.migrations import newest
from discue.store.store import Store
from discue.store.tables import TABLES

_HINT: Final = "The new database is not complete: run the same command again, which starts again."


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
        "either direction. Stop the servers of both databases first. Run the command again if it "
        "was interrupted: it starts again. The new database cannot be served until the copy is complete and "
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


async def _run(invocation: Invocation, source_settings: Settings, target_settings: Settings) -> None:
    with resumable(invocation, _HINT) as line:
        async with _opened(invocation, source_settings) as source, _opened(invocation, target_settings) as target:
            copy = _Copy(source, target, line)
            await copy.fill(invocation.clock.now())
            await copy.verify()
    copy.say_summary()


@asynccontextmanager
async def _opened(invocation: Invocation, settings: Settings) -> AsyncIterator[Side]:
    async with open_engine(settings, invocation.clock, invocation.log) as engine:
        store = Store(engine, max_waiting_bytes=settings.max_waiting_bytes)
        yield Side(store, settings.database_shown, is_held=settings.database_path is not None)


class _Copy:
    """A copy from one database to another, with a progress line."""

    def __init__(self, source: Side, target: Side, line: ProgressLine) -> None:
        self._source = source
        self._target = target
        self._line = line
        self._total = 0
        self._rows = dict.fromkeys((table.name for table in TABLES), 0)
        self._bytes = 0

    async def fill(self, now: int) -> None:
        """Copy all rows."""
        self._copy = await copying.begin(self._source, self._target, now, secrets.token_hex(8))
        if self._copy.starts_again:
            say(f"The rows of an unfinished copy in {self._target.name} are deleted first.")
        for spec in TABLES:
            self._line.require_running()
            self._total += await copying.count(self._source.store, spec)
        self._line.begin(0, self._total)
        done = 0
        async for table, rows in copying.fill(self._copy):
            done += rows
            self._line.show(f"copying {table}", done)

    async def verify(self) -> None:
        """Compare both databases and allow the target to be served. Raises DiscueError if they differ."""
        self._line.begin(0, self._total)
        differences = []
        async for batch in compare(self._copy):
            self._rows[batch.table] += batch.rows
            self._bytes += batch.bytes
            self._line.show(f"comparing {batch.table}", sum(self._rows.values()))
            if batch.difference:
                differences.append(batch.difference)
        if differences:
            text = "The copy differs from its source and cannot be served. Run the same command again to copy again."
            raise DiscueError("\n  ".join([text, *differences]))
        await copying.finish(self._copy)

    def say_summary(self) -> None:
        say(f"{self._source.name} was copied to {self._target.name}. Both contain the same rows:")
        for name, rows in self._rows.items():
            bodies = f", {self._bytes:,} bytes of messages" if name == "log" else ""
            say(f"  {name:14}{rows:>14,}{bodies}")
        say("Serve only the new database: the old one would deliver the same messages again.")
