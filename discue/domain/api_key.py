"""What an API key looks like: `dsk_`, the key's id, its secret. Only a hash of the secret is ever kept."""

import hashlib
import hmac
from typing import NamedTuple

from discue.domain.ids import LENGTH, RandomText, is_public_id

_PREFIX = "dsk_"
_SECRET_START = len(_PREFIX) + LENGTH
_SECRET_CHARACTERS = 32
_LENGTHS = range(_SECRET_START + 22, _SECRET_START + 108)
_SHOWN_CHARACTERS = 12


class PresentedKey(NamedTuple):
    """The two parts of a key that was presented."""

    public_id: str
    secret: str


def new_secret(random_text: RandomText) -> str:
    """32 random characters: 190 bits, so a plain hash of them is enough."""
    return random_text.take(_SECRET_CHARACTERS)


def compose(public_id: str, secret: str) -> str:
    return f"{_PREFIX}{public_id}{secret}"


def parse(text: str) -> PresentedKey | None:
    """The parts of a key; None for a text that is none: 43 to 128 letters and digits after the prefix."""
    if not text.startswith(_PREFIX) or len(text) not in _LENGTHS:
        return None
    if not (text.isascii() and text[len(_PREFIX) :].isalnum()):
        return None
    return PresentedKey(text[len(_PREFIX) : _SECRET_START], text[_SECRET_START:])


def claimed_id(text: str) -> str:
    """The id that a text names if it is a key; "" where none can be."""
    claimed = text[len(_PREFIX) : _SECRET_START]
    return claimed if is_public_id(claimed) else ""


def hash_of(text: str) -> bytes:
    """SHA-256, of whatever text: lone surrogates, which no key has, do not break it."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def matches(secret: str, secret_hash: bytes) -> bool:
    """In a time that says nothing about where they differ."""
    return hmac.compare_digest(hash_of(secret), secret_hash)


def visible_prefix(public_id: str) -> str:
    """The first 12 characters of a key: what is shown of it after its creation."""
    return compose(public_id, "")[:_SHOWN_CHARACTERS]
