"""A cursor in memory: its position, its counts, and the changes that are not stored yet."""

from collections.abc import Iterable
from itertools import chain
from typing import Final

from discue.dispatch.lane.ordering import HeldKey, Ordering
from discue.domain.attempts import Attempt, Outcome, shown_outcome
from discue.domain.clock import Clock
from discue.domain.messages import Entry
from discue.domain.retry import Settlement
from discue.domain.window import Window, subtract
from discue.store.cursors import LaneRecord
from discue.store.delivery_rows import DueRetry, EndedRequest, KeyRow
from discue.store.engine import DeliveryRow, Detail, MissedRange, NewMisses, RedeliveryStep, ReplayStep, Settle
from discue.store.redeliveries import RedeliveryBatch

_DETAIL_BYTES: Final = 1 << 19
"""How many bytes of attempt details one flush stores, if there is more than one. The rest follows with the next."""

_MISSED: Final = frozenset({"missed"})
_EXPIRED: Final = frozenset({"expired", "too_old"})


class ReplayCounts:
    """The counts of a replay, which keeps no rows of deliveries that end without success."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.expired = 0
        """How many messages have expired since the last flush."""
        self.filtered = 0
        """How many messages were filtered since the last flush."""

    def take(self) -> ReplayStep:
        """Return the progress since the last flush, and reset it."""
        step = ReplayStep(self.expired, self.filtered, self._clock.now())
        self.expired = self.filtered = 0
        return step


class CursorState:
    """The bookkeeping of one cursor. `take` returns the changes to store; nothing here does I/O.

    A delivery has a row in the store if it deviates from "settled in the order of the log": it waits for a retry, its
    request was passed by the cursor, or it is missed. `has_row` arguments say whether it has one.
    """

    def __init__(self, record: LaneRecord, replay: ReplayCounts | None = None) -> None:
        """`replay`: the counts of a replay, whose messages are not missed; None for a live cursor."""
        self._record = record
        self._replay = replay
        self.version = record.version
        """The version of the cursor as it was last stored."""
        self.window = Window.decode(record.position, record.ahead)
        self.acknowledged = record.acknowledged
        self.missed = record.missed
        self.retrying = record.retrying
        """Deliveries that are not settled although the cursor has passed them, blocked ones included."""
        self.last_success_at = record.last_success_at
        self.last_failure_at = record.last_failure_at
        self.last_new_at = record.last_new_at
        self.dirty = False
        """Whether there is anything to store."""
        self.ordering: Ordering | None = None
        """The held keys, of an ordered queue."""
        self._attempts: list[Attempt] = []
        self._taken = 0
        """How many attempts are being stored."""
        self._details: list[Detail] = []
        self._detail_bytes = 0
        self._remaining_details = 0
        """How many details were left out of the last flush."""
        self._rows: dict[int, DeliveryRow] = {}
        self._removed: list[int] = []
        self._missed_ranges: list[MissedRange] = []
        self._unmissed: list[int] = []
        self._new_misses: NewMisses | None = None
        self._redelivery: RedeliveryStep | None = None

    @property
    def open_rows(self) -> int:
        """How many deliveries have rows and are not settled. Messages blocked behind a key count in `retrying` only.

        Limits on rows must use this: one row can have any number of messages blocked behind it. Only valid once
        the keys are known.
        """
        return self.retrying if self.ordering is None else self.retrying - self.ordering.blocked

    @property
    def knows_keys(self) -> bool:
        """Whether each key that a row in the store holds is known here. True for a queue without order."""
        return self.ordering is None or self.ordering.is_known

    @property
    def unflushed(self) -> int:
        """How many attempts have ended and may not be stored yet, details included."""
        return len(self._attempts) + self._taken + self._remaining_details

    @property
    def unflushed_seqs(self) -> Iterable[int]:
        """Deliveries whose rows in the store are out of date."""
        return chain(self._rows, self._removed)

    @property
    def fits_one_flush(self) -> bool:
        return self._detail_bytes <= _DETAIL_BYTES or len(self._details) <= 1

    def add_attempt(self, attempt: Attempt, detail: bytes = b"") -> None:
        """Record an attempt that has ended, with its details if they are kept."""
        self._attempts.append(attempt)
        self.dirty = True
        if detail:
            self._details.append((attempt.id, detail))
            self._detail_bytes += len(detail)

    def acknowledge(self, seq: int, now: int, *, has_row: bool) -> None:
        self.acknowledged += 1
        self.last_success_at = now
        if has_row:
            self.drop_row(seq)
        else:
            self.window.settle(seq)
            self._free_key(seq)

    def fail(self, seq: int, attempts: int, settlement: Settlement, now: int, *, has_row: bool) -> None:
        """Record that an attempt failed: the delivery waits for its retry, or is missed."""
        self.last_failure_at = now
        if settlement.state == "missed":
            self._miss_one(DeliveryRow(seq, "missed", attempts, now, settlement.reason), has_row=has_row)
            return
        row = DeliveryRow(seq, settlement.state, attempts, settlement.due_at, settlement.reason)
        if has_row:
            self.put_row(row)
        else:
            self.put_first_row(row)

    def detach(self, seq: int, attempts: int, now: int) -> None:
        """Give a request in flight a row, so that the cursor can pass it."""
        self.put_first_row(DeliveryRow(seq, "sending", attempts, now, "", self._record.owner))

    def put_row(self, row: DeliveryRow) -> None:
        """Write the row of a delivery with the key that its message holds."""
        self.dirty = True
        self._rows[row.seq] = row if self.ordering is None else self.ordering.with_key(row)
        if row.state != "missed" or (self.ordering is not None and self.ordering.blocks):
            self._block_waiting(row.seq)

    def put_first_row(self, row: DeliveryRow) -> None:
        """Write the row of a delivery that had none, so that the cursor passes it."""
        self.put_row(row)
        self.retrying += 1
        self.window.settle(row.seq)

    def count_ended(self, ended: EndedRequest) -> None:
        """Count a delivery that another worker acknowledged, or missed."""
        if ended.reason:
            row = DeliveryRow(ended.seq, "missed", ended.attempts, ended.ended_at, ended.reason)
            self._miss_one(row, has_row=True)
            self.last_failure_at = max(self.last_failure_at, ended.ended_at)
        else:
            self.drop_row(ended.seq)
            self.acknowledged += 1
            self.last_success_at = max(self.last_success_at, ended.ended_at)

    def schedule_retry(self, seq: int, attempts: int, due_at: int) -> None:
        """Retry a delivery with a row that counts as tried `attempts` times."""
        self.put_row(DeliveryRow(seq, "retry", attempts, due_at, ""))

    def drop_row(self, seq: int) -> None:
        """Remove the row of a delivery that is settled, and free its key."""
        self.dirty = True
        # A row that was never stored needs no removal; removing it does no harm.
        self._rows.pop(seq, None)
        self._removed.append(seq)
        self.retrying -= 1
        self._free_key(seq)

    def block(self, held: HeldKey, seqs: list[int]) -> None:
        """Let the cursor pass messages whose key has a row. The row counts them."""
        if self.ordering is not None:
            for seq in seqs:
                self.window.settle(seq)
            self.retrying += len(seqs)
            self.put_row(self.ordering.block(held, seqs))

    def resume(self, retry: DueRetry) -> bool:
        """Prepare the retry of a message with a row. True if it was blocked until now: it had no attempt yet."""
        if self.ordering is None:
            return False
        is_first = self.ordering.resume(retry)
        self._block_waiting(retry.seq)
        return is_first

    def skip(self, first: int, last: int) -> None:
        """Settle messages that were deleted, or are not for this listener; both ends included."""
        self.window.settle_range(first, last)
        self.dirty = True

    def skip_new(self, entry: Entry) -> None:
        """Settle a new message that the listener's filter rejects."""
        self.skip(entry.seq, entry.seq)
        self._count_filtered()
        if self.ordering is not None:
            self.ordering.skip(entry)

    def drop_filtered(self, seq: int) -> None:
        """Settle a message that the filter rejects after it has waited for its key."""
        self.drop_row(seq)
        self._count_filtered()

    def miss_new(self, entry: Entry, reason: str, now: int) -> None:
        """Miss a message that was never sent."""
        if self.ordering is not None and self.ordering.blocks:
            self.ordering.begin(entry)
            self._miss_one(DeliveryRow(entry.seq, "missed", 0, now, reason), has_row=False)
            return
        self.miss_range(entry.seq, entry.seq, reason, now)
        if self.ordering is not None:
            self.ordering.skip(entry)

    def miss_range(self, first: int, last: int, reason: str, now: int) -> None:
        """Miss consecutive messages that were never sent; both ends included."""
        if self._replay is not None:
            self.skip(first, last)
            self._replay.expired += last - first + 1
            return
        self.window.settle_range(first, last)
        self.missed += last - first + 1
        self._count_missed(reason, now, last - first + 1)
        ranges = self._missed_ranges
        if ranges and ranges[-1].seq_to == first - 1 and ranges[-1].reason == reason:
            first = ranges.pop().seq_from
        ranges.append(MissedRange(first, last, reason, now))
        self.dirty = True

    def miss_retry(self, seq: int, attempts: int, reason: str, now: int) -> None:
        """Miss a delivery that waits for a retry."""
        self._miss_one(DeliveryRow(seq, "missed", attempts, now, reason), has_row=True)

    def redeliver(self, batch: RedeliveryBatch, now: int) -> None:
        """Make settled deliveries due again, as if never tried. One batch at a time, until `on_stored`."""
        if self.ordering is not None:
            self.ordering.add_rows(batch.keys, _MISSED, complete=False)
        for seq in batch.lost:
            self._removed.append(seq)
            self._free_key(seq)
        for cut in batch.cuts:
            self._unmissed.append(cut.whole.seq_from)
            self._missed_ranges += [
                MissedRange(first, last, cut.whole.reason, cut.whole.missed_at)
                for first, last in subtract((cut.whole.seq_from, cut.whole.seq_to), cut.taken)
            ]
        for seq in (*batch.apart, *batch.acknowledged, *(seq for cut in batch.cuts for seq in cut.there)):
            self.put_row(DeliveryRow(seq, "retry", 0, now, "", redelivered_at=now))
        self.retrying += batch.redelivered
        self.acknowledged -= len(batch.acknowledged)
        self.missed -= batch.redelivered - len(batch.acknowledged) + batch.gone
        ended_at = now if batch.ends else None
        self._redelivery = RedeliveryStep(
            batch.redelivery.id, batch.position, batch.redelivered, batch.gone, now, ended_at
        )
        self.dirty = True

    def release_key(self, row: KeyRow) -> None:
        """Free the key of a missed message that was deleted: the next message of the key is due."""
        if self.ordering is not None and self.ordering.prepare_release(row):
            self._rows.pop(row.seq, None)
            self._removed.append(row.seq)
            self.missed -= 1
            self._free_key(row.seq)
            self.dirty = True

    def take(self, *, releases: bool = False) -> Settle:
        """Return what is to be stored. Call it again only after `on_stored`. `releases` gives the cursor up."""
        record = self._record
        settle = Settle(
            organization=record.organization,
            listener=record.listener,
            stream=record.stream,
            queue=record.queue,
            token=record.token,
            version=self.version,
            position=self.window.position,
            ahead=self.window.encode(),
            acknowledged=self.acknowledged,
            missed=self.missed,
            retrying=self.retrying,
            last_success_at=self.last_success_at,
            last_failure_at=self.last_failure_at,
            last_new_at=self.last_new_at,
            attempts=tuple(self._attempts),
            delivery_rows=tuple(self._rows.values()),
            resolved=tuple(self._removed),
            missed_ranges=tuple(self._missed_ranges),
            new_misses=self._new_misses,
            unmissed=tuple(self._unmissed),
            redelivery=self._redelivery,
            replay=None if self._replay is None else self._replay.take(),
            details=self._take_details(),
            releases=releases,
        )
        # From here on changes belong to the next flush, which may be made only after this one is stored.
        self._taken = len(self._attempts)
        self._attempts.clear()
        self._rows.clear()
        self._removed.clear()
        self._missed_ranges.clear()
        self._unmissed.clear()
        self._new_misses = None
        self._redelivery = None
        self.dirty = self._remaining_details > 0
        return settle

    def on_stored(self) -> None:
        self.version += 1
        self._taken = 0

    def _take_details(self) -> tuple[Detail, ...]:
        count = size = 0
        for _, content in self._details:
            if count and size + len(content) > _DETAIL_BYTES:
                break
            count, size = count + 1, size + len(content)
        taken = tuple(self._details[:count])
        del self._details[:count]
        self._detail_bytes -= size
        self._remaining_details = len(self._details)
        return taken

    def _miss_one(self, row: DeliveryRow, *, has_row: bool) -> None:
        if self._replay is not None:
            self._count_failed(row, self._replay, has_row=has_row)
            return
        self.put_row(row)
        self.missed += 1
        self._count_missed(row.reason, row.due_at, 1)
        if has_row:
            self.retrying -= 1
        else:
            self.window.settle(row.seq)
        if self.ordering is None or not self.ordering.blocks:
            self._free_key(row.seq)

    def _count_failed(self, row: DeliveryRow, replay: ReplayCounts, *, has_row: bool) -> None:
        """Settle a message of a replay that ends without success: it leaves no row."""
        self.dirty = True
        if row.reason in _EXPIRED:
            replay.expired += 1
        else:
            self.missed += 1
        if has_row:
            self.drop_row(row.seq)
        else:
            self.window.settle(row.seq)
            self._free_key(row.seq)

    def _count_filtered(self) -> None:
        if self._replay is not None:
            self._replay.filtered += 1

    def _count_missed(self, reason: str, now: int, count: int) -> None:
        before = self._new_misses or NewMisses(now, 0, {})
        by_reason = before.by_reason | {reason: before.by_reason.get(reason, 0) + count}
        self._new_misses = NewMisses(before.since, before.count + count, by_reason)

    def _block_waiting(self, seq: int) -> None:
        """Let the cursor pass the messages that wait in memory for the key of a message that has a row now.

        Later messages of the key are counted by the row. If these stayed in memory, they would come after them.
        """
        waiting = None if self.ordering is None else self.ordering.take_waiting(seq)
        if waiting is not None:
            self.block(*waiting)

    def _free_key(self, seq: int) -> None:
        """Let the next message of the key come, if the settled one held it."""
        if self.ordering is not None:
            row, gone = self.ordering.settle(seq)
            self.retrying -= gone
            if row is not None:
                self.put_row(row)


def attempt_record(record: LaneRecord, row_id: int, seq: int, number: int, *, outcome: Outcome) -> Attempt:
    """Return the record of one attempt, as it is stored."""
    status, duration_ms, detail = shown_outcome(outcome)
    return Attempt(
        row_id,
        record.organization,
        record.listener,
        record.queue,
        seq,
        number,
        status,
        outcome.error,
        duration_ms,
        detail,
        record.stream or None,
    )
