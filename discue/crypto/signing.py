"""Signatures of Standard Webhooks 1.0 (HMAC-SHA256 `v1`, Ed25519 `v1a`), and the signing secrets of listeners."""

import hmac
from base64 import b64decode, b64encode
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discue.domain.ids import RandomBytes
from discue.domain.representation import shows

if TYPE_CHECKING:
    from hashlib import _Hash

_PREFIX, _PRIVATE, _PUBLIC = "whsec_", "whsk_", "whpk_"
_SECRET_BYTES = 32
_KEY_LENGTHS = range(24, 65)
_SEED_BYTES = 32
_PAIR_BYTES = 64
_TIMESTAMP_DIGITS = 16
_TOLERANCE_MS = 300_000


class HmacKey(bytes):
    """A key of 24 to 64 bytes for HMAC-SHA256. The key is hashed only once, for all signatures."""

    def digest(self, signed: bytes) -> bytes:
        """Return the HMAC of `signed` (RFC 2104)."""
        inner, outer = self._states
        inner, outer = inner.copy(), outer.copy()
        inner.update(signed)
        outer.update(inner.digest())
        return outer.digest()

    @cached_property
    def _states(self) -> "tuple[_Hash, _Hash]":
        block = self.ljust(sha256().block_size, b"\0")
        return sha256(bytes(byte ^ 0x36 for byte in block)), sha256(bytes(byte ^ 0x5C for byte in block))


SigningKey: TypeAlias = HmacKey | Ed25519PrivateKey


class SignatureInvalid(Exception):
    """The signature is invalid, or too old."""


def new_secret(random_bytes: RandomBytes) -> str:
    """Return a random secret: `whsec_` and the base64 of 32 bytes."""
    return _PREFIX + b64encode(random_bytes(_SECRET_BYTES)).decode("ascii")


def decode_secret(secret: str) -> HmacKey:
    """Return the 24 to 64 bytes of a secret, with or without its prefix. Raises ValueError if it is invalid."""
    try:
        key = HmacKey(b64decode(secret.removeprefix(_PREFIX), validate=True))
    except ValueError:
        # Without the cause, which would reveal the structure of the secret in a traceback.
        raise ValueError("a signing secret must be whsec_ and base64") from None
    if len(key) not in _KEY_LENGTHS:
        raise ValueError("a signing secret must have 24 to 64 bytes")
    return key


def new_private_key(random_bytes: RandomBytes) -> str:
    """Return a random Ed25519 private key: `whsk_` and the base64 of 32 bytes."""
    return _PRIVATE + b64encode(random_bytes(_SEED_BYTES)).decode("ascii")


def decode_private_key(secret: str) -> Ed25519PrivateKey:
    """Return a private key from its text: 32 bytes, or 64 with the public key appended. Raises ValueError."""
    try:
        content = b64decode(secret.removeprefix(_PRIVATE), validate=True) if secret.startswith(_PRIVATE) else b""
    except ValueError:
        content = b""
    # Libraries export either the seed or, like libsodium, the seed followed by the public key.
    if len(content) not in (_SEED_BYTES, _PAIR_BYTES):
        raise ValueError("a private key must be whsk_ and the base64 of 32 or 64 bytes")
    key = Ed25519PrivateKey.from_private_bytes(content[:_SEED_BYTES])
    if content[_SEED_BYTES:] not in (b"", key.public_key().public_bytes_raw()):
        raise ValueError("the second half of the private key must be its public key")
    return key


def encode_public_key(key: Ed25519PrivateKey) -> str:
    """Return the public key, which verifies signatures: `whpk_` and the base64 of 32 bytes."""
    return _PUBLIC + b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def sign(keys: Sequence[SigningKey], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: one signature per key, in order. `timestamp` is in seconds."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    # Most listeners have one key.
    return _signature(keys[0], signed) if len(keys) == 1 else " ".join([_signature(key, signed) for key in keys])


def _signature(key: SigningKey, signed: bytes) -> str:
    if isinstance(key, HmacKey):
        return "v1," + b2a_base64(key.digest(signed), newline=False).decode("ascii")
    return "v1a," + b64encode(key.sign(signed)).decode("ascii")


def verify(key: SigningKey, headers: Mapping[str, str], body: bytes, now: int) -> None:
    """Raise SignatureInvalid unless one of the request's signatures was made with `key`, within 300 s of `now`.

    `now` is in milliseconds since the Unix epoch. The names in `headers` are case-insensitive.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    text = _header(lowered, "webhook-timestamp")
    if not (text.isdigit() and len(text) <= _TIMESTAMP_DIGITS):
        raise SignatureInvalid("The timestamp must be a number of seconds.")
    timestamp = int(text)
    # A recorded request must not be accepted later: the timestamp is signed, so it cannot be renewed.
    if abs(now - timestamp * 1_000) > _TOLERANCE_MS:
        raise SignatureInvalid("The timestamp is too far from the current time.")
    message_id, signatures = _header(lowered, "webhook-id"), _header(lowered, "webhook-signature").split(" ")
    # Both kinds of signatures are deterministic: the same key signs the same request in the same way.
    expected = sign((key,), message_id, timestamp, body).encode()
    # Constant time: the comparison must not reveal how much of a forged signature is right.
    if not any(hmac.compare_digest(expected, signature.encode()) for signature in signatures):
        raise SignatureInvalid("No signature matches.")


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value or not value.isascii():
        raise SignatureInvalid(f"The header {name} is missing or invalid.")
    return value


SecretType = Literal["hmac", "ed25519"]


@shows("id", "type")
class SigningSecret(msgspec.Struct, frozen=True, omit_defaults=True):
    """A signing secret. Times are in milliseconds since the epoch."""

    text: str
    """The secret itself."""
    id: str = ""
    type: SecretType = "hmac"
    created_at: int = 0
    expires_at: int = 0
    """0: never."""
    updated_at: int = 0
    """When `expires_at` was last changed; 0: never."""

    def is_valid(self, now: int) -> bool:
        return not self.expires_at or now < self.expires_at


NO_SECRETS: Final = b"[]"

MAX_VALID: Final = 5
"""Maximum valid secrets of a listener: each one adds a signature to every request."""


class TooManySecrets(Exception):
    """The listener has the maximum number of valid secrets."""


class LastSecret(Exception):
    """The secret is the only one without an expiry."""


def signing_key_of(secret: SigningSecret) -> SigningKey:
    """Return the key to sign with. Raises ValueError if the text is invalid."""
    return decode_secret(secret.text) if secret.type == "hmac" else decode_private_key(secret.text)


def with_new(
    secrets: Sequence[SigningSecret], new: SigningSecret, expires_at: int, now: int
) -> tuple[SigningSecret, ...]:
    """Return `new` and the valid secrets. Secrets of the same type expire at `expires_at` at the latest.

    Raises TooManySecrets.
    """
    # Only secrets of the same type: a receiver that verifies one type does not know the new secret of the other.
    expiring = [_expiring(each, expires_at, now) if each.type == new.type else each for each in secrets]
    valid = [each for each in expiring if each.is_valid(now)]
    if len(valid) >= MAX_VALID:
        raise TooManySecrets
    return new, *valid


def without(secrets: Sequence[SigningSecret], secret_id: str, now: int) -> tuple[SigningSecret, ...]:
    """Return the valid secrets except one. Raises LastSecret if none of them is without an expiry."""
    kept = tuple(each for each in secrets if each.id != secret_id and each.is_valid(now))
    # Otherwise the listener would one day get requests without any signature.
    if all(each.expires_at for each in kept):
        raise LastSecret
    return kept


def _expiring(secret: SigningSecret, expires_at: int, now: int) -> SigningSecret:
    if 0 < secret.expires_at <= expires_at:
        return secret
    return msgspec.structs.replace(secret, expires_at=expires_at, updated_at=now)


def associated_data(organization: int, listener: int) -> bytes:
    """Return the associated data that binds the encrypted secrets of a listener to its row."""
    return b"signing secrets of listener %d %d" % (organization, listener)
