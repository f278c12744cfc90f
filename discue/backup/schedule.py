"""Backups at intervals, by a server. Each runs in a separate process.

The process has its own interpreter lock and a lower priority than the server. A thread of low priority is not enough:
while it holds the lock and another program has the processor, the server waits.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

import msgspec

from discue.backup.create import BackupPlan, BackupResult, create_backup, newest_of
from discue.backup.destination import destination_of
from discue.domain.clock import Clock, SystemClock
from discue.domain.errors import DiscueError
from discue.observability.logs import Log

if TYPE_CHECKING:
    from discue.dispatch.lease import Leadership

_RETRY_SECONDS: Final = 60.0
_CREATE: Final = "create"
_NEWEST: Final = "newest"
_REFUSED: Final = 3
"""Status of a process that has written the reason why there is no result."""
_STOP_SECONDS: Final = 5.0


async def create_in_child(plan: BackupPlan) -> BackupResult:
    """Make a backup like `create_backup`, in a process that ends with this one. Raises DiscueError."""
    return msgspec.json.decode(await _result_of(_CREATE, plan), type=BackupResult)


async def newest_in_child(plan: BackupPlan) -> int | None:
    """Return like `newest_of` when the newest backup was made. Raises DiscueError."""
    return cast("int | None", msgspec.json.decode(await _result_of(_NEWEST, plan), type=int | None))


async def _result_of(task: str, plan: BackupPlan) -> bytes:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, task, stdin=PIPE, stdout=PIPE)
    orders, results = cast("asyncio.StreamWriter", process.stdin), cast("asyncio.StreamReader", process.stdout)
    try:
        orders.write(msgspec.json.encode(plan, enc_hook=str) + b"\n")
        output = await results.read()
        status = await process.wait()
    finally:
        orders.close()
        if process.returncode is None:
            process.kill()
            # A file system that does not respond keeps a process from ending.
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    if status == _REFUSED:
        raise DiscueError(output.decode())
    if status:
        raise DiscueError(f"The process of the backup ended with status {status}.")
    return output


def main() -> None:
    """Carry out a task for the plan on the standard input, and write the result to the standard output."""
    _yield_processors()
    # A terminal sends it to this process, too. The parent decides whether the backup stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    plan = msgspec.json.decode(line, type=BackupPlan, dec_hook=lambda path, text: path(text))
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    status = 0
    try:
        destination = destination_of(plan.destination, os.environ)
        if sys.argv[1] == _NEWEST:
            output = msgspec.json.encode(newest_of(plan.database, destination))
        else:
            output = msgspec.json.encode(create_backup(plan, destination, SystemClock(), os.urandom))
    except DiscueError as error:
        output, status = error.detail.encode(), _REFUSED
    sys.stdout.buffer.write(output)
    sys.stdout.flush()
    # The thread still reads: the interpreter would wait for its lock on the input.
    os._exit(status)


def _end_with_the_parent() -> None:
    # The parent writes nothing after the plan: the input ends when the parent does.
    sys.stdin.buffer.read()
    os._exit(1)


_NICENESS: Final = 10
_WATCH_SECONDS: Final = 2.0
_ENOUGH: Final = 0.25
"""The share of a processor with which the process goes on using idle ones only."""


def _yield_processors() -> None:
    """Give this process a low priority. On Linux, its main thread uses only idle processors while there are enough.

    A program that wakes up takes its processor from such a thread at once. From one with a low priority, it may get it
    at the end of a time slice of some milliseconds, and a publish takes that much longer.
    """
    # Where a sandbox forbids it, the process has the priority of the server.
    with suppress(PermissionError):
        os.nice(_NICENESS)
    if sys.platform == "linux":
        threading.Thread(target=_watch_share, daemon=True).start()


def _watch_share() -> None:
    # If no processor is ever idle, the process would never end, and its read transaction would let the log grow.
    main_thread, used, has_enough = threading.main_thread().native_id or 0, time.process_time(), True
    while True:
        with suppress(PermissionError):
            os.sched_setscheduler(main_thread, os.SCHED_IDLE if has_enough else os.SCHED_OTHER, os.sched_param(0))
        time.sleep(_WATCH_SECONDS)
        used, before = time.process_time(), used
        has_enough = used - before >= _ENOUGH * _WATCH_SECONDS


class BackupSchedule:
    """Makes a backup when the newest one is older than an interval, also if that was made before a restart."""

    def __init__(
        self,
        plan: BackupPlan,
        every_seconds: float,
        clock: Clock,
        *,
        log: Log,
        create: Callable[[BackupPlan], Awaitable[BackupResult]] = create_in_child,
        newest: Callable[[BackupPlan], Awaitable[int | None]] = newest_in_child,
        leadership: "Leadership",
    ) -> None:
        self._plan = plan
        self._every_seconds = every_seconds
        self._clock = clock
        self._log = log
        self._create = create
        self._newest = newest
        self._leadership = leadership
        self._due_at: int | None = None
        """Milliseconds since the epoch; None if it is not known."""
        self._newest_at: int | None = None
        """When the newest backup was made, or the first one could have been made, in milliseconds since the epoch."""

    @property
    def age_seconds(self) -> float | None:
        """Age of the newest backup, or time without one; None if another worker makes the backups."""
        return None if self._newest_at is None else max(0, self._clock.now() - self._newest_at) / 1_000

    async def round(self) -> None:
        """Make a backup if one is due, and log the result. A backup that failed is tried again within a minute."""
        if not self._leadership.is_held:
            self._due_at = self._newest_at = None
            return
        if self._newest_at is None:
            self._newest_at = self._clock.now()
        try:
            if await self._is_due():
                started_at = self._clock.monotonic()
                made = await self._create(self._plan)
                self._newest_at = made.header.created_at
                self._due_after(self._every_seconds)
                self._report(made, self._clock.monotonic() - started_at)
        except DiscueError as error:
            self._log.error("backup_failed", destination=self._plan.destination, reason=error.detail)
            self._due_after(min(self._every_seconds, _RETRY_SECONDS))

    async def _is_due(self) -> bool:
        if self._due_at is None:
            newest = await self._newest(self._plan)
            if newest is None:
                self._due_at = 0
            else:
                self._newest_at, self._due_at = newest, newest + round(self._every_seconds * 1_000)
        # A clock that was set back must not postpone the next one further.
        self._due_at = min(self._due_at, self._clock.now() + round(self._every_seconds * 1_000))
        return self._clock.now() >= self._due_at

    def _due_after(self, seconds: float) -> None:
        self._due_at = self._clock.now() + round(seconds * 1_000)

    def _report(self, made: BackupResult, seconds: float) -> None:
        self._log.info(
            "backup_made",
            file=made.path,
            bytes=made.size,
            database_bytes=made.header.database_bytes,
            wal_bytes=made.wal_bytes,
            seconds=round(seconds, 1),
            deleted=len(made.deleted),
        )
        for problem in made.problems:
            self._log.warning("backup_kept", reason=problem)


if __name__ == "__main__":
    main()
