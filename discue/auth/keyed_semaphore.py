"""At most so many at once for each name; the others wait for their turn, and not too many of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from discue.domain.errors import Overloaded


class KeyedSemaphore:
    """Remembers a name for as long as somebody is at it. Used from one event loop."""

    def __init__(self, *, at_once: int, waiting: int) -> None:
        """`waiting` bounds how many there are under all names together, those at it included."""
        self._at_once = at_once
        self._waiting = waiting
        self._inside = 0
        self._gates: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @property
    def names(self) -> int:
        """How many are remembered."""
        return len(self._gates)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the block lasts. Raises Overloaded where too many wait already."""
        if self._inside >= self._waiting:
            raise Overloaded("Too many attempts to authenticate are waiting. Try again soon.")
        gate = self._enter(name)
        try:
            async with gate:
                yield
        finally:
            self._leave(name)

    def _enter(self, name: str) -> asyncio.Semaphore:
        gate, inside = self._gates.get(name) or (asyncio.Semaphore(self._at_once), 0)
        self._gates[name] = gate, inside + 1
        self._inside += 1
        return gate

    def _leave(self, name: str) -> None:
        gate, inside = self._gates[name]
        self._inside -= 1
        if inside == 1:
            del self._gates[name]
        else:
            self._gates[name] = gate, inside - 1
