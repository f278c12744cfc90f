"""Idempotency keys: what is kept of a key and of its first request, so that a repetition is known and answered.

The database holds a hash of a key, never the key. A kept response is sealed under a key that is made of the
idempotency key itself: who has the database alone cannot read it, unless they guess the key.
"""

import hashlib
import re
import struct
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

RETENTION_MS: Final = 86_400_000
"""How long a key is kept at least."""

SWEEP_MS: Final = 6 * 3_600_000
"""In this time all keys that are kept are looked through once, for those to forget."""

NONCE_BYTES: Final = 12

Interval = tuple[int, int]
"""The first and the last number that the first half of a key's hash can have."""

_FIRST, _HALVES = -(1 << 63), 1 << 64

# Each purpose has a hash of its own: what is stored says nothing about what seals.
_STORED, _SEALING, _REQUEST = b"once stored", b"once sealing", b"once request"
_VISIBLE: Final = re.compile(r"[\x21-\x7e]{1,255}")

_blake2b = hashlib.blake2b
_halves = struct.Struct(">qq").unpack


class IdempotencyKey(msgspec.Struct, frozen=True, gc=False):
    """A key of an organization, and the fingerprint of the request that came with it.

    `hash` is what is stored of it: 128 bits, as two signed numbers.
    """

    organization: int
    text: str
    hash: tuple[int, int]
    fingerprint: bytes

    def __repr__(self) -> str:
        return f"IdempotencyKey(organization={self.organization}, hash={self.hash})"

    def seal(self, content: bytes, nonce: bytes) -> bytes:
        """The content, readable for whoever knows the key. `nonce`: 12 random bytes."""
        return nonce + self._cipher().encrypt(nonce, content, self.fingerprint)

    def unseal(self, sealed: bytes) -> bytes:
        """Raises ValueError for what was not sealed for this key and this request."""
        try:
            return self._cipher().decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self.fingerprint)
        except (InvalidTag, ValueError):
            raise ValueError("the kept response cannot be unsealed") from None

    def _cipher(self) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(_digest(self.text, self.organization, _SEALING, 32))


def is_idempotency_key(text: str) -> bool:
    """Whether a text can be one: 1 to 255 visible characters of ASCII."""
    return _VISIBLE.fullmatch(text) is not None


def idempotency_key(organization: int, text: str, method: str, path: str, body: bytes) -> IdempotencyKey:
    """`path` is without a version: the same request under another one is the same."""
    high, low = _halves(_digest(text, organization, _STORED, 16))
    # Neither a key nor a method has a space: what stands where is not in doubt. With the key in it, the fingerprint
    # does not help to guess what is in a body, such as a password.
    head = f"{text} {method} {len(path)} {path} "
    request = _blake2b(head.encode(errors="surrogatepass"), digest_size=16, person=_REQUEST)
    request.update(body)
    return IdempotencyKey(organization, text, (high, low), request.digest())


def stretches(since: int, until: int) -> tuple[Interval, ...]:
    """Which keys are to be looked through from one instant to another, in milliseconds.

    Hashes are spread evenly: the longer the time, the larger the share of the keys, however many these are. Within
    `LOOKED_THROUGH_MS` it is each of them.
    """
    if until <= since:
        return ()
    if until - since >= SWEEP_MS:
        return ((_FIRST, _FIRST + _HALVES - 1),)
    begin, end = (at % SWEEP_MS * _HALVES // SWEEP_MS for at in (since, until))
    passed = ((begin, end),) if begin < end else ((begin, _HALVES), (0, end))
    return tuple((_FIRST + low, _FIRST + high - 1) for low, high in passed if low < high)


def _digest(text: str, organization: int, purpose: bytes, size: int) -> bytes:
    return _blake2b(f"{organization} {text}".encode(), digest_size=size, person=purpose).digest()
