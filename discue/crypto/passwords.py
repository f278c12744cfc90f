"""Passwords of users (argon2id), and the invitations that let a user set one."""

import asyncio
import unicodedata
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import msgspec
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from discue.domain.api_key import hash_secret
from discue.domain.errors import Overloaded, invalid
from discue.domain.ids import RandomBytes, RandomText

T = TypeVar("T")

SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_LENGTHS: Final = range(8, 257)
_MOST_CHECKED_CHARACTERS: Final = 1_024
"""Longer text is no password, and is not normalized: that takes quadratic time if it consists of combining marks."""
_AT_ONCE: Final = 2
"""Hashes that run at once: each takes much memory."""
_MOST_WAITING: Final = 32
"""Hashes that wait: a few seconds of work. A flood of sign-ins must not make the next one wait for minutes."""


class HashCost(msgspec.Struct, frozen=True):
    """Cost of a password hash, and so of guessing a password."""

    memory_kib: int = 65_536
    iterations: int = 3
    lanes: int = 1


STANDARD: Final = HashCost()


def check_password(text: str, pointer: str = "/password") -> None:
    """Raise Unprocessable unless the password has 8 to 256 characters after normalization (NFC)."""
    if len(text) > _MOST_CHECKED_CHARACTERS or len(normalized(text)) not in _LENGTHS:
        raise invalid(pointer, f"must have {_LENGTHS.start} to {_LENGTHS.stop - 1} characters")


def normalized(text: str) -> str:
    """Return the text in NFC: keyboards send different sequences for the same characters."""
    return unicodedata.normalize("NFC", text)


def _encoded(password: str) -> bytes:
    # Lone surrogates have no encoding in UTF-8. A password with them is wrong, and not an error.
    return normalized(password).encode(errors="surrogatepass")


def hash_password(password: str, salt: bytes, cost: HashCost = STANDARD) -> str:
    """Return the hash with its salt and cost (PHC string); slow. `salt` must be 16 random bytes."""
    derivation = Argon2id(
        salt=salt, length=_HASH_BYTES, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib
    )
    return derivation.derive_phc_encoded(_encoded(password))


def verify_password(password: str, password_hash: str | None, cost: HashCost = STANDARD) -> bool:
    """Return whether the password is correct. Without a hash it is not, which takes just as long."""
    # Hash nevertheless: the response time must not reveal whether the user has a password.
    if password_hash is None:
        hash_password(password, bytes(SALT_BYTES), cost)
        return False
    try:
        Argon2id.verify_phc_encoded(_encoded(password), password_hash)
    except InvalidKey:
        return False
    return True


INVITATION_MS: Final = 7 * 86_400_000
"""How long an invitation is valid."""
_TOKEN_CHARACTERS: Final = 32


class Invitation(NamedTuple):
    """A new invitation. Its token is shown once; only the hash is stored."""

    token: str
    expires_at: int
    """Milliseconds since the epoch."""

    def __repr__(self) -> str:
        return f"Invitation(expires_at={self.expires_at})"

    @property
    def hash(self) -> bytes:
        return hash_secret(self.token)


def new_invitation(random_text: RandomText, now: int) -> Invitation:
    """Return an invitation with a token of 32 random characters: 190 bits, so a plain hash of it is enough."""
    return Invitation(random_text.take(_TOKEN_CHARACTERS), now + INVITATION_MS)


class PasswordHashing:
    """Hashes and checks passwords on threads, from one event loop. Only tests pass another `cost`."""

    def __init__(self, cost: HashCost = STANDARD) -> None:
        self._cost = cost
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._tasks = 0

    async def hash_of(self, password: str, random_bytes: RandomBytes) -> str:
        """Return the hash of a password in its stored form. Raises Overloaded."""
        salt = random_bytes(SALT_BYTES)
        return await self._run(lambda: hash_password(password, salt, self._cost))

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Return whether the password is correct. Without a hash it is not, which takes just as long.

        Raises Overloaded.
        """
        # A password that is cut is wrong: no stored one is as long.
        entered = password[:_MOST_CHECKED_CHARACTERS]
        return await self._run(lambda: verify_password(entered, password_hash, self._cost))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._tasks >= _AT_ONCE + _MOST_WAITING:
            raise Overloaded("Too many passwords are waiting to be checked. Try again soon.")
        self._tasks += 1
        task = asyncio.create_task(self._take_turn(work))
        task.add_done_callback(self._count_done)
        # A thread cannot be cancelled, so a client that goes away must not free the turn of its hash.
        return await asyncio.shield(task)

    async def _take_turn(self, work: Callable[[], T]) -> T:
        async with self._turn:
            return await asyncio.to_thread(work)

    def _count_done(self, _: asyncio.Task[T]) -> None:
        self._tasks -= 1
