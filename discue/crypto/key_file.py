"""A file with encryption keys: one a line in base64, the first of them for what is new. Its owner alone reads it."""

import os
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from discue.config.settings import Settings
from discue.config.types import encryption_key
from discue.crypto.keyring import KEY_BYTES
from discue.domain.errors import SettingsInvalid
from discue.domain.ids import RandomBytes

SUFFIX: Final = ".key"

_HEADING: Final = (
    "# Keys of discue, one a line. What is new is encrypted under the first, older ones open what is older.\n"
    "# Without them listeners' signing secrets are lost: keep a copy, apart from the backups of the database.\n"
)


def place_of(settings: Settings) -> Path | None:
    """The file that keys are read from, there or not: the one that is named, or else the one beside a database file.

    None where keys are given themselves.
    """
    if settings.encryption_key or settings.encryption_key_file is not None:
        return settings.encryption_key_file
    database = settings.database_path
    return None if database is None else database.with_name(database.name + SUFFIX)


def keys_of(settings: Settings) -> tuple[bytes, ...]:
    """Those that hold at this moment. Raises SettingsInvalid for a file that cannot be read."""
    path = place_of(settings)
    return read(path) if path is not None else settings.encryption_key or ()


def read(path: Path) -> tuple[bytes, ...]:
    """No keys where there is no file."""
    try:
        lines = path.read_text("ascii").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsInvalid(f"The encryption keys in {path} cannot be read: {reason}.") from None
    return tuple(_key(path, number, line) for number, line in enumerate(lines, 1) if line and line[0] != "#")


def add_new(path: Path, random_bytes: RandomBytes) -> bytes:
    """Put a new key before those that are there, if any are."""
    key = random_bytes(KEY_BYTES)
    put(path, (key,))
    return key


def put(path: Path, keys: Sequence[bytes]) -> None:
    """Put keys before those that are there, if any are."""
    _written(path, tuple(dict.fromkeys((*keys, *read(path))))).replace(path)


def make(path: Path, random_bytes: RandomBytes) -> tuple[bytes, ...]:
    """A file with a new key; of several processes that make it at once, one does. The keys that are in it then."""
    fresh = _written(path, (random_bytes(KEY_BYTES),))
    with suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()
    return read(path)


def is_private(path: Path) -> bool:
    """Whether its owner alone may read it."""
    return path.stat().st_mode & 0o077 == 0


def _written(path: Path, keys: Sequence[bytes]) -> Path:
    """A file beside it, whole and on the disk."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(_HEADING + "".join(b64encode(key).decode() + "\n" for key in keys))
        file.flush()
        os.fsync(descriptor)
    return fresh


def _key(path: Path, number: int, line: str) -> bytes:
    try:
        return encryption_key(line.strip())
    except ValueError:
        raise SettingsInvalid(f"{path}, line {number}: 32 bytes in base64 are expected.") from None
