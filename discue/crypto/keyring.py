"""Encryption at rest: the keys that a process knows, and what they seal.

What is sealed says which key opens it, and opens only at the place it was sealed for: moved to another row it is
refused. What stands in the clear is told from what is sealed by its first byte.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12

_MARK: Final = b"\x01"
"""No text of JSON begins with it. Another way to seal gets another mark."""

_ID_BYTES: Final = 8
_HEAD_BYTES: Final = len(_MARK) + _ID_BYTES
_NONCE_END: Final = _HEAD_BYTES + NONCE_BYTES
_NO_KEY: Final = "00"

FindKeys = Callable[[], Iterable[bytes]]


class UnknownKey(ValueError):
    """What is sealed needs a key that this process does not have. `key_id` says which."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"the encryption key {key_id} is not known here")
        self.key_id = key_id


class DecryptionFailed(ValueError):
    """What is sealed was sealed for another place, or changed since."""

    def __init__(self) -> None:
        super().__init__("what is encrypted was made for another place, or changed")


def key_id_of(key: bytes) -> str:
    """What a key is called, in public: nothing of the key follows from it."""
    return hashlib.blake2b(key, digest_size=_ID_BYTES, person=b"encryption key").hexdigest()


def key_id_in(sealed: bytes) -> str:
    """Of the key that opens it; "" for what stands in the clear."""
    return sealed[len(_MARK) : _HEAD_BYTES].hex() or _NO_KEY if sealed[:1] == _MARK else ""


class Keyring:
    """Some keys. A new installation seals with the first one; which one others seal with, their database says.

    Where an unknown key is asked for, `find` is asked what keys there are by now.
    """

    def __init__(self, keys: Sequence[bytes] = (), find: FindKeys = tuple) -> None:
        self._ciphers: dict[str, ChaCha20Poly1305] = {}
        self._find = find
        self._learn(keys)

    @property
    def first(self) -> str:
        """The id of the first key, "" without one."""
        return next(iter(self._ciphers), "")

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._ciphers)})"

    def knows(self, key_id: str) -> bool:
        """Also where it is in the clear, which needs no key."""
        if key_id and key_id not in self._ciphers:
            self._learn(self._find())
        return not key_id or key_id in self._ciphers

    def seal(self, key_id: str, content: bytes, place: bytes, nonce: bytes) -> bytes:
        """`nonce`: 12 random bytes. Without a key, the content as it is. Raises KeyUnknown."""
        if not key_id:
            return content
        return _MARK + bytes.fromhex(key_id) + nonce + self._cipher(key_id).encrypt(nonce, content, place)

    def open(self, stored: bytes, place: bytes) -> bytes:
        """What was sealed, or stands in the clear. Raises KeyUnknown, SealBroken."""
        key_id = key_id_in(stored)
        if not key_id:
            return stored
        try:
            return self._cipher(key_id).decrypt(stored[_HEAD_BYTES:_NONCE_END], stored[_NONCE_END:], place)
        except (InvalidTag, ValueError) as error:
            if isinstance(error, UnknownKey):
                raise
            raise DecryptionFailed from None

    def _cipher(self, key_id: str) -> ChaCha20Poly1305:
        if not self.knows(key_id):
            raise UnknownKey(key_id)
        return self._ciphers[key_id]

    def _learn(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._ciphers.setdefault(key_id_of(key), ChaCha20Poly1305(key))
