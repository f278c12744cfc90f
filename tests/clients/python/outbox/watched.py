"""The database of a relay, with a signal after each transaction."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from discue_client.outbox.database import Database
from discue_client.outbox.relay import Relay
from discue_client.outbox.steps import Step

T = TypeVar("T")

_PATIENCE_SECONDS = 20.0


class Watched:
    """Passes transactions on. `names` are those of the steps so far, and `before` is called before each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = asyncio.Condition()
        self.names: list[str] = []
        self.before: Callable[[str], None] = lambda name: None

    async def transaction(self, step: Step[T], *, lock: str | None = None) -> T:
        name: str = getattr(step, "__name__")  # noqa: B009 - generators have one, and their type does not
        self.before(name)
        result = await self._database.transaction(step, lock=lock)
        async with self._changed:
            self.names.append(name)
            self._changed.notify_all()
        return result

    async def listen(self, wake: Callable[[], None], /) -> None:
        await self._database.listen(wake)

    async def close(self) -> None:
        await self._database.close()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds after a transaction."""
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(holds), _PATIENCE_SECONDS)


def watched(relay: Relay) -> Watched:
    """Return the database of a relay that has not started."""
    made: Any = Watched(relay._database)
    relay._database = made
    found: Watched = made
    return found
