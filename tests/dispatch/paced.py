"""An engine whose commits and reads get stuck where a test says so."""

import asyncio
from pathlib import Path
from typing import Literal, TypeVar

from discue.store.engine import Batch, BatchOutcome, CommitConcurrency, LogPage, Work
from discue.store.sqlite.engine import Report, SqliteEngine

T = TypeVar("T")

Place = Literal["", "before", "after", "reading"]


class Paced(SqliteEngine):
    """Commits on the loop's own thread, so that a run can be repeated.

    `slow` says what gets stuck: commits before or after they are made, or reads with what they have found.
    Reads let others go on for a moment, as they do on an engine that is not in this process.
    """

    concurrency = CommitConcurrency(lane_reads=3)

    def __init__(self, path: Path, *, report: Report) -> None:
        super().__init__(path, report=report)
        self.slow: Place = ""
        self.got_stuck = 0
        self._faster = asyncio.Event()

    async def commit(self, batch: Batch) -> BatchOutcome:
        await self._stuck("before")
        outcome = self._write(batch)
        await self._stuck("after")
        return outcome

    async def read(self, work: Work[T]) -> T:
        result = await super().read(work)
        await self._linger()
        return result

    async def page(self, organization: int, queue: int, after: int, rows: int, *, max_bytes: int) -> LogPage:
        result = await super().page(organization, queue, after, rows, max_bytes=max_bytes)
        await self._linger()
        return result

    def hurry(self) -> None:
        """Let stuck calls go on."""
        self.slow = ""
        self._faster.set()

    def let_others_pass(self) -> None:
        """Let new calls pass. Stuck ones wait for `hurry`."""
        self.slow = ""

    async def _linger(self) -> None:
        await asyncio.sleep(0)
        await self._stuck("reading")

    async def _stuck(self, place: Place) -> None:
        if self.slow == place:
            self._faster.clear()
            self.got_stuck += 1
            await self._faster.wait()
