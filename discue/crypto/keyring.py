"""Encryption at rest with ChaCha20-Poly1305 and several keys.

Sealed content contains the id of its key, and is bound to its row by associated data: it cannot be decrypted in another
row. The first byte distinguishes it from plaintext.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12

_VERSION: Final = b"\x01"
"""First byte of sealed content. No JSON text starts with it. Another format would get another byte."""

_ID_BYTES: Final = 8
_HEADER_BYTES: Final = len(_VERSION) + _ID_BYTES
_NONCE_END: Final = _HEADER_BYTES + NONCE_BYTES
_NO_KEY: Final = "00"

FindKeys = Callable[[], Iterable[bytes]]


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

    def __init__(self, keys: Sequence[bytes] = (), find_keys: FindKeys = tuple) -> None:
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
