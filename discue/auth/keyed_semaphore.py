"""A semaphore per key, with caps on waiters and on all users."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(kw_only=True, eq=False)
class KeyedSemaphore(Generic[K]):
    """Limits concurrency per key. A key takes memory only while it is held or waited for. Used from one event loop."""

    limit: int
    """The number of slots of each key."""
    max_waiting: int
    """A cap over all keys together."""
    refusal: Callable[[], Exception]
    """Creates the error for a caller that is over a cap or has waited too long."""
    timeout_seconds: float | None = None
    max_users: int | None = None
    """A cap over all keys together, also on users that hold a slot: each new key adds a user that never waits."""
    max_users_per_key: int | None = None
    """Keeps one key from using up that cap."""
    _users: int = field(default=0, init=False)
    _waiting: int = field(default=0, init=False)
    _slots: dict[K, tuple[asyncio.Semaphore, int]] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._slots)

    @asynccontextmanager
    async def hold(self, key: K) -> AsyncIterator[None]:
        """Hold one of the key's slots, in the order of arrival. Raises the refusal."""
        if self.max_users is not None and self._users >= self.max_users:
            raise self.refusal()
        semaphore, users = self._slots.get(key) or (asyncio.Semaphore(self.limit), 0)
        if self.max_users_per_key is not None and users >= self.max_users_per_key:
            raise self.refusal()
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
            raise self.refusal()
        self._waiting += 1
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await semaphore.acquire()
        except TimeoutError:
            raise self.refusal() from None
        finally:
            self._waiting -= 1
