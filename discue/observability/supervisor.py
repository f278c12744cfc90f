"""Background work that must not die unnoticed: one that fails is logged, counted, and started again."""

import asyncio
from collections.abc import Awaitable, Callable

from discue.domain.errors import Unavailable
from discue.observability.logs import Log

_LONGEST_PAUSE_SECONDS = 30.0


class Supervisor:
    """Runs rounds of work at intervals until it is stopped."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._tasks: list[asyncio.Task[None]] = []
        self.failures = 0

    def every(
        self,
        seconds: float,
        name: str,
        work: Callable[[], Awaitable[None]],
        longest_pause: float = _LONGEST_PAUSE_SECONDS,
    ) -> None:
        """Run `work` now and again, `seconds` after it ended; after failures more rarely, up to `longest_pause`."""
        self._tasks.append(
            asyncio.get_running_loop().create_task(self._run(seconds, name, work, longest_pause), name=name)
        )

    async def stop(self) -> None:
        """End all of it. A round under way is cancelled: what it asked the store to write stands."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, seconds: float, name: str, work: Callable[[], Awaitable[None]], longest_pause: float) -> None:
        pause = seconds
        while True:
            try:
                await work()
                pause = seconds
            except Unavailable as error:
                self._log.warning("background_waits", work=name, reason=error.detail)
                pause = max(seconds, min(pause * 2, longest_pause))
            except Exception as error:  # noqa: BLE001 - logged, counted, and tried again
                self.failures += 1
                self._log.error("background_failed", exc_info=error, work=name)
                pause = max(seconds, min(max(pause * 2, 1.0), longest_pause))
            await asyncio.sleep(pause)
