"""A semaphore per key, with caps on waiters and on all users."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class KeyedSemaphore(Generic[K]):
    """Limits concurrency per key. A key takes memory only while it is held or waited for. Used from one event loop."""

    def __init__(
        self,
        *,
        limit: int,
        max_waiting: int,
        refusal: Callable[[], Exception],
        timeout_seconds: float | None = None,
        max_users: int | None = None,
        max_users_per_key: int | None = None,
    ) -> None:
        """`limit` is the number of slots of each key; `max_waiting` and `max_users` are caps over all keys together.

        `max_users` also counts users that hold a slot: without it, each new key adds a user that never waits.
        `max_users_per_key` keeps one key from using up that cap. None means no cap. `refusal` creates the error for a
        caller that is over a cap or has waited too long.
        """
        self.timeout_seconds = timeout_seconds
        self.max_waiting = max_waiting
        self._limit = limit
        self._max_users = max_users
        self._max_users_per_key = max_users_per_key
        self._users = 0
        self._refusal = refusal
        self._waiting = 0
        self._slots: dict[K, tuple[asyncio.Semaphore, int]] = {}

    def __len__(self) -> int:
        return len(self._slots)

    @asynccontextmanager
    async def hold(self, key: K) -> AsyncIterator[None]:
        """Hold one of the key's slots, in the order of arrival. Raises the refusal."""
        if self._max_users is not None and self._users >= self._max_users:
            raise self._refusal()
        semaphore, users = self._slots.get(key) or (asyncio.Semaphore(self._limit), 0)
        if self._max_users_per_key is not None and users >= self._max_users_per_key:
            raise self._refusal()
        self._slots[key] = semaphore, users + 1
        self._users += 1
        try:
            if semaphore.locked():
                await self._wait(semaphore)
            else:
                await semaphore.acquire()
            try:
                yield
            finally:
                semaphore.release()
        finally:
            self._users -= 1
            _, users = self._slots[key]
            if users == 1:
                del self._slots[key]
            else:
                self._slots[key] = semaphore, users - 1

    async def _wait(self, semaphore: asyncio.Semaphore) -> None:
        if self._waiting >= self.max_waiting:
            raise self._refusal()
        self._waiting += 1
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await semaphore.acquire()
        except TimeoutError:
            raise self._refusal() from None
        finally:
            self._waiting -= 1
