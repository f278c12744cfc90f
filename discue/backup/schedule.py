"""Backups at intervals, by a server or by `discue backup --every`."""

from collections.abc import Awaitable, Callable
from typing import Final

from discue.backup.child import create_in_child, newest_in_child
from discue.backup.create import BackupResult
from discue.backup.plan import BackupPlan
from discue.dispatch.lease import Leadership
from discue.domain.clock import Clock
from discue.domain.errors import DiscueError
from discue.observability.logs import Log

_RETRY_SECONDS: Final = 60.0

Create = Callable[[BackupPlan], Awaitable[BackupResult]]
"""Makes a backup. Raises DiscueError."""
Newest = Callable[[BackupPlan], Awaitable[int | None]]
"""Returns when the newest backup was made; None if there is none. Raises DiscueError."""


class BackupSchedule:
    """Makes a backup when the newest one is older than an interval, also if that was made before a restart."""

    def __init__(
        self,
        plan: BackupPlan,
        every_seconds: float,
        clock: Clock,
        *,
        log: Log,
        create: Create = create_in_child,
        newest: Newest = newest_in_child,
        leadership: Leadership,
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
