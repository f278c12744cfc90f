"""`discue backup` and `discue restore`: back up a SQLite database while it is served, and restore it."""

import argparse
import os
from pathlib import Path

from discue.backup.create import BackupPlan, backup_keys
from discue.backup.destination import require_usable
from discue.backup.restore import RestoreResult, require_replaceable, selected_backup
from discue.backup.restore import restore as restored
from discue.backup.schedule import create_in_child
from discue.cli.command import Invocation, operator_command
from discue.cli.declarations import Command, argument, option, switch
from discue.cli.output import note, say, when
from discue.cli.user.arguments import moment
from discue.config.settings import Settings
from discue.config.types import DURATION
from discue.crypto import keyring
from discue.crypto.keyring import key_id_of
from discue.domain.errors import DiscueError, StoreUnusable
from discue.server.signals import completed, stop_on_signal


def command() -> Command:
    return operator_command(
        "backup",
        _run,
        argument(
            "destination",
            "existing folder, ideally on the disk of another machine, or s3://bucket/prefix, with the variables AWS_…",
            metavar="DEST",
        ),
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
    key = None if arguments.encrypt is None else backup_keys(arguments.encrypt)[0]
    require_usable(arguments.destination, os.environ)
    plan = BackupPlan(database, arguments.destination, key, arguments.keep)
    if not await completed(_make(plan), stop_on_signal(call.log)):
        raise DiscueError("Stopped. No backup was made.")


async def _make(plan: BackupPlan) -> None:
    made = await create_in_child(plan)
    header = made.header
    say(f"{plan.database} was backed up to {made.path}.")
    say(f"  Schema version {header.schema_version}; {header.database_bytes:,} bytes became {made.size:,}.")
    for path in made.deleted:
        say(f"{path} was deleted.")
    for problem in made.problems:
        note(f"discue: {problem} It was not deleted.")


def restore() -> Command:
    return operator_command(
        "restore",
        _restore,
        argument(
            "backup",
            "a backup file, or a folder or s3://bucket/prefix, whose newest backup is restored",
            metavar="BACKUP",
        ),
        option("--to FILE", "the database file to create", Path, required=True),
        option("--at TIME", "select the newest backup before this time, such as 2h or 2026-07-01T12:00Z", moment),
        option("--decrypt FILE", "file with the key of an encrypted backup, or several keys", Path),
        switch("--force", "replace an existing database, and keep it under another name"),
        description="Verifies the whole backup, and checks the database in it, before it replaces anything. Stop the "
        "servers of the database first.",
    )


def _restore(call: Invocation) -> None:
    arguments = call.arguments
    target: Path = arguments.to
    keys = () if arguments.decrypt is None else backup_keys(arguments.decrypt)
    require_replaceable(target, force=arguments.force)
    with selected_backup(arguments.backup, arguments.at, target.parent, os.environ) as backup:
        found = restored(backup.path, target, keys, call.clock, force=arguments.force)
        say(f"{backup.name} was restored to {target}.")
    counts = ", ".join(f"{name}: {count:,}" for name, count in found.contents.counts.items())
    say(f"  Schema version {found.contents.identity.schema_version}; {counts}.")
    if found.replaced is not None:
        say(f"The database that was there before is {found.replaced}.")
    say(f"The database is as it was at {when(found.header.created_at)}. Everything since then is forgotten:")
    say("  Messages published since are lost, although they were confirmed: their producers must send them again.")
    say("  Messages delivered since are delivered again, with the same webhook-id.")
    say("  Keys, queues and listeners are as they were: what was revoked or deleted since works again.")
    _say_keys(found, target)


def _say_keys(found: RestoreResult, target: Path) -> None:
    needed = found.contents.identity.encryption.needed
    path = keyring.key_file_path(Settings(database=f"sqlite:///{target}"))
    if not needed or path is None:
        return
    available = [key_id_of(key) for key in keyring.read_keys(path)]
    missing = [key for key in needed if key not in available]
    if missing:
        say(
            f"The signing secrets need the encryption key {', '.join(missing)}, which {path} does not contain: copy it "
            "there, or set encryption_key_file, before the next start."
        )
