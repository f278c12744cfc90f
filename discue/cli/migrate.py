"""`discue migrate`: applies pending migrations to a database."""

from discue.cli.command import Invocation, add_command
from discue.cli.output import say
from discue.cli.verbs import Commands
from discue.server.installation import inspect_database, open_installation


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "migrate",
        _migrate,
        summary="apply pending migrations to the database",
        description="Every command that opens the database does this as well.",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the pending migrations without applying them")


async def _migrate(call: Invocation) -> None:
    settings, dry_run = call.settings, call.arguments.dry_run
    found = await inspect_database(settings)
    say(f"{settings.database_shown} has schema version {found.version}.")
    if not dry_run:
        async with open_installation(settings, call.clock, call.log):
            pass
    for migration in found.pending:
        say(f"{migration} {'would be applied' if dry_run else 'was applied'}.")
    if found.pending and not dry_run:
        say(f"{settings.database_shown} has schema version {(await inspect_database(settings)).version}.")
    if not found.pending:
        say("No migrations are pending.")
