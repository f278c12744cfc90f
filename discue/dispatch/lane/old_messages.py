"""Misses the messages of a quiet lane that have waited too long: they have no turn in which their age is noticed."""

from collections.abc import Callable
from math import inf
from typing import Final

from discue.dispatch.delivery_rules import SKIP, DeliveryRules, Gap, steps_of_page
from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.limits import Limits
from discue.dispatch.lane.reads import PAGE_BYTES
from discue.store.delivery_rows import retries_up_to
from discue.store.message_log import last_seq_stored_before
from discue.store.time_slice import SLICE_SECONDS

_PAGES: Final = 20
"""The pages of old messages that a run of the job looks at, where it must look at each message."""


class OldMessages:
    """The messages of a lane that were stored before a time."""

    def __init__(self, backlog: Backlog, limits: Limits, rules: DeliveryRules, is_quiet: Callable[[], bool]) -> None:
        """`is_quiet` returns whether no message is in flight, or waits in memory for one that is."""
        owned = self._owned = limits.owned
        self._cursor = owned.cursor
        self._worker = owned.worker
        self._record = owned.record
        self._backlog = backlog
        self._limits = limits
        self._rules = rules
        self._is_quiet = is_quiet

    async def miss_older_than(self, before: int) -> None:
        """Miss the messages of a quiet lane that were stored before a time.

        If the listener may not be sent to, this includes retries: they have no turn in which their age is noticed.
        """
        backlog, cursor, window = self._backlog, self._cursor, self._cursor.window
        if backlog.new and backlog.new[0].stored_at < before:
            backlog.unread()
        last = await self._last_stored_before(
            before, (window.position, min(backlog.head, window.first_settled_beyond - 1))
        )
        # A missed message that blocks its key has a row. It is found to be too old in its turn.
        if not self._is_quiet() or backlog.new or self._record.blocks:
            return
        # Messages that were delivered during the read have moved the position.
        if last > window.position:
            ordering = cursor.ordering
            if self._rules.has_filter or (ordering is not None and ordering.may_hold_keys):
                await self._miss_old_one_by_one(last)
            else:
                cursor.miss_range(window.position + 1, last, "too_old", self._worker.clock.now())
                backlog.read_through = max(backlog.read_through, last)
        # In an ordered queue other messages wait behind a retry, and come next when it has its turn.
        if cursor.retrying and not self._limits.may_send and cursor.ordering is None:
            await self._miss_old_retries(before)

    async def _miss_old_one_by_one(self, last: int) -> None:
        """Miss old messages one by one. The next run looks at the rest."""
        for _ in range(_PAGES):
            position = self._cursor.window.position
            await self._miss_old_page(position, last)
            if not position < self._cursor.window.position < last:
                break

    async def _miss_old_page(self, after: int, last: int) -> None:
        """Miss the messages of a page. A message that the filter rejects is skipped: it is not for the listener.

        A message whose key is held is blocked, and missed in its turn. The row of a key counts the messages behind it,
        and finds each by its key in the log. If a missed range covered some of them, the row would move on to one of
        these, and the last that it counts would be lost.
        """
        backlog, cursor, clock = self._backlog, self._cursor, self._worker.clock
        epoch = backlog.epoch
        queue = (self._record.organization, self._record.queue)
        page = await self._owned.reads.page(queue, after, self._worker.tuning.missed_per_step, lambda: PAGE_BYTES)
        ordering = cursor.ordering
        has_changed = epoch != backlog.epoch or after != cursor.window.position or bool(backlog.new)
        if has_changed or not self._is_quiet() or (ordering is not None and not ordering.is_known):
            return
        now, through, rules = clock.now(), min(page.through, last), self._rules
        until = clock.monotonic() + SLICE_SECONDS if rules.has_filter else inf
        for step in steps_of_page(page, after, self._record.start_seq, through):
            if isinstance(step, Gap):
                cursor.skip(step.first, step.last)
                continue
            held = None if ordering is None else ordering.holder(step)
            if held is None:
                reason = rules.decide_new(step, now)
                if reason == SKIP:
                    cursor.skip_new(step)
                else:
                    cursor.miss_new(step, reason or "too_old", now)
            elif held.row is not None:
                cursor.block(held, [step.seq])
            else:
                # Another worker has the holder in flight, and writes its row.
                through = step.seq - 1
                break
            if until < inf and clock.monotonic() >= until:
                through = step.seq
                break
        backlog.read_through = max(backlog.read_through, through)

    async def _miss_old_retries(self, before: int) -> None:
        backlog, cursor, key, limit = self._backlog, self._cursor, self._record.key, self._worker.tuning.missed_per_step
        epoch = backlog.epoch
        last = await self._last_stored_before(before, (0, cursor.window.position))
        found = await self._owned.reads.read(lambda tx: retries_up_to(tx, key, last, before, limit=limit))
        if epoch != backlog.epoch or self._limits.may_send or not self._is_quiet():
            return
        now = self._worker.clock.now()
        for retry in found:
            if retry.seq in backlog.claimed:
                continue
            backlog.claimed.add(retry.seq)
            if retry.is_there:
                cursor.miss_retry(retry.seq, retry.attempts, "too_old", now)
            else:
                cursor.drop_row(retry.seq)

    async def _last_stored_before(self, before: int, bounds: tuple[int, int]) -> int:
        organization, queue = self._record.organization, self._record.queue
        return await self._owned.reads.read(
            lambda tx: last_seq_stored_before(tx, organization, queue, bounds, before=before)
        )
