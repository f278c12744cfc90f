"""`discue rotate-key`: re-encrypts all secrets with another key while servers run."""

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from discue.cli.command import Invocation, Progress, operator_command, require_database, resumable
from discue.cli.declarations import Command, switch
from discue.cli.output import say
from discue.control import encryption
from discue.control.context import ControlContext
from discue.control.encryption import RotationStep, missing_keys
from discue.crypto import keyring
from discue.crypto.keyring import key_id_of
from discue.domain.errors import DiscueError, SettingsInvalid
from discue.server.installation import open_installation
from discue.store import encryption as encryption_rows
from discue.store.encryption import RowKey

_RESUME_HINT: Final = "The progress is kept: run the same command again, without --new-key, to continue."
_SHOWN: Final = 10


def command() -> Command:
    return operator_command(
        "rotate-key",
        _run,
        switch("--new-key", "add a new key to the key file, before the others"),
        switch(
            "--replace-lost",
            "where the key of secrets is lost: create new signing secrets for listeners, and remove the secrets of "
            "sources and the second factors of users",
        ),
        description="Servers keep running: first add the new key to all of them, before the old one; remove the old "
        "key when this command has finished. Run it again to continue after an interruption. Unencrypted secrets "
        "are encrypted as well.",
    )


async def _run(invocation: Invocation) -> None:
    await require_database(invocation.settings)
    if invocation.arguments.new_key:
        _make_key(invocation)
    async with open_installation(invocation.settings, invocation.clock, invocation.log) as control:
        with resumable(invocation, _RESUME_HINT) as progress:
            await _rotate(invocation, control, progress)


def _make_key(invocation: Invocation) -> None:
    path = keyring.key_file_path(invocation.settings)
    if path is None:
        raise SettingsInvalid(
            "There is no key file. Add a new key before the others in encryption_key instead; "
            "`openssl rand -base64 32` creates one."
        )
    say(f"{path} has the new key {key_id_of(keyring.add_new_key(path, os.urandom))}. Keep a copy of the file.")


async def _rotate(invocation: Invocation, control: ControlContext, progress: Progress) -> None:
    """Move all secrets to the first key and verify it. Raises DiscueError if some are left."""
    key_id, replaces = control.keyring.first, bool(invocation.arguments.replace_lost)
    if not key_id:
        raise SettingsInvalid(
            "No encryption key is configured. Set encryption_key or encryption_key_file (`openssl rand -base64 32` "
            "creates a key), or use --new-key."
        )
    state = await control.store.read(encryption_rows.read)
    missing = [key for key in state.needed if not control.keyring.knows(key)]
    if missing and not replaces:
        raise DiscueError(missing_keys(invocation.settings, missing))
    await encryption.begin(control, key_id)
    moved = await _run_steps("encrypting", control, progress, partial(encryption.step, replace_lost=replaces))
    # The operator may throw the old keys away afterwards: first, all rows are read once more.
    verified = await _run_steps("verifying", control, progress, encryption.find_left)
    if verified.unreadable:
        raise DiscueError(_left_over(verified.unreadable))
    if not await encryption.finish(control, key_id):
        raise DiscueError("Another `discue rotate-key` has started a rotation to another key.")
    _say_summary(key_id, moved)


async def _run_steps(
    what: str, control: ControlContext, progress: Progress, step: Callable[..., Awaitable[RotationStep]]
) -> RotationStep:
    """Run a step for each part of the rows. Returns the sums of all steps."""
    progress.begin(await control.store.read(encryption_rows.count))
    total = RotationStep(after=None, rows=0, moved=0)
    while (done := await step(control, control.keyring.first, total.after)).after is not None:
        total = RotationStep(
            after=done.after,
            rows=total.rows + done.rows,
            moved=total.moved + done.moved,
            unreadable=(*total.unreadable, *done.unreadable),
            unreadable_users=total.unreadable_users + done.unreadable_users,
        )
        progress.show(what, total.rows)
    return total


def _say_summary(key_id: str, done: RotationStep) -> None:
    say(f"All secrets are encrypted with the key {key_id}. Listeners, sources and users moved: {done.moved:,}.")
    if listeners := len(done.unreadable) - done.unreadable_users:
        say(f"{listeners:,} listeners or sources have lost their secrets. Set the secrets of sources again.")
        say("Listeners have new secrets that no receiver knows. Create others with the API:")
        say("  POST /queues/{queue_id}/listeners/{listener_id}/secrets")
        say("Listeners with an `authentication` receive nothing until it is sent again: its secret is also lost.")
    if done.unreadable_users:
        say(f"{done.unreadable_users:,} users have lost their second factor, and sign in without one.")
    say("Servers do not need older keys any more. Keep those keys as long as you keep older backups.")


def _left_over(left: Sequence[RowKey]) -> str:
    """Return the error for secrets that are left. It names row ids, as operators may have no access by the API."""
    named = ", ".join(f"{organization}/{listener}" for organization, listener in left[:_SHOWN])
    more = f" and {len(left) - _SHOWN:,} more" if len(left) > _SHOWN else ""
    return (
        f"The secrets of {len(left):,} listeners, sources or users cannot be decrypted (organization/id in "
        f"their table: {named}{more}): their key is not configured, or the rows were changed. Add the key, or use "
        "--replace-lost to create new secrets."
    )
