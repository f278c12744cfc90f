"""Encryption at rest with ChaCha20-Poly1305 and several keys, and the files with these keys.

Sealed content contains the id of its key, and is bound to its row by associated data: it cannot be decrypted in another
row. The first byte distinguishes it from plaintext.

A key file has keys in base64, one per line. The first one encrypts; only the owner may read the file.
"""

import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from discue.config.settings import Settings
from discue.config.types import parse_encryption_key
from discue.domain.errors import SettingsInvalid
from discue.domain.ids import RandomBytes

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12

_VERSION: Final = b"\x01"
"""First byte of sealed content. No JSON text starts with it. Another format would get another byte."""

_ID_BYTES: Final = 8
_HEADER_BYTES: Final = len(_VERSION) + _ID_BYTES
_NONCE_END: Final = _HEADER_BYTES + NONCE_BYTES
_NO_KEY: Final = "00"


class UnknownKey(ValueError):
    """The content was sealed with a key that this process does not have."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"unknown encryption key {key_id}")
        self.key_id = key_id


class DecryptionFailed(ValueError):
    """The content was sealed with other associated data, or has been modified."""


def key_id_of(key: bytes) -> str:
    """Return the public id of a key, which reveals nothing about it."""
    # Personalized, so that the stored id equals no other hash of the key.
    return hashlib.blake2b(key, digest_size=_ID_BYTES, person=b"encryption key").hexdigest()


def key_id_in(sealed: bytes) -> str:
    """Return the id of the key that the content was sealed with; "" for plaintext."""
    # Content that ends after the version is not plaintext, either. No key has the id 00.
    return sealed[len(_VERSION) : _HEADER_BYTES].hex() or _NO_KEY if sealed[:1] == _VERSION else ""


class Keyring:
    """A set of keys.

    A new installation seals with the first key; for others, the database contains the id of the current key.
    """

    def __init__(self, keys: Sequence[bytes] = (), find_keys: Callable[[], Iterable[bytes]] = tuple) -> None:
        """`find_keys` is called for the current keys when an unknown one is needed."""
        self._ciphers: dict[str, ChaCha20Poly1305] = {}
        self._find_keys = find_keys
        self._add(keys)

    @property
    def first(self) -> str:
        """Id of the first key; "" without keys."""
        return next(iter(self._ciphers), "")

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._ciphers)})"

    def knows(self, key_id: str) -> bool:
        """Return whether the key is available. Always true for "", which means plaintext."""
        if key_id and key_id not in self._ciphers:
            self._add(self._find_keys())
        return not key_id or key_id in self._ciphers

    def seal(self, key_id: str, content: bytes, associated_data: bytes, nonce: bytes) -> bytes:
        """Encrypt content; with the key id "" return it unchanged. Raises UnknownKey.

        `nonce` must be 12 random bytes. Raises ValueError for plaintext that would look like sealed content.
        """
        if not key_id:
            if content[:1] == _VERSION:
                raise ValueError("plaintext must not begin like sealed content")
            return content
        # With the key id, rows can be re-encrypted one by one during a rotation.
        return _VERSION + bytes.fromhex(key_id) + nonce + self._cipher(key_id).encrypt(nonce, content, associated_data)

    def open(self, stored: bytes, associated_data: bytes) -> bytes:
        """Decrypt content; return plaintext unchanged. Raises UnknownKey and DecryptionFailed."""
        key_id = key_id_in(stored)
        if not key_id:
            return stored
        try:
            return self._cipher(key_id).decrypt(stored[_HEADER_BYTES:_NONCE_END], stored[_NONCE_END:], associated_data)
        # Truncated content raises ValueError: its nonce is too short.
        except (InvalidTag, ValueError) as error:
            if isinstance(error, UnknownKey):
                raise
            raise DecryptionFailed("the content was encrypted for another row, or has been modified") from None

    def _cipher(self, key_id: str) -> ChaCha20Poly1305:
        if not self.knows(key_id):
            raise UnknownKey(key_id)
        return self._ciphers[key_id]

    def _add(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            # Keys keep their order: the first one seals in a new installation.
            self._ciphers.setdefault(key_id_of(key), ChaCha20Poly1305(key))


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
    return None if database is None else database.with_name(database.name + ".key")


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
    """Return whether only the owner may read a file."""
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
