"""Signing secrets of a listener, stored together as one text, newest first."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from discue.crypto.signatures import SigningKey, decode_private_key, decode_secret

SecretType = Literal["hmac", "ed25519"]


class SigningSecret(msgspec.Struct, frozen=True, omit_defaults=True):
    """A signing secret. Times are in milliseconds since the epoch."""

    text: str
    """The secret itself."""
    id: str = ""
    """"" for a secret from before secrets had ids. It was created with its listener."""
    type: SecretType = "hmac"
    created_at: int = 0
    expires_at: int = 0
    """0: never."""
    updated_at: int = 0
    """When `expires_at` was last changed; 0: never."""

    def __repr__(self) -> str:
        return f"SigningSecret(id={self.id!r}, type={self.type!r})"

    def is_valid(self, now: int) -> bool:
        return not self.expires_at or now < self.expires_at


NO_SECRETS: Final = b"[]"

MAX_VALID: Final = 5
"""Maximum valid secrets of a listener: each one adds a signature to every request."""


class TooManySecrets(Exception):
    """The listener has the maximum number of valid secrets."""


class LastSecret(Exception):
    """The secret is the only one without an expiry."""


class _Held(msgspec.Struct, frozen=True):
    """Secrets that are stored together with credentials, which are ignored here."""

    signing: list[SigningSecret | str]


_decode = msgspec.json.Decoder(list[SigningSecret | str] | _Held).decode


def encode_secrets(secrets: Sequence[SigningSecret]) -> bytes:
    return msgspec.json.encode(secrets)


def decode_secrets(content: bytes) -> tuple[SigningSecret, ...]:
    """Raises ValueError if the content is invalid; the message does not contain it."""
    try:
        found = _decode(content)
    except ValueError:
        raise ValueError("the signing secrets cannot be decoded") from None
    if isinstance(found, _Held):
        found = found.signing
    return tuple(SigningSecret(each) if isinstance(each, str) else each for each in found)


def signing_key_of(secret: SigningSecret) -> SigningKey:
    """Return the key to sign with. Raises ValueError if the text is invalid."""
    return decode_secret(secret.text) if secret.type == "hmac" else decode_private_key(secret.text)


def with_new(
    secrets: Sequence[SigningSecret], new: SigningSecret, expires_at: int, now: int
) -> tuple[SigningSecret, ...]:
    """Return `new` and the valid secrets. Secrets of the same type expire at `expires_at` at the latest.

    Raises TooManySecrets.
    """
    expiring = [_expiring(each, expires_at, now) if each.type == new.type else each for each in secrets]
    valid = [each for each in expiring if each.is_valid(now)]
    if len(valid) >= MAX_VALID:
        raise TooManySecrets
    return new, *valid


def without(secrets: Sequence[SigningSecret], secret_id: str, now: int) -> tuple[SigningSecret, ...]:
    """Return the valid secrets except one. Raises LastSecret if none of them is without an expiry."""
    kept = tuple(each for each in secrets if each.id != secret_id and each.is_valid(now))
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
