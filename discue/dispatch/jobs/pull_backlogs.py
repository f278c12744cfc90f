"""The backlogs of all pull listeners, which the leader reads for the metrics of its worker."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from discue.dispatch.lease import Leadership
from discue.domain.clock import Clock
from discue.store.engine import CursorKey
from discue.store.pull_leases import PullBacklog, backlogs_after
from discue.store.store import Store

SECONDS: Final = 15.0
"""The interval between readings, which is a common interval between scrapes."""
_PER_READ: Final = 100


class PullBacklogs:
    """The last reading. Only the leader has one, so that a sum over workers counts each listener once."""

    def __init__(self, store: Store, clock: Clock, leadership: Leadership) -> None:
        """`clock` is the database's, by which leases end."""
        self._store = store
        self._clock = clock
        self._leadership = leadership
        self._read: Sequence[PullBacklog] = ()

    @property
    def all(self) -> Sequence[PullBacklog]:
        """The backlogs of all pull listeners as of the last reading; empty on workers that do not lead."""
        return self._read if self._leadership.is_held else ()

    async def read(self) -> None:
        """Read them, if this worker leads. A scrape during the reading gets the previous one."""
        found = list[PullBacklog]()
        after: CursorKey = (0, 0, 0)
        while self._leadership.is_held:
            page = await self._store.read(partial(backlogs_after, after=after, limit=_PER_READ, now=self._clock.now()))
            found += page
            if len(page) < _PER_READ:
                break
            after = page[-1].key
        self._read = found
