"""Idempotency keys: what is stored of a key, of its first request, and of the response to repeat.

The database contains a hash of the key, never the key. The stored response is encrypted under a key that is derived
from the idempotency key itself, so access to the database alone does not reveal it.
"""

import hashlib
import re
import struct
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from discue.domain.representation import shows
from discue.domain.window import Interval

RETENTION_MS: Final = 86_400_000
"""Minimum time that a key is kept."""

SWEEP_MS: Final = 6 * 3_600_000
"""Interval in which every key is checked for expiry once."""

NONCE_BYTES: Final = 12

_FIRST_HASH, _HASHES = -(1 << 63), 1 << 64

# A personalized hash for each purpose: the stored hash says nothing about the encryption key.
_STORED, _SEALING, _REQUEST = b"once stored", b"once sealing", b"once request"
_VISIBLE: Final = re.compile(r"[\x21-\x7e]{1,255}")

_blake2b = hashlib.blake2b
_halves = struct.Struct(">qq").unpack


@shows("organization", "hash")
class IdempotencyKey(msgspec.Struct, frozen=True, gc=False):
    """The idempotency key of a request."""

    organization: int
    text: str
    hash: tuple[int, int]
    """The stored hash of the key: 128 bits, as two signed numbers."""
    fingerprint: bytes
    """Hash of the request that came with the key."""
    kept_ms: int = RETENTION_MS
    """Minimum time that the key is kept."""

    def seal(self, content: bytes, nonce: bytes) -> bytes:
        """Encrypt a response. `nonce` must be 12 random bytes."""
        return nonce + self._cipher().encrypt(nonce, content, self.fingerprint)

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt a response. Raises ValueError if it was not sealed for this key and this request."""
        try:
            return self._cipher().decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self.fingerprint)
        except (InvalidTag, ValueError):
            raise ValueError("the stored response cannot be decrypted") from None

    def _cipher(self) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(_digest(self.text, self.organization, _SEALING, 32))


def is_idempotency_key(text: str) -> bool:
    """Return whether the text is a valid key: 1 to 255 visible ASCII characters."""
    return _VISIBLE.fullmatch(text) is not None


def idempotency_key(organization: int, text: str, method: str, path: str, *, body: bytes) -> IdempotencyKey:
    """Return the key of a request. `path` excludes the API version: the same request is the same in every version."""
    high, low = _halves(_digest(text, organization, _STORED, 16))
    # Neither key nor method contains a space, so the encoding is unambiguous. The key is part of the fingerprint, so
    # that the fingerprint does not help to guess the content of the body, such as a password.
    head = f"{text} {method} {len(path)} {path} "
    request = _blake2b(head.encode(errors="surrogatepass"), digest_size=16, person=_REQUEST)
    request.update(body)
    return IdempotencyKey(organization, text, (high, low), request.digest())


def sweep_ranges(since: int, until: int) -> tuple[Interval, ...]:
    """Return the ranges of the first half of a key's hash to check for expiry, from one time to another (ms).

    Hashes are uniformly distributed: the share of keys is proportional to the time, however many there are. A period
    of `SWEEP_MS` covers each key once.
    """
    if until <= since:
        return ()
    if until - since >= SWEEP_MS:
        return ((_FIRST_HASH, _FIRST_HASH + _HASHES - 1),)
    # Time within the interval is mapped to the hash space. Consecutive calls cover it without gaps or overlaps.
    begin, end = (at % SWEEP_MS * _HASHES // SWEEP_MS for at in (since, until))
    passed = ((begin, end),) if begin < end else ((begin, _HASHES), (0, end))
    return tuple((_FIRST_HASH + low, _FIRST_HASH + high - 1) for low, high in passed if low < high)


def _digest(text: str, organization: int, purpose: bytes, size: int) -> bytes:
    return _blake2b(f"{organization} {text}".encode(), digest_size=size, person=purpose).digest()
