"""API keys: `dsk_`, the public id of the key, and its secret. Only a hash of the secret is stored."""

import hashlib
import hmac
from typing import NamedTuple

from discue.domain.ids import LENGTH, RandomText, is_public_id

_PREFIX = "dsk_"
_SECRET_START = len(_PREFIX) + LENGTH
_SECRET_CHARACTERS = 32
_LENGTHS = range(_SECRET_START + 22, _SECRET_START + 108)
_VISIBLE_CHARACTERS = 12


class PresentedKey(NamedTuple):
    """The two parts of a key that a client presents."""

    public_id: str
    secret: str


def new_secret(random_text: RandomText) -> str:
    """Return 32 random characters: 190 bits, so a plain hash of them is enough."""
    return random_text.take(_SECRET_CHARACTERS)


def compose(public_id: str, secret: str) -> str:
    """Return the key as clients send it."""
    return f"{_PREFIX}{public_id}{secret}"


def parse(text: str) -> PresentedKey | None:
    """Return the parts of a key; None unless it is `dsk_` and 43 to 128 letters and digits."""
    if not text.startswith(_PREFIX) or len(text) not in _LENGTHS:
        return None
    # isalnum() alone accepts the letters and digits of every script.
    if not (text.isascii() and text[len(_PREFIX) :].isalnum()):
        return None
    return PresentedKey(text[len(_PREFIX) : _SECRET_START], text[_SECRET_START:])


def claimed_id(text: str) -> str:
    """Return the public id in a text that may be an invalid key; "" if it has none."""
    claimed = text[len(_PREFIX) : _SECRET_START]
    return claimed if is_public_id(claimed) else ""


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256 of any text, including lone surrogates (which no key and no token contains)."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def matches(secret: str, secret_hash: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(hash_secret(secret), secret_hash)


def visible_prefix(public_id: str) -> str:
    """Return the first 12 characters of a key, which are shown after its creation."""
    return compose(public_id, "")[:_VISIBLE_CHARACTERS]
