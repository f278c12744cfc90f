"""`discue migrate`: applies pending migrations to a database."""

import asyncio
from pathlib import Path

from discue.backup.create import copy_database
from discue.cli.command import Invocation, no_database, open_once, operator_command
from discue.cli.declarations import Command, switch
from discue.cli.output import say
from discue.server.installation import inspect_database
from discue.store.migrations import COMPATIBLE_FROM


def command() -> Command:
    return operator_command(
        "migrate",
        _migrate,
        switch("--no-copy", "do not copy a SQLite database first; without a copy, there is no way back"),
        switch("--dry-run", "print the pending migrations without applying them"),
        description="Every command that opens the database does this as well, but this one copies a SQLite database "
        "first, to a file next to it. It does not create a database: `discue serve` does.",
    )


def _migrate(call: Invocation) -> None:
    settings, dry_run = call.settings, call.arguments.dry_run
    found = asyncio.run(inspect_database(settings))
    if not found.exists:
        raise no_database(settings)
    say(f"{settings.database_shown} has schema version {found.version}.")
    if not dry_run:
        if found.pending and found.version and settings.database_path is not None and not call.arguments.no_copy:
            copy = settings.database_path.with_name(f"{settings.database_path.name}.before-{found.version}")
            copy_database(settings.database_path, copy)
            say(f"{copy} is a copy of the database from before the migration.")
            _say_how_to_go_back(settings.database_path, found.version)
        asyncio.run(open_once(call))
    for migration in found.pending:
        say(f"{migration} {'would be applied' if dry_run else 'was applied'}.")
    if found.pending and not dry_run:
        say(f"{settings.database_shown} has schema version {asyncio.run(inspect_database(settings)).version}.")
    if not found.pending:
        say("No migrations are pending.")


def _say_how_to_go_back(database: Path, version: int) -> None:
    if version >= COMPATIBLE_FROM:
        say("To go back, stop the servers and start the old version: it can use the migrated database.")
    else:
        say(f"To go back, stop the servers, remove {database}-wal and {database}-shm, move the copy to {database},")
        say("and start the old version: everything since then is lost.")
