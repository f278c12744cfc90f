# The store has everything that waits; the backlog holds a short stretch of it in two queues, `new` and `retries`.
# Whatever is dropped here is read again when it is needed.
#
# New messages come from notifications while the lane has caught up with the log, and from pages of the log while it is
# behind. Retries come from rows in the order of their due times; after the circuit breaker was open a sweep reads them
# in the order of the log instead, due or not.
"""The messages that a lane has read and not sent yet, and reading more of them."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from discue.dispatch.delivery_rules import Gap, steps_of_page
from discue.dispatch.lane.context import PAGE_BYTES, BodyBudget, memory_of
from discue.dispatch.lane.ordering import WaitingByKey
from discue.dispatch.lane.owned_cursor import DAMAGED_RETRY_SECONDS, OwnedCursor
from discue.domain.errors import StoreDamaged, Unavailable
from discue.domain.messages import Entry
from discue.domain.waiting import DUE_NOW
from discue.domain.window import SPAN
from discue.store.delivery_rows import DueRetry, read_due, read_sweep
from discue.store.engine import Settle
from discue.store.listeners import Sweep

_ENDLESS: Final = (1 << 63) - 1


class Backlog:
    """Two queues in memory, each a short stretch of what waits in the store."""

    def __init__(self, owned: OwnedCursor, budget: BodyBudget) -> None:
        record = owned.record
        self.owned = owned
        self._cursor = owned.cursor
        self._worker = owned.worker
        self._record = record
        self._queue = (record.organization, record.queue)
        self._budget = budget
        self._tuning = owned.worker.tuning
        self.new: deque[Entry] = deque()
        self.waiting = WaitingByKey(self.new, self._budget)
        self.retries: deque[DueRetry] = deque()
        self._until = _ENDLESS if record.replay is None else record.replay.until_seq
        self.head = min(record.head, self._until)
        """The last message of the log that is known of."""
        self.read_through = record.position
        """Everything up to this seq was read from the log."""
        self._unread_since = 0
        """When the first message was stored that was forgotten since the last read; 0: none was."""
        self.due_at = DUE_NOW if record.retrying else 0
        """When to read retries again, in milliseconds since the epoch; 0 if none is known."""
        self.epoch = 0
        """Changes when what is being read is not needed any more."""
        self._is_reading = False
        self._damaged_until = 0.0
        """When to repeat a read that found damaged data, by the monotonic clock; 0 if the last read succeeded."""
        self._changed_during_read: set[int] = set()
        """Rows that were flushed while retries were read."""
        self._sweep = record.known.sweep
        self._has_swept = False
        """Whether `retries` come from the sweep."""

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to send, and nothing to read now or later."""
        if self.new or self.retries:
            return False
        return self._is_reading or not (self.read_through < self.head or self.due_at > 0 or self._sweep.is_on)

    @property
    def is_read(self) -> bool:
        """Whether all messages of the log up to its head were read and have begun."""
        return not self.new and self.read_through >= self.head

    @property
    def is_caught_up(self) -> bool:
        """Whether, according to memory, all messages up to the head have begun and no retry is due."""
        return self.is_read and not (self.retries or self._is_reading or self.waiting.count or self._sweep.is_on)

    @property
    def waiting_since(self) -> int:
        """When the first new message was stored, as far as memory tells; 0: there is none, or it was not read yet."""
        return self.new[0].stored_at if self.new else self._unread_since

    def begin_sweep(self) -> None:
        """Send all waiting retries now, in the order of the log. Their rows do not change for that."""
        cursor = self._cursor
        if cursor.retrying:
            self._sweep = Sweep(0, cursor.window.last_settled)

    def end_sweep(self) -> None:
        """Let the retries that the sweep has not passed wait for their time."""
        if self._sweep.is_on or self._has_swept:
            self._sweep, self._has_swept = Sweep(), False
            self.unread()

    def swept(self) -> Sweep:
        """Return how far the sweep has come. A sweep that goes on from there leaves out nothing that is not flushed."""
        sweep = self._sweep
        if not sweep.is_on and not self._has_swept:
            return Sweep()
        return Sweep(min([sweep.through, *(seq - 1 for seq in self._cursor.claimed)]), sweep.until)

    def on_published(self, entries: tuple[Entry, ...], *, may_hold: bool) -> None:
        """Note that messages were appended, and hold them if they continue what was read."""
        last = entries[-1].seq
        self.on_head(last)
        is_next = self.read_through == entries[0].seq - 1 and not self._is_reading
        if not may_hold or not is_next or len(self.new) + len(entries) > self._tuning.notified_held:
            return
        if self._budget.take(sum(memory_of(entry) for entry in entries)):
            self.new.extend(entries)
            self.read_through = last

    def on_head(self, head: int) -> bool:
        """Note how far the log goes. False if it is known. Notifications of other workers come in any order."""
        head = min(head, self._until)
        if head <= self.head:
            return False
        self.head = head
        return True

    def take_new(self) -> Entry:
        entry = self.new.popleft()
        self._budget.held -= memory_of(entry)
        return entry

    def expect_retry_at(self, due_at: int) -> None:
        """Read retries at this time at the latest."""
        if not self.due_at or due_at < self.due_at:
            self.due_at = due_at
            self.owned.lane.wake_at(due_at)

    def on_flushed(self, settle: Settle) -> None:
        if self._is_reading:
            self._changed_during_read.update(settle.resolved, (row.seq for row in settle.delivery_rows))
        # Only now: a read before the flush would not have found them.
        for row in settle.delivery_rows:
            if row.state == "retry":
                self.expect_retry_at(row.due_at)

    def unread(self) -> None:
        """Forget what was read and not sent, so that it is read again. The result of a running read is not taken."""
        # Messages that have waited for their keys are at the front of `new`, in no order.
        self._unread_since = self.waiting_since
        unsent = [*(entry.seq for entry in self.new), *self.waiting.first_seqs]
        if unsent:
            self.read_through = min(unsent) - 1
        if self.retries and self._has_swept:
            self._sweep = Sweep(self.retries[0].seq - 1, self._sweep.until)
        for retry in self.retries:
            self._cursor.forget(retry.seq)
        if self._cursor.retrying:
            self.due_at = DUE_NOW
        self.drop()

    def take_retry(self) -> DueRetry:
        retry = self.retries.popleft()
        self._budget.give_back(memory_of(retry.entry))
        return retry

    def drop(self) -> None:
        """Remove everything from memory."""
        self.epoch += 1
        self.waiting.clear()
        self._budget.give_back(
            sum(memory_of(entry) for entry in self.new) + sum(memory_of(each.entry) for each in self.retries)
        )
        self.new.clear()
        self.retries.clear()

    def read_on(self, now: int, may_read_page: Callable[[int], bool]) -> None:
        """Read due retries, new messages or both in the background, if none are in memory.

        Only one read runs at a time. `may_read_page` is called before new messages are read.
        """
        if self._is_reading or (self._damaged_until and self._worker.clock.monotonic() < self._damaged_until):
            return
        retries = not self.retries and (0 < self.due_at <= now or self._sweep.is_on)
        page = self.read_through < self.head and not self.new and may_read_page(now)
        if retries or page:
            self._is_reading = True
            self._worker.spawn(self._read(self.epoch, now, retries=retries, page=page))

    async def _read(self, epoch: int, now: int, *, retries: bool, page: bool) -> None:
        try:
            # The epoch may have changed before this runs at all.
            if retries and epoch == self.epoch:
                await (self._read_swept() if self._sweep.is_on else self._read_due(now))
            if page and epoch == self.epoch:
                await self._read_page()
        except Unavailable as error:
            if isinstance(error, StoreDamaged):
                self._damaged_until = self._worker.clock.monotonic() + DAMAGED_RETRY_SECONDS
            self.owned.lane.wake_at(self.owned.retries_at(error))
            return
        finally:
            self._is_reading = False
        self._damaged_until = 0.0
        self.owned.lane.advance()

    async def _read_due(self, now: int) -> None:
        epoch, before, key = self.epoch, self.due_at, self._record.key
        limit = self._tuning.due_rows + len(self._cursor.claimed)
        # A row that is flushed during the read may be due sooner than all that it finds.
        self.due_at = 0
        self._changed_during_read.clear()
        try:
            found = await self.owned.reads.read(
                lambda tx: read_due(
                    tx, self._queue, key, now, limit=limit, max_bytes=self._most_bytes(), known=self._cursor.states
                )
            )
        except BaseException:
            self.due_at = before
            raise
        if epoch != self.epoch:
            return
        if found.next_at:
            self.expect_retry_at(found.next_at)
        self._has_swept = False
        self._take_retries(found.retries)

    async def _read_swept(self) -> None:
        epoch, sweep, key, limit = self.epoch, self._sweep, self._record.key, self._tuning.due_rows
        self._changed_during_read.clear()
        found = await self.owned.reads.read(
            lambda tx: read_sweep(
                tx, self._queue, key, sweep, limit=limit, max_bytes=self._most_bytes(), known=self._cursor.states
            )
        )
        if epoch != self.epoch:
            return
        self._sweep = Sweep(found.through, sweep.until)
        self._has_swept = True
        self._take_retries(found.retries)
        if not self._sweep.is_on:
            # Retries that were scheduled during the sweep wait for their time.
            self.due_at = DUE_NOW

    def _most_bytes(self) -> int:
        """Return the most bytes to read now. Computed when the read begins: other lanes may use memory until then."""
        return min(PAGE_BYTES, self._budget.left)

    def _take_retries(self, found: Iterable[DueRetry]) -> None:
        for retry in found:
            if retry.seq not in self._cursor.states and retry.seq not in self._changed_during_read:
                self._cursor.claim(retry.seq)
                self._budget.force(memory_of(retry.entry))
                self.retries.append(retry)

    async def _read_page(self) -> None:
        epoch, known = self.epoch, self.head
        rows = self._tuning.page_rows
        page = await self.owned.reads.page(self._queue, self.read_through, rows, self._most_bytes)
        if epoch != self.epoch:
            return
        self._unread_since = 0
        window = self._cursor.window
        through = min(page.through, window.position + SPAN, self._until)
        self.head = max(self.head, min(page.head, self._until))
        for step in steps_of_page(page, self.read_through, self._record.start_seq, through):
            if isinstance(step, Gap):
                self._cursor.skip(step.first, step.last)
            elif not window.is_settled(step.seq) and step.seq not in self._cursor.states:
                self._budget.force(memory_of(step))
                self.new.append(step)
        self.read_through = max(self.read_through, through)
        if page.head < known and self.head == known:
            # The queue was deleted, or the store has a shorter history than what was notified.
            self.head = max(page.head, self.read_through)
