"""`discue rotate-key`: re-encrypts all secrets with another key while servers run."""

import os
from typing import Final

from discue.cli.command import Invocation, operator_command, require_database
from discue.cli.declarations import Command, switch
from discue.cli.output import say
from discue.cli.progress import ProgressLine, resumable
from discue.control import encryption
from discue.control.context import ControlContext
from discue.control.encryption import missing_keys
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
            "create new signing secrets for listeners whose secrets cannot be decrypted because their key is lost, "
            "and remove such second factors of users",
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
        with resumable(invocation, _RESUME_HINT) as line:
            rotation = _Rotation(invocation, control, line)
            await rotation.run()
    rotation.say_summary()


def _make_key(invocation: Invocation) -> None:
    path = keyring.key_file_path(invocation.settings)
    if path is None:
        raise SettingsInvalid(
            "There is no key file. Add a new key before the others in encryption_key instead; "
            "`openssl rand -base64 32` creates one."
        )
    say(f"{path} has the new key {key_id_of(keyring.add_new_key(path, os.urandom))}. Keep a copy of the file.")


class _Rotation:
    """A rotation to the first key, with a progress line."""

    def __init__(self, invocation: Invocation, control: ControlContext, line: ProgressLine) -> None:
        self._settings = invocation.settings
        self._replaces = bool(invocation.arguments.replace_lost)
        self._control = control
        self._line = line
        self._key_id = control.keyring.first
        self._moved = 0
        self._unreadable: list[RowKey] = []
        self._unreadable_users = 0

    async def run(self) -> None:
        """Move all secrets to the key and verify it. Raises DiscueError if some are left."""
        if not self._key_id:
            raise SettingsInvalid(
                "No encryption key is configured. Set encryption_key or encryption_key_file (`openssl rand -base64 32` "
                "creates a key), or use --new-key."
            )
        state = await self._control.store.read(encryption_rows.read)
        missing = [key for key in state.needed if not self._control.keyring.knows(key)]
        if missing and not self._replaces:
            raise DiscueError(missing_keys(self._settings, missing))
        await encryption.begin(self._control, self._key_id)
        total = await self._control.store.read(encryption_rows.count)
        # The operator may throw the old keys away afterwards: first, all rows are read once more.
        await self._move(total)
        await self._verify(total)
        if not await encryption.finish(self._control, self._key_id):
            raise DiscueError("Another `discue rotate-key` has started a rotation to another key.")

    def say_summary(self) -> None:
        say(f"All secrets are encrypted with the key {self._key_id}. Listeners and users moved: {self._moved:,}.")
        if listeners := len(self._unreadable) - self._unreadable_users:
            say(f"{listeners:,} listeners have new secrets that no receiver knows. Create others with the API:")
            say("  POST /queues/{queue_id}/listeners/{listener_id}/secrets")
            say("Listeners with an `authentication` receive nothing until it is sent again: its secret is lost, too.")
        if self._unreadable_users:
            say(f"{self._unreadable_users:,} users have lost their second factor, and sign in without one.")
        say("Servers do not need older keys any more. Keep those keys as long as you keep older backups.")

    async def _move(self, total: int) -> None:
        self._line.begin(0, total)
        after, read = None, 0
        while True:
            done = await encryption.step(self._control, self._key_id, after, replace_lost=self._replaces)
            if done.after is None:
                return
            after, read = done.after, read + done.rows
            self._moved += done.moved
            self._unreadable.extend(done.unreadable)
            self._unreadable_users += done.unreadable_users
            self._line.show("encrypting", read)

    async def _verify(self, total: int) -> None:
        self._line.begin(0, total)
        after, read, left = None, 0, list[RowKey]()
        while (found := await encryption.find_left(self._control, self._key_id, after)).after is not None:
            after, read = found.after, read + found.rows
            left.extend(found.unreadable)
            self._line.show("verifying", read)
        if left:
            raise DiscueError(_left_over(left))


def _left_over(left: list[RowKey]) -> str:
    """Return the error for secrets that are left. It names row ids, as operators may have no access by the API."""
    named = ", ".join(f"{organization}/{listener}" for organization, listener in left[:_SHOWN])
    more = f" and {len(left) - _SHOWN:,} more" if len(left) > _SHOWN else ""
    return (
        f"The secrets of {len(left):,} listeners or users cannot be decrypted (organization/id in their table: "
        f"{named}{more}): their key is not configured, or the rows were changed. Add the key, or use --replace-lost to "
        "create new secrets."
    )
