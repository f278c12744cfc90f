"""Signatures by Standard Webhooks 1.0: HMAC-SHA256 (`v1`) or Ed25519 (`v1a`) over id, timestamp and body."""

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
"""Bytes are the key of an HMAC."""


class SignatureInvalid(Exception):
    """The request was not signed with this secret, or not lately."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail if detail is not None else (type(self).__doc__ or "").strip())


def new_secret(random_bytes: RandomBytes) -> str:
    """A fresh secret: `whsec_` and the base64 of 32 random bytes."""
    return _PREFIX + b64encode(random_bytes(_SECRET_BYTES)).decode("ascii")


def key_of(secret: str) -> bytes:
    """The 24 to 64 bytes that a secret spells, with or without its prefix; ValueError for others."""
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        # The cause would show a part of the secret's structure in a traceback.
        raise ValueError("a signing secret is whsec_ and base64") from None
    if len(key) not in _KEY_LENGTHS:
        raise ValueError("a signing secret has 24 to 64 bytes")
    return key


def new_private_key(random_bytes: RandomBytes) -> str:
    """A fresh private key of Ed25519: `whsk_` and the base64 of its 32 bytes."""
    return _PRIVATE + b64encode(random_bytes(_SEED_BYTES)).decode("ascii")


def private_key_of(secret: str) -> Ed25519PrivateKey:
    """Of a text with its prefix: 32 bytes, or 64 with the public key behind them; ValueError for others."""
    try:
        content = b64decode(secret.removeprefix(_PRIVATE), validate=True) if secret.startswith(_PRIVATE) else b""
    except ValueError:
        content = b""
    if len(content) not in (_SEED_BYTES, _PAIR_BYTES):
        raise ValueError("a private key is whsk_ and the base64 of 32 or 64 bytes")
    key = Ed25519PrivateKey.from_private_bytes(content[:_SEED_BYTES])
    if content[_SEED_BYTES:] not in (b"", key.public_key().public_bytes_raw()):
        raise ValueError("the second half of a private key is not its public key")
    return key


def public_text_of(key: Ed25519PrivateKey) -> str:
    """What everybody may know, and verify signatures with: `whpk_` and the base64 of 32 bytes."""
    return _PUBLIC + b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def sign(keys: Sequence[SigningKey], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature a key, in their order. `timestamp` is in seconds."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return " ".join([_signature(key, signed) for key in keys])


def _signature(key: SigningKey, signed: bytes) -> str:
    if isinstance(key, bytes):
        return "v1," + b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")
    return "v1a," + b64encode(key.sign(signed)).decode("ascii")


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: int, tolerance_seconds: int = 300) -> None:
    """Raise SignatureInvalid unless one of the request's signatures was made with `secret` close to `now`.

    A public key (`whpk_…`) stands for the private one. ValueError when `secret` is neither.
    `now` is in milliseconds since the Unix epoch, as everywhere. The names of `headers` may be in any case.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    timestamp = _timestamp_of(_header(lowered, "webhook-timestamp"))
    if abs(now - timestamp * 1_000) > tolerance_seconds * 1_000:
        raise SignatureInvalid("The timestamp is too far from now.")
    message_id, offered = _header(lowered, "webhook-id"), _header(lowered, "webhook-signature").split(" ")
    if secret.startswith(_PUBLIC):
        _verify_public(secret, b"%b.%d.%b" % (message_id.encode(), timestamp, body), offered)
        return
    expected = sign((key_of(secret),), message_id, timestamp, body).encode()
    if not any(hmac.compare_digest(expected, signature.encode()) for signature in offered):
        raise SignatureInvalid("None of the signatures fits.")


def _verify_public(public_key: str, signed: bytes, offered: Sequence[str]) -> None:
    key = Ed25519PublicKey.from_public_bytes(b64decode(public_key.removeprefix(_PUBLIC), validate=True))
    for version, _, text in (signature.partition(",") for signature in offered):
        if version == "v1a" and _is_signed(key, signed, text):
            return
    raise SignatureInvalid("None of the signatures fits.")


def _is_signed(key: Ed25519PublicKey, signed: bytes, signature: str) -> bool:
    try:
        key.verify(b64decode(signature, validate=True), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value or not value.isascii():
        raise SignatureInvalid(f"The header {name} is missing or garbled.")
    return value


def _timestamp_of(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _TIMESTAMP_DIGITS):
        raise SignatureInvalid("The timestamp is not a number of seconds.")
    return int(text)
