"""A thread that runs functions one after another."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol


class Serial(Protocol):
    """Runs functions one after another, in the order of `submit`, and never within it."""

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work` after everything that was submitted before. It must not raise."""

    async def close(self) -> None:
        """Return when everything that was submitted has run. Nothing may be submitted any more."""


StartThread = Callable[[str], Serial]
"""Starts a thread with a name."""


class SerialThread:
    """A daemon thread: it does not keep a process from ending."""

    def __init__(self, name: str) -> None:
        self._works: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        self._works.put(work)

    async def close(self) -> None:
        self._works.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (work := self._works.get()) is not None:
            work()
