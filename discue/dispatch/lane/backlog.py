"""What a lane has read and not sent yet, and reading more: new messages from the log, retries from the exceptions."""

from collections import deque
from collections.abc import Callable, Container, Coroutine, Iterable
from functools import partial
from typing import Any

from discue.dispatch.lane.budget import BodyBudget
from discue.dispatch.lane.cursor_state import CursorState
from discue.dispatch.lane.reads import LimitedReads
from discue.dispatch.lane.waiting import WaitingByKey
from discue.domain.messages import Entry
from discue.domain.window import SPAN
from discue.store.cursors import LaneRecord
from discue.store.delivery_rows import DueRetries, DueRetry, read_due, read_sweep
from discue.store.engine import LogPage, Settle
from discue.store.listener_health import Sweep

_ENDLESS = (1 << 63) - 1
_PAGE_ROWS = 128
_PAGE_BYTES = 1 << 20
_DUE_ROWS = 32
_HINTS_HELD = 256


class Backlog:
    """Two queues in memory, each a short stretch of what waits in the store.

    `due_at` is when to look for retries again, 0 when none is known. `wake_at` is asked to call the lane then.
    `claimed` are the exceptions that the store still shows as they were: under way, about to be, or
    ended and not stored. `readings` is another number when what was being read is not wanted any more.
    """

    __slots__ = (
        "_budget",
        "_fetching",
        "_has_swept",
        "_key",
        "_progress",
        "_queue",
        "_reads",
        "_start_seq",
        "_stored_meanwhile",
        "_sweep",
        "_under_way",
        "_until",
        "_wake_at",
        "claimed",
        "due_at",
        "head",
        "new",
        "read_through",
        "readings",
        "retries",
        "waiting",
    )

    def __init__(
        self,
        record: LaneRecord,
        progress: CursorState,
        sources: tuple[LimitedReads, BodyBudget],
        wake_at: Callable[[int], None],
        under_way: Container[int],
    ) -> None:
        self._key = (record.organization, record.listener, record.stream)
        self._queue = (record.organization, record.queue)
        self._start_seq = record.start_seq
        self._progress = progress
        self._reads, self._budget = sources
        self._wake_at = wake_at
        self._under_way = under_way
        self.new: deque[Entry] = deque()
        self.waiting = WaitingByKey(self.new, self._budget)
        self.retries: deque[DueRetry] = deque()
        self.claimed: set[int] = set()
        self._until = _ENDLESS if record.replay is None else record.replay.until_seq
        self.head = min(record.head, self._until)
        self.read_through = record.position
        self.due_at = 1 if record.retrying else 0
        self._fetching = False
        self._stored_meanwhile: set[int] = set()
        self._sweep = record.known.sweep
        self._has_swept = False
        self.readings = 0

    @property
    def is_behind(self) -> bool:
        """Whether the log has messages that come next and were not read."""
        return self.read_through < self.head and not self.new

    @property
    def is_idle(self) -> bool:
        """Nothing to send, and nothing to read now or later."""
        return not self.new and not self.retries and not self.may_fetch

    @property
    def is_empty(self) -> bool:
        """Nothing is held that could be sent."""
        return not self.new and not self.retries

    @property
    def may_fetch(self) -> bool:
        return not self._fetching and (self.is_behind or self.due_at > 0 or self._sweep.is_on)

    def has_due(self, now: int) -> bool:
        return (0 < self.due_at <= now or self._sweep.is_on) and not self.retries

    def begin_sweep(self) -> None:
        """What waits for another attempt may have it now. No row changes for that: they are read in their order."""
        if self._progress.retrying:
            self._sweep = Sweep(0, self._progress.window.last_settled)

    def end_sweep(self) -> None:
        """What was not passed yet waits for its time."""
        if self._sweep.is_on or self._has_swept:
            self._sweep, self._has_swept = Sweep(), False
            self.unread()

    def swept(self) -> Sweep:
        """How far the sweep has come: whoever goes on from there leaves nothing out that is not stored."""
        sweep = self._sweep
        if not sweep.is_on and not self._has_swept:
            return Sweep()
        return Sweep(min([sweep.through, *(seq - 1 for seq in self.claimed)]), sweep.until)

    def published(self, entries: tuple[Entry, ...], *, wanted: bool) -> None:
        """Messages were appended. They are taken as they are only if they continue what was read from the log."""
        last = entries[-1].seq
        self.heard(last)
        if wanted and self.read_through == entries[0].seq - 1 and self._has_room(entries):
            self.new.extend(entries)
            self.read_through = last

    def heard(self, head: int) -> bool:
        """The log goes so far, if that is not known. Others append too, and what they tell comes in any order."""
        head = min(head, self._until)
        if head <= self.head:
            return False
        self.head = head
        return True

    def take_new(self) -> Entry:
        entry = self.new.popleft()
        self._budget.give_back(len(entry.body))
        return entry

    def expect(self, due_at: int) -> None:
        """A retry will be due then."""
        if not self.due_at or due_at < self.due_at:
            self.due_at = due_at
            self._wake_at(due_at)

    def stored(self, settle: Settle, under_way: Iterable[int]) -> None:
        """The store shows now what became of some exceptions."""
        settled = [*settle.resolved, *(row.seq for row in settle.delivery_rows)]
        self.claimed.difference_update(settled)
        if self._fetching:
            self._stored_meanwhile.update(settled)
        self.claimed.update(under_way, (retry.seq for retry in self.retries), self._progress.unstored_seqs())
        # Only now: a look at what is due would not have found them before.
        for row in settle.delivery_rows:
            if row.state == "retry":
                self.expect(row.due_at)

    def unread(self) -> None:
        """Forget what was read and not sent: it is read again when it is wanted. So is what is being read now."""
        # What has waited for its key stands at the front in no order.
        unsent = [*(entry.seq for entry in self.new), *self.waiting.first_seqs]
        if unsent:
            self.read_through = min(unsent) - 1
        if self.retries and self._has_swept:
            self._sweep = Sweep(self.retries[0].seq - 1, self._sweep.until)
        self.claimed.difference_update(retry.seq for retry in self.retries)
        if self._progress.retrying:
            self.due_at = 1
        self.drop()

    def drop(self) -> None:
        """Hold nothing any more."""
        self.readings += 1
        self.waiting.forget_all()
        self._budget.give_back(sum(len(entry.body) for entry in self.new))
        self.new.clear()
        self.retries.clear()

    def fetch(self, now: int, *, retries: bool, behind: bool) -> Callable[[], Coroutine[Any, Any, None]]:
        """To be called at once or later: reads a page of one or both. Until that ends nothing else is read.

        It raises Unavailable when nothing was read.
        """
        self._fetching = True
        return partial(self._fetch, self.readings, now, retries=retries, behind=behind)

    async def _fetch(self, reading: int, now: int, *, retries: bool, behind: bool) -> None:
        try:
            # What is not wanted any more may be so before this runs at all.
            if retries and reading == self.readings:
                await (self._fetch_swept() if self._sweep.is_on else self._fetch_due(now))
            if behind and reading == self.readings:
                await self._fetch_page()
        finally:
            self._fetching = False

    def _has_room(self, entries: tuple[Entry, ...]) -> bool:
        if self._fetching or len(self.new) + len(entries) > _HINTS_HELD:
            return False
        return self._budget.take(sum(len(entry.body) for entry in entries))

    async def _fetch_due(self, now: int) -> None:
        reading, before = self.readings, self.due_at
        limit = _DUE_ROWS + len(self.claimed)
        # What is stored while this reads may be due sooner than all that it finds.
        self.due_at = 0
        self._stored_meanwhile.clear()
        try:
            found = await self._reads.read(lambda tx: read_due(tx, self._key, now, limit))
        except BaseException:
            self.due_at = before
            raise
        if reading == self.readings:
            self._take_due(found)

    def _take_due(self, found: DueRetries) -> None:
        if found.next_at:
            self.expect(found.next_at)
        self._has_swept = False
        self._take_retries(found.retries)

    async def _fetch_swept(self) -> None:
        reading, sweep = self.readings, self._sweep
        self._stored_meanwhile.clear()
        found = await self._reads.read(lambda tx: read_sweep(tx, self._key, sweep, _DUE_ROWS))
        if reading != self.readings:
            return
        is_last = len(found) < _DUE_ROWS
        self._sweep = Sweep(sweep.until if is_last else found[-1].seq, sweep.until)
        self._has_swept = True
        self._take_retries(found)
        if is_last:
            # What was brought about meanwhile goes by its time again.
            self.due_at = 1

    def _take_retries(self, found: Iterable[DueRetry]) -> None:
        for retry in found:
            # What was stored while this was read is not as it was found.
            if retry.seq not in self.claimed and retry.seq not in self._stored_meanwhile:
                self.claimed.add(retry.seq)
                self.retries.append(retry)

    async def _fetch_page(self) -> None:
        reading, known = self.readings, self.head
        size = min(_PAGE_BYTES, self._budget.left)
        page = await self._reads.page(self._queue, self.read_through, _PAGE_ROWS, size)
        if reading != self.readings:
            return
        self._take_page(page)
        if page.head < known and self.head == known:
            # The log is gone with its queue, or its history is shorter than what was heard of: there is no more.
            self.head = max(page.head, self.read_through)

    def _take_page(self, page: LogPage) -> None:
        """A seq without an entry was deleted, which only holds because head and page were read at once."""
        window = self._progress.window
        through = min(page.through, window.position + SPAN, self._until)
        self.head = max(self.head, min(page.head, self._until))
        expected = self.read_through + 1
        for entry in page.entries:
            if entry.seq > through:
                break
            if entry.is_delayed or 0 < entry.origin_seq <= self._start_seq:
                # Not due yet, or published before the listener was there: for this cursor it is a hole.
                continue
            if entry.seq > expected:
                self._progress.skip(expected, entry.seq - 1)
            expected = entry.seq + 1
            if not window.is_settled(entry.seq) and entry.seq not in self._under_way:
                self._budget.force(len(entry.body))
                self.new.append(entry)
        if through >= expected:
            self._progress.skip(expected, through)
        self.read_through = max(self.read_through, through)
