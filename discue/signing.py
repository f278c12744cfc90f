"""Signatures by Standard Webhooks 1.0: HMAC-SHA256 over id, timestamp and body."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence

from discue.ids import RandomBytes

_PREFIX = "whsec_"
_SECRET_BYTES = 32
_KEY_LENGTHS = range(24, 65)
_TIMESTAMP_DIGITS = 16


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


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature a key, in their order. `timestamp` is in seconds."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return " ".join(["v1," + b64encode(hmac.digest(key, signed, "sha256")).decode("ascii") for key in keys])


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: int, tolerance_seconds: int = 300) -> None:
    """Raise SignatureInvalid unless one of the request's signatures was made with `secret` close to `now`.

    `now` is in milliseconds since the Unix epoch, as everywhere. The names of `headers` may be in any case.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    timestamp = _timestamp_of(_header(lowered, "webhook-timestamp"))
    if abs(now - timestamp * 1_000) > tolerance_seconds * 1_000:
        raise SignatureInvalid("The timestamp is too far from now.")
    expected = sign((key_of(secret),), _header(lowered, "webhook-id"), timestamp, body).encode()
    offered = _header(lowered, "webhook-signature").encode().split(b" ")
    if not any(hmac.compare_digest(expected, signature) for signature in offered):
        raise SignatureInvalid("None of the signatures fits.")


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value or not value.isascii():
        raise SignatureInvalid(f"The header {name} is missing or garbled.")
    return value


def _timestamp_of(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _TIMESTAMP_DIGITS):
        raise SignatureInvalid("The timestamp is not a number of seconds.")
    return int(text)
