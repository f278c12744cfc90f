"""`discue copy`: everything that one database holds, into another one, of whatever engine."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from discue.cli.command import Commands, Invocation, ProgressLine, add_command, say
from discue.cli.encryption import carry_keys
from discue.config.settings import Settings
from discue.config.types import DATABASE, InvalidValue
from discue.domain.errors import DiscueError, StoreUnusable, Unavailable
from discue.server.installation import StoreFailureLog, engine_of, inspect_database
from discue.server.processes import stop_asked
from discue.server.worker import alone_on
from discue.store import copying
from discue.store.copying import CopyProgress, Side, compare
from discue.store.migrations import newest
from discue.store.store import Store
from discue.store.tables import TABLES, count

_GO_ON: Final = "What was copied is kept: the same command goes on from there."


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "copy",
        "copy",
        run,
        summary="copy everything from one database into an empty one",
        description="In either direction between SQLite and PostgreSQL, with every id, key, signing secret and pending "
        "delivery. Stop the servers of both databases first. One that was interrupted goes on when it is called "
        "again; until it has ended, and found both to be the same, the new database is not served. The old one is "
        "not changed: never serve both. Keep passwords in ~/.pgpass: other users of a machine can read flags.",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=_database,
        required=True,
        metavar="DATABASE",
        help="the database to copy, as the setting database names one",
    )
    parser.add_argument(
        "--to",
        dest="target",
        type=_database,
        required=True,
        metavar="DATABASE",
        help="where to: a file that does not exist yet, or an empty database of a server",
    )


def run(invocation: Invocation) -> int:
    arguments, settings = invocation.arguments, invocation.settings
    source = replace(settings, database=arguments.source, workers=1)
    target = replace(settings, database=arguments.target, workers=1)
    _require_two(source, target)
    asyncio.run(_require_current(source, target))
    with alone_on(source.database_path), alone_on(target.database_path):
        asyncio.run(_run(invocation, source, target))
        if about_keys := carry_keys(source, target):
            say(about_keys)
    return 0


def _database(text: str) -> str:
    """argparse would repeat what it cannot convert, and that may hold a password."""
    try:
        return str(DATABASE.parse(text))
    except ValueError as error:
        reason = f"{error}; " if isinstance(error, InvalidValue) else ""
        raise argparse.ArgumentTypeError(f"{reason}expected {DATABASE.expected}") from None


def _require_two(source: Settings, target: Settings) -> None:
    one, other = source.database_path, target.database_path
    if one is not None and other is not None and one.resolve() == other.resolve():
        raise StoreUnusable(f"{source.database_shown} and {target.database_shown} are one file.")


async def _require_current(source: Settings, target: Settings) -> None:
    """Opening would bring a schema up to date, which nobody has asked for here."""
    found = await inspect_database(source)
    if not found.version:
        raise StoreUnusable(f"{source.database_shown} holds nothing to copy: there is no database of discue.")
    for settings, version in ((source, found.version), (target, (await inspect_database(target)).version)):
        if version > newest():
            raise StoreUnusable(f"{settings.database_shown} was made by a newer discue. Copy with that one.")
        if 0 < version < newest():
            raise StoreUnusable(
                f"{settings.database_shown} has schema version {version}, and this program {newest()}. "
                f"Run `discue migrate --database {settings.database_shown}` first."
            )


async def _run(invocation: Invocation, source_settings: Settings, target_settings: Settings) -> None:
    stop = stop_asked(invocation.log)
    line = ProgressLine(sys.stderr, invocation.clock)
    async with _opened(invocation, source_settings) as source, _opened(invocation, target_settings) as target:
        try:
            copy = _Copy(source, target, line, stop)
            await copy.fill(invocation.clock.now())
            await copy.verify()
        except Unavailable as error:
            raise DiscueError(f"{error.detail} {_GO_ON}") from error
        finally:
            line.end()
    copy.say_summary()


@asynccontextmanager
async def _opened(invocation: Invocation, settings: Settings) -> AsyncIterator[Side]:
    engine = engine_of(settings, StoreFailureLog(invocation.log, invocation.clock))
    await engine.open()
    try:
        store = Store(engine, max_waiting_bytes=settings.max_waiting_bytes)
        yield Side(store, settings.database_shown, is_held=settings.database_path is not None)
    finally:
        await engine.close()


class _Copy:
    """From one side to the other, with word of how far it is."""

    def __init__(self, source: Side, target: Side, line: ProgressLine, stop: asyncio.Event) -> None:
        self._source = source
        self._target = target
        self._line = line
        self._stop = stop
        self._sizes: dict[str, int] = {}
        self._rows = dict.fromkeys((table.name for table in TABLES), 0)
        self._bytes = 0

    async def fill(self, now: int) -> None:
        """Copy what is not copied yet."""
        self._progress = await copying.begin(self._source, self._target, now)
        for table in TABLES:
            self._go_on()
            self._sizes[table.name] = await count(self._source.store, table)
        done = self._done(self._progress)
        if done:
            say(f"An earlier copy goes on, after {done:,} rows.")
        self._line.begin(done, sum(self._sizes.values()))
        while not self._progress.is_copied:
            self._go_on()
            self._progress = await copying.step(self._source, self._target, self._progress)
            self._line.show(f"copying {self._progress.table or 'is over'}", self._done(self._progress))

    async def verify(self) -> None:
        """Compare both sides, and let the target be served. Raises DiscueError when they are not the same."""
        self._line.begin(0, sum(self._sizes.values()))
        differences = []
        async for look in compare(self._source, self._target, self._progress):
            self._go_on()
            self._rows[look.table] += look.rows
            self._bytes += look.bytes
            self._line.show(f"comparing {look.table}", sum(self._rows.values()))
            if look.difference:
                differences.append(look.difference)
        if differences:
            raise DiscueError(_not_the_same(self._target, differences))
        await copying.finish(self._source, self._target, self._progress)

    def say_summary(self) -> None:
        say(f"{self._source.name} was copied to {self._target.name}, and both have the same rows:")
        for name, rows in self._rows.items():
            bodies = f", {self._bytes:,} bytes of messages" if name == "log" else ""
            say(f"  {name:14}{rows:>14,}{bodies}")
        say("Serve the new one only: the old one would deliver again what the new one delivers.")

    def _done(self, progress: CopyProgress) -> int:
        before = 0
        for name, rows in self._sizes.items():
            if name == progress.table:
                return before + progress.rows
            before += rows
        return before

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise DiscueError(f"Stopped. {_GO_ON}")


def _not_the_same(target: Side, differences: list[str]) -> str:
    return "\n  ".join(
        [
            f"The copy is not what its source is, and will not be served. Empty {target.name}, and copy again.",
            *differences,
        ]
    )
