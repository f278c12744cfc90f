"""Encryption before signing secrets are read: the keys must be there, and be the right ones."""

import os
from pathlib import Path

from discue.config.settings import Settings
from discue.control import encryption
from discue.crypto import key_file
from discue.crypto.keyring import key_id_of
from discue.domain.errors import StoreUnusable
from discue.observability.logs import Log
from discue.server.installation import Installation
from discue.store import encryption as encryption_rows
from discue.store.encryption import CLEAR, Encryption


async def establish(installation: Installation, log: Log, *, makes: Path | None = None) -> None:
    """To be called before listeners are. On a new database, everything is encrypted from now on, if there is a key.

    With a file of SQLite, which nobody else serves, what stands in the clear is encrypted, too; and without any key,
    one is made beside it. `makes` is a file that one is made in instead.
    Raises StoreUnusable when a key is missing without which signing secrets cannot be read.
    """
    control, keyring, settings = installation.control, installation.keyring, installation.settings
    stands = await control.store.read(encryption_rows.read)
    missing = [key for key in stands.needed if not keyring.knows(key)]
    if missing:
        raise StoreUnusable(missing_keys(settings, missing))
    place = makes or own_place(settings)
    if stands.current == CLEAR and not keyring.first and place is not None:
        keyring.knows(key_id_of(key_file.create_key_file(place, os.urandom)[0]))
        log.info("encryption_key_made", file=str(place), reason="Keep a copy of it, apart from those of the database.")
    if not keyring.first:
        log.warning("not_encrypted", reason="Signing secrets are stored in the clear: set encryption_key.")
    elif await _is_ours_to_move(installation, stands):
        await _move_everything(installation, log, stands.current or keyring.first)
    elif stands.leaving or stands.current != keyring.first:
        log.warning("encryption_unfinished", reason="Not all is under the first key: run `discue rotate-key`.")


def own_place(settings: Settings) -> Path | None:
    """The key file that is made without a word about it: the one beside a database file, where nothing else is said."""
    return key_file.key_file_path(settings) if settings.encryption_key_file is None else None


def missing_keys(settings: Settings, missing: list[str]) -> str:
    """The way out for who cannot read what is encrypted."""
    place = key_file.key_file_path(settings)
    given = "encryption_key" if place is None else str(place)
    keys = f"key {missing[0]}" if len(missing) == 1 else f"keys {', '.join(missing)}"
    return (
        f"Signing secrets in {settings.database_shown} are encrypted, and the {keys} to them is not in {given}. "
        "Restore the file, or give the key by encryption_key or encryption_key_file. If it is lost for good, "
        "`discue rotate-key --replace-lost` gives those listeners new secrets."
    )


def carry_keys(source: Settings, target: Settings) -> str:
    """See to it that a copy of a database can be read, as its source could; a sentence about that, "" if none is due.

    What is encrypted was copied as it is.
    """
    old, new = key_file.key_file_path(source), key_file.key_file_path(target)
    keys = key_file.read_keys(old) if old is not None else source.encryption_key or ()
    if not keys or old == new:
        return "It needs the same encryption keys." if keys else ""
    if new is None:
        return f"It needs the encryption keys in {old}: name the file by encryption_key_file."
    key_file.insert_keys(new, keys)
    return f"The encryption keys in {old} were copied, too, to {new}."


async def _is_ours_to_move(installation: Installation, stands: Encryption) -> bool:
    """On a server others may be at work that do not know the key yet: there, the operator says when."""
    if installation.settings.database_path is not None:
        return stands.current == CLEAR or bool(stands.leaving)
    return stands.current == CLEAR and not await installation.store.read(encryption_rows.count)


async def _move_everything(installation: Installation, log: Log, key_id: str) -> None:
    control, after, unreadable = installation.control, None, 0
    await encryption.begin(control, key_id)
    while (done := await encryption.step(control, key_id, after)).after is not None:
        after = done.after
        unreadable += len(done.unreadable)
    if unreadable:
        log.error("secrets_unreadable", listeners=unreadable, reason="Run `discue rotate-key` to see which, and why.")
    else:
        await encryption.finish(control, key_id)
