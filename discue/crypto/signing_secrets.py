"""A listener's signing secrets as they are kept: one text for all of them, newest first."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from discue.crypto.signatures import SigningKey, key_of, private_key_of

SecretType = Literal["hmac", "ed25519"]


class SigningSecret(msgspec.Struct, frozen=True, omit_defaults=True):
    """`text` is the secret itself. It signs until `expires_at`; 0: no end. `updated_at` is 0 until that was changed.

    One of the time before secrets had ids has none: it was made with its listener.
    """

    text: str
    id: str = ""
    type: SecretType = "hmac"
    created_at: int = 0
    expires_at: int = 0
    updated_at: int = 0

    def __repr__(self) -> str:
        return f"SigningSecret(id={self.id!r}, type={self.type!r})"

    def is_valid(self, now: int) -> bool:
        return not self.expires_at or now < self.expires_at


NO_SECRETS: Final = b"[]"

MOST_VALID: Final = 5
"""Each is a signature on every delivery."""


class TooManySecrets(Exception):
    """So many are valid already that no other one may be added."""


class LastSecret(Exception):
    """Without it, deliveries would be signed no more, or not for long."""


class _Held(msgspec.Struct, frozen=True):
    """What else is kept with them is nobody's business here."""

    signing: list[SigningSecret | str]


_decode = msgspec.json.Decoder(list[SigningSecret | str] | _Held).decode


def encoded(secrets: Sequence[SigningSecret]) -> bytes:
    return msgspec.json.encode(secrets)


def decoded(content: bytes) -> tuple[SigningSecret, ...]:
    """Raises ValueError for what is none, and never repeats it."""
    try:
        found = _decode(content)
    except ValueError:
        raise ValueError("the signing secrets cannot be read") from None
    if isinstance(found, _Held):
        found = found.signing
    return tuple(SigningSecret(each) if isinstance(each, str) else each for each in found)


def signing_key_of(secret: SigningSecret) -> SigningKey:
    """What signs. Raises ValueError for a text that is no secret."""
    return key_of(secret.text) if secret.type == "hmac" else private_key_of(secret.text)


def with_fresh(
    secrets: Sequence[SigningSecret], fresh: SigningSecret, ends_at: int, now: int
) -> tuple[SigningSecret, ...]:
    """`fresh` before those that go on being valid; of its type these end at `ends_at`, if not before.

    Raises TooManySecrets.
    """
    ended = [_ending(each, ends_at, now) if each.type == fresh.type else each for each in secrets]
    valid = [each for each in ended if each.is_valid(now)]
    if len(valid) >= MOST_VALID:
        raise TooManySecrets
    return fresh, *valid


def without(secrets: Sequence[SigningSecret], secret_id: str, now: int) -> tuple[SigningSecret, ...]:
    """Those that are valid, but for one. Raises LastSecret when none of the others is without an end."""
    kept = tuple(each for each in secrets if each.id != secret_id and each.is_valid(now))
    if all(each.expires_at for each in kept):
        raise LastSecret
    return kept


def _ending(secret: SigningSecret, ends_at: int, now: int) -> SigningSecret:
    if 0 < secret.expires_at <= ends_at:
        return secret
    return msgspec.structs.replace(secret, expires_at=ends_at, updated_at=now)


def place_of(organization: int, listener: int) -> bytes:
    """What binds the secrets that are encrypted to their row."""
    return b"signing secrets of listener %d %d" % (organization, listener)
