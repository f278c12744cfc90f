"""Key files: encryption keys in base64, one per line. The first one encrypts; only the owner may read the file."""

import os
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from discue.config.settings import Settings
from discue.config.types import parse_encryption_key
from discue.crypto.keyring import KEY_BYTES
from discue.domain.errors import SettingsInvalid
from discue.domain.ids import RandomBytes

SUFFIX: Final = ".key"

_HEADING: Final = (
    "# Encryption keys of discue, one per line. The first one encrypts new secrets; the others decrypt older ones.\n"
    "# Without them the signing secrets of listeners are lost. Keep a copy, apart from backups of the database.\n"
)


def key_file_path(settings: Settings) -> Path | None:
    """Return the path of the key file, which may not exist: the configured one, or the one next to a database file.

    None if there is none: the keys are configured themselves, or the database is PostgreSQL.
    """
    if settings.encryption_key or settings.encryption_key_file is not None:
        return settings.encryption_key_file
    database = settings.database_path
    return None if database is None else database.with_name(database.name + SUFFIX)


def current_keys(settings: Settings) -> tuple[bytes, ...]:
    """Return the current keys. Raises SettingsInvalid if the key file cannot be read."""
    path = key_file_path(settings)
    return read_keys(path) if path is not None else settings.encryption_key or ()


def read_keys(path: Path) -> tuple[bytes, ...]:
    """Return the keys in a file; none if it does not exist. Raises SettingsInvalid if it cannot be read."""
    try:
        lines = path.read_text("ascii").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise SettingsInvalid(f"Cannot read the encryption keys in {path}: {reason}.") from None
    return tuple(_key(path, number, line) for number, line in enumerate(lines, 1) if line and line[0] != "#")


def add_new_key(path: Path, random_bytes: RandomBytes) -> bytes:
    """Insert a new key at the beginning of a file, and return it."""
    key = random_bytes(KEY_BYTES)
    insert_keys(path, (key,))
    return key


def insert_keys(path: Path, keys: Sequence[bytes]) -> None:
    """Insert keys at the beginning of a file, which keeps its owner. Creates the file if it does not exist."""
    temporary = write_temporary(path, _content(tuple(dict.fromkeys((*keys, *read_keys(path))))))
    if path.exists() and (before := path.stat()).st_uid != os.geteuid():
        # The superuser runs the command, and the service, which has a user of its own, must be able to read the file.
        os.chown(temporary, before.st_uid, before.st_gid)
    # Replaced at once: another process reads all keys of before or all of after, never a part of them.
    temporary.replace(path)


def create_key_file(path: Path, random_bytes: RandomBytes) -> tuple[bytes, ...]:
    """Create a file with a new key, unless it exists, and return its keys. Safe in several processes at once."""
    temporary = write_temporary(path, _content((random_bytes(KEY_BYTES),)))
    # link() fails if the file exists: exactly one of several processes creates it, and none reads a partial file.
    with suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()
    return read_keys(path)


def is_private(path: Path) -> bool:
    """Return whether only the owner may read the file."""
    return path.stat().st_mode & 0o077 == 0


def write_temporary(path: Path, content: str) -> Path:
    """Write and sync a temporary file in the same directory, which only the owner may read."""
    # In the same directory, because a file can be linked and replaced only within a file system.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    # Private from the start, not after a chmod.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(content)
        file.flush()
        # Secrets that are sealed with a key must not outlive it in a power failure.
        os.fsync(descriptor)
    return temporary


def _content(keys: Sequence[bytes]) -> str:
    return _HEADING + "".join(b64encode(key).decode() + "\n" for key in keys)


def _key(path: Path, number: int, line: str) -> bytes:
    try:
        return parse_encryption_key(line.strip())
    except ValueError:
        raise SettingsInvalid(f"{path}, line {number}: expected 32 bytes in base64.") from None
