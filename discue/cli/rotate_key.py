"""`discue rotate-key`: encrypt everything under another key, while servers run."""

import asyncio
import os
import sys
from typing import Final

from discue.cli.command import Commands, Invocation, ProgressLine, add_command, say
from discue.cli.encryption import missing_keys
from discue.control import encryption
from discue.crypto import key_file
from discue.crypto.keyring import key_id_of
from discue.domain.errors import DiscueError, SettingsInvalid, Unavailable
from discue.server.installation import Installation, opened
from discue.server.processes import stop_asked
from discue.store import encryption as encryption_rows
from discue.store.encryption import RowKey

_GO_ON: Final = "What was done is kept: the same command, without --new-key, goes on from there."
_SHOWN: Final = 10


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "rotate-key",
        "rotate-key",
        run,
        summary="encrypt all signing secrets under the first key of the settings",
        description="Servers go on meanwhile: give all of them the new key first, beside the old one, and take the old "
        "one away when this has ended. One that was interrupted goes on when it is called again. What was never "
        "encrypted is encrypted by this, too.",
    )
    parser.add_argument("--new-key", action="store_true", help="put a new key into the key file before the others")
    parser.add_argument(
        "--replace-lost",
        action="store_true",
        help="give new signing secrets to listeners whose own cannot be read any more, because their key is lost",
    )


def run(invocation: Invocation) -> int:
    return asyncio.run(_run(invocation))


async def _run(invocation: Invocation) -> int:
    if invocation.arguments.new_key:
        _make_key(invocation)
    async with opened(invocation.settings, invocation.clock, invocation.log) as installation:
        line = ProgressLine(sys.stderr, invocation.clock)
        rotation = _Rotation(invocation, installation, line)
        try:
            await rotation.run()
        except Unavailable as error:
            raise DiscueError(f"{error.detail} {_GO_ON}") from error
        finally:
            line.end()
    rotation.say_summary()
    return 0


def _make_key(invocation: Invocation) -> None:
    path = key_file.key_file_path(invocation.settings)
    if path is None:
        raise SettingsInvalid(
            "There is no key file to put a new key into. Put one before the others in encryption_key instead: "
            "`openssl rand -base64 32` makes one."
        )
    say(f"{path} has the new key {key_id_of(key_file.add_new_key(path, os.urandom))}. Keep a copy of the file.")


class _Rotation:
    """To the first key, with word of how far it is."""

    def __init__(self, invocation: Invocation, installation: Installation, line: ProgressLine) -> None:
        self._settings = invocation.settings
        self._replaces = bool(invocation.arguments.replace_lost)
        self._control = installation.control
        self._line = line
        self._stop = stop_asked(invocation.log)
        self._key_id = installation.keyring.first
        self._moved = 0
        self._unreadable: list[RowKey] = []

    async def run(self) -> None:
        """Raises DiscueError unless everything is under the key in the end, as a last look at all of it shows."""
        if not self._key_id:
            raise SettingsInvalid(
                "No encryption key is given. Set encryption_key or encryption_key_file: `openssl rand -base64 32` "
                "makes a key; or let --new-key make one in the file."
            )
        await self._require_keys()
        await encryption.begin(self._control, self._key_id)
        total = await self._control.store.read(encryption_rows.count)
        await self._move(total)
        await self._verify(total)
        if not await encryption.finish(self._control, self._key_id):
            raise DiscueError("Meanwhile another `discue rotate-key` has begun to move everything to another key.")

    def say_summary(self) -> None:
        moved = f"those of {self._moved:,} listeners were moved to it"
        say(f"All signing secrets are encrypted under the key {self._key_id}; {moved}.")
        if self._unreadable:
            say(f"{len(self._unreadable):,} listeners have new secrets that nobody knows. Make others by the API:")
            say("  POST /queues/{queue_id}/listeners/{listener_id}/secrets")
            say("Those with an `authentication` get nothing before that was given again: its secret is lost, too.")
        say("No server needs an older key any more. Keep those for as long as you keep older backups.")

    async def _require_keys(self) -> None:
        stands = await self._control.store.read(encryption_rows.read)
        missing = [key for key in stands.needed if not self._control.keyring.knows(key)]
        if missing and not self._replaces:
            raise DiscueError(missing_keys(self._settings, missing))

    async def _move(self, total: int) -> None:
        self._line.begin(0, total)
        after, looked_at = None, 0
        while True:
            self._go_on()
            done = await encryption.step(self._control, self._key_id, after, replace_lost=self._replaces)
            if done.after is None:
                return
            after, looked_at = done.after, looked_at + done.rows
            self._moved += done.moved
            self._unreadable.extend(done.unreadable)
            self._line.show("encrypting", looked_at)

    async def _verify(self, total: int) -> None:
        self._line.begin(0, total)
        after, looked_at, left = None, 0, list[RowKey]()
        while (found := await encryption.find_left(self._control, self._key_id, after)).after is not None:
            self._go_on()
            after, looked_at = found.after, looked_at + found.rows
            left.extend(found.unreadable)
            self._line.show("looking at all of them once more", looked_at)
        if left:
            raise DiscueError(_left_over(left))

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise DiscueError(f"Stopped. {_GO_ON}")


def _left_over(left: list[RowKey]) -> str:
    """The rows are named as the database has them: who reads this cannot ask the API for them."""
    named = ", ".join(f"{organization}/{listener}" for organization, listener in left[:_SHOWN])
    more = f" and {len(left) - _SHOWN:,} more" if len(left) > _SHOWN else ""
    return (
        f"The secrets of {len(left):,} listeners cannot be opened (organization/id in the table listener: "
        f"{named}{more}): their key is not among those given, or they were changed. Give the key too, or let "
        "--replace-lost give them new secrets."
    )
