"""Passwords of users: what can be one, and the hash that is kept of it (argon2id)."""

import unicodedata
from typing import Final

import msgspec
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from discue.domain.errors import Fault, Unprocessable

SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_LENGTHS: Final = range(8, 257)


class HashCost(msgspec.Struct, frozen=True):
    """What making a hash costs, and so what guessing a password costs."""

    memory_kib: int = 65_536
    iterations: int = 3
    lanes: int = 1


STANDARD: Final = HashCost()


def check_password(text: str, pointer: str = "/password") -> None:
    """Raises Unprocessable unless it has 8 to 256 characters, as they are counted after composition (NFC)."""
    if len(composed(text)) not in _LENGTHS:
        rule = f"must have {_LENGTHS.start} to {_LENGTHS.stop - 1} characters"
        raise Unprocessable(f"The password {rule}.", faults=(Fault(pointer, rule),))


def composed(text: str) -> str:
    """The one form of all texts that look the same: keyboards differ in which of them they send."""
    return unicodedata.normalize("NFC", text)


def hash_of(password: str, salt: bytes, cost: HashCost = STANDARD) -> str:
    """A hash with its salt and cost beside it (PHC). `salt`: 16 random bytes. Takes a while, and much memory."""
    return _derivation(salt, cost).derive_phc_encoded(composed(password).encode())


def matches(password: str, password_hash: str | None, cost: HashCost = STANDARD) -> bool:
    """Whether it is the password. Without a hash it is not, which takes as long to find out."""
    if password_hash is None:
        hash_of(password, bytes(SALT_BYTES), cost)
        return False
    try:
        Argon2id.verify_phc_encoded(composed(password).encode(), password_hash)
    except InvalidKey:
        return False
    return True


def _derivation(salt: bytes, cost: HashCost) -> Argon2id:
    return Argon2id(
        salt=salt, length=_HASH_BYTES, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib
    )
