"""`discue backup`: backs up a SQLite database, once or at intervals."""

import argparse
import asyncio
import os
from pathlib import Path
from typing import Final

from discue.backup.create import BackupPlan, backup_keys
from discue.backup.destination import require_usable
from discue.backup.schedule import BackupSchedule, create_in_child
from discue.cli.command import Invocation, operator_command
from discue.cli.declarations import Command, argument, option
from discue.cli.output import note, say
from discue.config.types import DURATION
from discue.dispatch.lease import Leadership
from discue.domain.errors import DiscueError, SettingsInvalid, StoreUnusable
from discue.server.signals import completed, stop_on_signal

_CHECK_SECONDS: Final = 1.0


def command() -> Command:
    return operator_command(
        "backup",
        _run,
        argument(
            "destination",
            "existing folder, ideally on the disk of another machine, or s3://bucket/prefix, with the variables AWS_…",
            metavar="DEST",
        ),
        option("--every TIME", "keep running, and make a backup at this interval, such as 10m or 1d", duration),
        option(
            "--keep TIME",
            "afterwards, delete whole backups of this installation that are older than this, such as 7d",
            duration,
        ),
        option("--encrypt FILE", "file with a key of 32 bytes in base64, which encrypts the backup", Path),
        description="Copies the database as it is at one moment, checks the copy, and stores it compressed in a "
        "folder, as a whole or not at all. Servers may run. Encryption keys of the installation are not part of the "
        "backup: keep a copy of them elsewhere.",
    )


def duration(text: str) -> float:
    """Parse a duration in the form of settings."""
    try:
        return float(str(DURATION.parse(text)))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {DURATION.expected}") from None


async def _run(call: Invocation) -> None:
    arguments, database = call.arguments, call.settings.database_path
    if database is None:
        raise StoreUnusable(
            "discue backup is for SQLite. Back up PostgreSQL with pg_basebackup and WAL archiving, see docs/backup.md."
        )
    if arguments.every is not None and arguments.keep is not None and arguments.keep < arguments.every:
        raise SettingsInvalid("--keep must not be shorter than --every.")
    key = None if arguments.encrypt is None else backup_keys(arguments.encrypt)[0]
    require_usable(arguments.destination, os.environ)
    plan = BackupPlan(database, arguments.destination, key, arguments.keep)
    stop = stop_on_signal(call.log)
    if arguments.every is None:
        if not await completed(_make_once(plan), stop):
            raise DiscueError("Stopped. No backup was made.")
    else:
        schedule = BackupSchedule(plan, arguments.every, call.clock, log=call.log, leadership=Leadership(is_held=True))
        await completed(_repeat(schedule), stop)


async def _make_once(plan: BackupPlan) -> None:
    made = await create_in_child(plan)
    header = made.header
    say(f"{plan.database} was backed up to {made.path}.")
    say(f"  Schema version {header.schema_version}; {header.database_bytes:,} bytes became {made.size:,}.")
    for path in made.deleted:
        say(f"{path} was deleted.")
    for problem in made.problems:
        note(f"discue: {problem} It was not deleted.")


async def _repeat(schedule: BackupSchedule) -> None:
    while True:
        await schedule.round()
        await asyncio.sleep(_CHECK_SECONDS)
