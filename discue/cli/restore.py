"""`discue restore`: restores a SQLite database from a backup, and says what that means."""

import os
from pathlib import Path

from discue.backup import restore as restoring
from discue.backup.create import backup_keys
from discue.backup.restore import RestoreResult, require_replaceable, selected_backup
from discue.cli.command import Invocation, operator_command
from discue.cli.declarations import Command, argument, option, switch
from discue.cli.output import say, when
from discue.cli.user.arguments import moment
from discue.config.settings import Settings
from discue.crypto import keyring
from discue.crypto.keyring import key_id_of
from discue.server.process import alone_on


def command() -> Command:
    return operator_command(
        "restore",
        _run,
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


def _run(call: Invocation) -> None:
    arguments = call.arguments
    target: Path = arguments.to
    keys = () if arguments.decrypt is None else backup_keys(arguments.decrypt)
    require_replaceable(target, force=arguments.force)
    with (
        alone_on(target),
        selected_backup(arguments.backup, arguments.at, target.parent, os.environ) as backup,
    ):
        found = restoring.restore(backup.path, target, keys, call.clock)
        say(f"{backup.name} was restored to {target}.")
    _say_summary(found)
    _say_consequences(found)
    _say_keys(found, target)


def _say_summary(found: RestoreResult) -> None:
    counts = ", ".join(f"{name}: {count:,}" for name, count in found.contents.counts.items())
    say(f"  Schema version {found.contents.identity.schema_version}; {counts}.")
    if found.replaced is not None:
        say(f"The database that was there before is {found.replaced}.")


def _say_consequences(found: RestoreResult) -> None:
    say(f"The database is as it was at {when(found.header.created_at)}. Everything since then is forgotten:")
    say("  Messages published since are lost, although they were confirmed: their producers must send them again.")
    say("  Messages delivered since are delivered again, with the same webhook-id.")
    say("  Keys, queues and listeners are as they were: what was revoked or deleted since works again.")


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
