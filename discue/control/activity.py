"""The activity of organizations in the past day. Counts that no longer change are read once."""

from collections.abc import Sequence
from typing import Final

import msgspec

from discue.auth.control_plane_cache import LruCache
from discue.store import tallies
from discue.store.store import Store

_CACHED: Final = 100
"""Organizations. Each takes about 30 kB."""
_LATE_PERIODS: Final = 12
"""An hour. Counts are stored within seconds, or when the store is back: older ones are taken as final."""
_KINDS: Final = (tallies.MESSAGE_ADDED, tallies.MESSAGE_PUBLISHED_OK, tallies.MESSAGE_PUBLISHED_NOT_OK)


class Activity(msgspec.Struct, frozen=True):
    """The activity of an organization in one period of five minutes."""

    started_at: int
    """Milliseconds since the epoch."""
    published: int = 0
    acknowledged: int = 0
    """Attempts that were acknowledged."""
    failed: int = 0
    """Attempts that failed."""


class ActivityCache:
    """The activity of organizations, up to an hour ago, in an LRU cache.

    A page that shows the day loads itself again at each change. It then reads the counts of the past hour only.
    """

    def __init__(self) -> None:
        self._settled: LruCache[int, Sequence[Activity]] = LruCache(_CACHED)

    async def past_day(self, store: Store, organization: int, now: int) -> Sequence[Activity]:
        """Return the activity of the past 24 hours, the oldest period first; the last one has not ended."""
        periods = tallies.past_day(now)
        start = periods.start * tallies.PERIOD_MS
        known = self._settled.get(organization) or ()
        if known and known[0].started_at > start:
            # The clock was set back.
            known = ()
        settled = [each for each in known if each.started_at >= start]
        first = periods.start + len(settled)
        rows = await store.read(lambda tx: tallies.since(tx, organization, first))
        counts = {(period, kind): n for period, kind, n in rows}
        found = settled + [
            Activity(period * tallies.PERIOD_MS, *(counts.get((period, kind), 0) for kind in _KINDS))
            for period in range(first, periods.stop)
        ]
        self._settled.put(organization, found[: -1 - _LATE_PERIODS], ())
        return found
