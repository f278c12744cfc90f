"""Reading listeners again, one after another, until the store has answered for each."""

import asyncio
from collections.abc import Awaitable, Callable

from discue.dispatch.lane.flush import Spawn
from discue.domain.errors import Unavailable

RELOAD_PAUSE_SECONDS = 0.25

ListenerKey = tuple[int, int]
"""Organization and listener, by their row ids."""


class ReloadQueue:
    """`reload` is called for each listener that was asked for, and again while it raises Unavailable."""

    def __init__(self, reload: Callable[[int, int], Awaitable[None]], spawn: Spawn) -> None:
        self._reload = reload
        self._spawn = spawn
        self._waiting: dict[ListenerKey, None] = {}
        self._task: asyncio.Task[None] | None = None

    def ask(self, listener: ListenerKey) -> None:
        self._waiting[listener] = None
        if self._task is None:
            self._task = self._spawn(self._reload_all())

    async def _reload_all(self) -> None:
        try:
            while self._waiting:
                listener = next(iter(self._waiting))
                del self._waiting[listener]
                try:
                    await self._reload(*listener)
                except Unavailable:
                    self._waiting[listener] = None
                    await asyncio.sleep(RELOAD_PAUSE_SECONDS)
        finally:
            self._task = None
