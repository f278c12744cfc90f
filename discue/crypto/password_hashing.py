"""Password hashing on threads, a few at a time: each hash takes much memory."""

import asyncio
from typing import Final

from discue.domain.ids import RandomBytes
from discue.domain.passwords import SALT_BYTES, STANDARD, HashCost, hash_password, verify_password

_AT_ONCE: Final = 2


class PasswordHashing:
    """Hashes and checks passwords. Used from one event loop; only tests pass another `cost`."""

    def __init__(self, cost: HashCost = STANDARD) -> None:
        self._cost = cost
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def hash_of(self, password: str, random_bytes: RandomBytes) -> str:
        """Return the hash of a password in its stored form."""
        async with self._turn:
            return await asyncio.to_thread(hash_password, password, random_bytes(SALT_BYTES), self._cost)

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Return whether the password is correct. Without a hash it is not, which takes just as long."""
        async with self._turn:
            return await asyncio.to_thread(verify_password, password, password_hash, self._cost)
