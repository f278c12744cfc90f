"""Deliveries that waited longer than the deadline allows, where no turn of theirs would find that out."""

from collections.abc import Callable

from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.cursor_state import CursorState
from discue.dispatch.lane.reads import LimitedReads
from discue.domain.clock import Clock
from discue.store.cursors import LaneRecord
from discue.store.delivery_rows import retries_up_to
from discue.store.message_log import last_seq_stored_before

_EXPIRED_AT_ONCE = 500


class Expiry:
    """One lane's. `is_quiet` is asked after each read, which may take its time: whether nothing is under way.

    So is `is_enabled`: whether the listener is, so that what waits has turns of its own.
    """

    def __init__(
        self,
        record: LaneRecord,
        progress: CursorState,
        backlog: Backlog,
        sources: tuple[LimitedReads, Clock],
        is_quiet: Callable[[], bool],
        is_enabled: Callable[[], bool],
    ) -> None:
        self._record = record
        self._progress = progress
        self._backlog = backlog
        self._reads, self._clock = sources
        self._is_quiet = is_quiet
        self._is_enabled = is_enabled

    async def miss_older_than(self, before: int) -> None:
        """Miss what was stored before a time; of a disabled listener also what waits for another attempt."""
        backlog, window = self._backlog, self._progress.window
        if backlog.new and backlog.new[0].stored_at < before:
            backlog.unread()
        bounds = (window.position, min(backlog.head, window.first_settled_beyond - 1))
        last = await self._last_stored_before(before, bounds)
        # What blocks its key is not missed with many others: that it is too old is found when it has its turn.
        if not self._is_quiet() or backlog.new or self._record.blocks:
            return
        # What was delivered while the log was read has moved the position.
        if last > window.position:
            self._progress.miss(window.position + 1, last, "too_old", self._clock.now())
            backlog.read_through = max(backlog.read_through, last)
        # In an ordered queue a message that waits has others behind it, which come next when it has its turn.
        if self._progress.retrying and not self._is_enabled() and self._progress.ordering is None:
            await self._expire_retries(before)

    async def _expire_retries(self, before: int) -> None:
        """Those of a disabled listener, which have no turn of their own."""
        reading, key = self._backlog.readings, self._record.key
        last = await self._last_stored_before(before, (0, self._progress.window.position))
        found = await self._reads.read(lambda tx: retries_up_to(tx, key, last, before, _EXPIRED_AT_ONCE))
        if reading != self._backlog.readings or self._is_enabled() or not self._is_quiet():
            return
        now, claimed = self._clock.now(), self._backlog.claimed
        for retry in found:
            if retry.seq in claimed:
                continue
            claimed.add(retry.seq)
            if retry.is_there:
                self._progress.expire(retry.seq, retry.attempts, "too_old", now)
            else:
                self._progress.forget(retry.seq)

    async def _last_stored_before(self, before: int, bounds: tuple[int, int]) -> int:
        organization, queue = self._record.organization, self._record.queue
        return await self._reads.read(lambda tx: last_seq_stored_before(tx, organization, queue, bounds, before))
