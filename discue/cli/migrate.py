"""`discue migrate`: applies pending migrations to a database."""

import asyncio

from discue.cli.command import Commands, Invocation, add_command, say
from discue.server.installation import inspect_database, open_installation


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "migrate",
        "migrate",
        run,
        summary="apply pending migrations to the database",
        description="Every command that opens the database does this as well.",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the pending migrations without applying them")


def run(invocation: Invocation) -> int:
    settings, dry_run = invocation.settings, invocation.arguments.dry_run
    found = asyncio.run(inspect_database(settings))
    say(f"{settings.database_shown} has schema version {found.version}.")
    if not dry_run:
        asyncio.run(_open(invocation))
    for migration in found.pending:
        say(f"{migration} {'would be applied' if dry_run else 'was applied'}.")
    if found.pending and not dry_run:
        say(f"{settings.database_shown} has schema version {asyncio.run(inspect_database(settings)).version}.")
    if not found.pending:
        say("No migrations are pending.")
    return 0


async def _open(invocation: Invocation) -> None:
    async with open_installation(invocation.settings, invocation.clock, invocation.log):
        pass
