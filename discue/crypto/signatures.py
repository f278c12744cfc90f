"""Signatures of Standard Webhooks 1.0: HMAC-SHA256 (`v1`) or Ed25519 (`v1a`) of id, timestamp and body."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from discue.domain.ids import RandomBytes

_PREFIX, _PRIVATE, _PUBLIC = "whsec_", "whsk_", "whpk_"
_SECRET_BYTES = 32
_KEY_LENGTHS = range(24, 65)
_SEED_BYTES = 32
_PAIR_BYTES = 64
_TIMESTAMP_DIGITS = 16

SigningKey: TypeAlias = bytes | Ed25519PrivateKey
"""Bytes are an HMAC key."""


class SignatureInvalid(Exception):
    """The signature is invalid, or too old."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail if detail is not None else (type(self).__doc__ or "").strip())


def new_secret(random_bytes: RandomBytes) -> str:
    """Return a random secret: `whsec_` and the base64 of 32 bytes."""
    return _PREFIX + b64encode(random_bytes(_SECRET_BYTES)).decode("ascii")


def decode_secret(secret: str) -> bytes:
    """Return the 24 to 64 bytes of a secret, with or without its prefix. Raises ValueError if it is invalid."""
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
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
    return " ".join([_signature(key, signed) for key in keys])


def _signature(key: SigningKey, signed: bytes) -> str:
    if isinstance(key, bytes):
        return "v1," + b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")
    return "v1a," + b64encode(key.sign(signed)).decode("ascii")


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: int, *, tolerance_seconds: int = 300) -> None:
    """Raise SignatureInvalid unless one of the request's signatures was made with `secret`, close to `now`.

    `secret` may be a public key (`whpk_…`); ValueError if it is neither. `now` is in milliseconds since the Unix epoch.
    The names in `headers` are case-insensitive.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    timestamp = _timestamp_of(_header(lowered, "webhook-timestamp"))
    if abs(now - timestamp * 1_000) > tolerance_seconds * 1_000:
        raise SignatureInvalid("The timestamp is too far from the current time.")
    message_id, signatures = _header(lowered, "webhook-id"), _header(lowered, "webhook-signature").split(" ")
    if secret.startswith(_PUBLIC):
        _verify_public(secret, b"%b.%d.%b" % (message_id.encode(), timestamp, body), signatures)
        return
    expected = sign((decode_secret(secret),), message_id, timestamp, body).encode()
    # Constant time: the comparison must not reveal how much of a forged signature is right.
    if not any(hmac.compare_digest(expected, signature.encode()) for signature in signatures):
        raise SignatureInvalid("No signature matches.")


def _verify_public(public_key: str, signed: bytes, signatures: Sequence[str]) -> None:
    key = Ed25519PublicKey.from_public_bytes(b64decode(public_key.removeprefix(_PUBLIC), validate=True))
    for version, _, text in (signature.partition(",") for signature in signatures):
        if version == "v1a" and _is_signed(key, signed, text):
            return
    raise SignatureInvalid("No signature matches.")


def _is_signed(key: Ed25519PublicKey, signed: bytes, signature: str) -> bool:
    try:
        key.verify(b64decode(signature, validate=True), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value or not value.isascii():
        raise SignatureInvalid(f"The header {name} is missing or invalid.")
    return value


def _timestamp_of(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _TIMESTAMP_DIGITS):
        raise SignatureInvalid("The timestamp must be a number of seconds.")
    return int(text)
