"""A listener's signing secrets as they are kept: one text for all of them, newest first."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

SecretType = Literal["hmac", "ed25519"]


class SigningSecret(msgspec.Struct, frozen=True, omit_defaults=True):
    """`text` is the secret itself. It signs until `expires_at`; with 0, without an end.

    One of the time before secrets had ids has none: it was made with its listener.
    """

    text: str
    id: str = ""
    type: SecretType = "hmac"
    created_at: int = 0
    expires_at: int = 0

    def __repr__(self) -> str:
        return f"SigningSecret(id={self.id!r}, type={self.type!r})"

    def is_valid(self, now: int) -> bool:
        return not self.expires_at or now < self.expires_at


NO_SECRETS: Final = b"[]"

_decode = msgspec.json.Decoder(list[SigningSecret | str]).decode


def encoded(secrets: Sequence[SigningSecret]) -> bytes:
    return msgspec.json.encode(secrets)


def decoded(content: bytes) -> tuple[SigningSecret, ...]:
    """Raises ValueError for what is none, and never repeats it."""
    try:
        found = _decode(content)
    except ValueError:
        raise ValueError("the signing secrets cannot be read") from None
    return tuple(SigningSecret(each) if isinstance(each, str) else each for each in found)


def place_of(organization: int, listener: int) -> bytes:
    """What binds the secrets that are encrypted to their row."""
    return b"signing secrets of listener %d %d" % (organization, listener)
