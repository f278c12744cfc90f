"""Invitations: the token that lets a user set a password. Only a hash of it is ever kept."""

import hashlib
from typing import Final, NamedTuple

from discue.domain.ids import RandomText

VALID_MS: Final = 7 * 86_400_000
_TOKEN_CHARACTERS: Final = 32


class Invitation(NamedTuple):
    """A new one: its token is shown once."""

    token: str
    expires_at: int

    def __repr__(self) -> str:
        return f"Invitation(expires_at={self.expires_at})"

    @property
    def hash(self) -> bytes:
        return hash_of(self.token)


def new_invitation(random_text: RandomText, now: int) -> Invitation:
    """32 random characters: 190 bits, so a plain hash of them is enough."""
    return Invitation(random_text.take(_TOKEN_CHARACTERS), now + VALID_MS)


def hash_of(token: str) -> bytes:
    """SHA-256, of whatever text: lone surrogates, which no token has, do not break it."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
