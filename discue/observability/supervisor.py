"""Supervision of background work: failures are logged and counted, and the work is retried."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from discue.domain.errors import Unavailable
from discue.domain.reservations import ReadBound
from discue.observability.logs import Log

_MAX_PAUSE_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.25


class BackgroundTasks:
    """Tasks without a waiter. The failure of one is logged."""

    def __init__(self, log: Log, event: str) -> None:
        self._log = log
        self._event = event
        self.running: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.running.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error(self._event, exc_info=error)


class Supervisor:
    """Runs pieces of work periodically until it is stopped."""

    def __init__(self, log: Log, hold: Callable[[ReadBound], AbstractContextManager[object]] = nullcontext) -> None:
        """`hold` reserves what a run reads, until the run ends."""
        self._log = log
        self._hold = hold
        self._tasks: list[asyncio.Task[None]] = []
        self.failures: dict[str, int] = {}
        """Unexpected exceptions so far, by the name of the work."""

    def every(
        self,
        seconds: float,
        name: str,
        work: Callable[[], Awaitable[None]],
        max_pause: float = _MAX_PAUSE_SECONDS,
        *,
        reads: ReadBound,
    ) -> None:
        """Run `work` now, and again `seconds` after it ends. After failures, back off up to `max_pause` seconds.

        `reads` bounds what a step of the work reads and holds: see docs/architecture/event-loop-limits.md. Work that
        waits for events declares only what it reads while it waits, and reserves further reads when it makes them.
        """
        self.failures.setdefault(name, 0)
        running = self._run(seconds, name, work, max_pause, reads=reads)
        self._tasks.append(asyncio.get_running_loop().create_task(running, name=name))

    def report(self, name: str, error: Exception) -> None:
        """Log and count an unexpected exception of work, which may also report one that it handles itself."""
        self.failures[name] += 1
        self._log.error("background_failed", exc_info=error, work=name)

    async def stop(self) -> None:
        """Cancel all work. Writes that were already passed to the store are not undone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(
        self, seconds: float, name: str, work: Callable[[], Awaitable[None]], max_pause: float, *, reads: ReadBound
    ) -> None:
        pause = seconds
        while True:
            try:
                with self._hold(reads):
                    await work()
                pause = seconds
            # The database is expected to fail at times, and comes back: not a bug, so not counted.
            except Unavailable as error:
                self._log.warning("background_waits", work=name, reason=error.detail)
                # Work without an interval must not become a busy loop.
                pause = max(seconds, min(max(pause * 2, _FIRST_PAUSE_SECONDS), max_pause))
            except Exception as error:  # Logged, counted, and retried
                self.report(name, error)
                # At least a second: a bug does not go away as an outage does.
                pause = max(seconds, min(max(pause * 2, 1.0), max_pause))
            await asyncio.sleep(pause)
