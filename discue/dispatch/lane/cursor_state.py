"""What a lane has brought about and not stored yet, and the counts of its cursor."""

from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

from discue.domain.attempts import Attempt, Outcome, Trace, encode_detail
from discue.domain.intervals import subtract
from discue.domain.messages import Entry
from discue.domain.retry import Settlement
from discue.domain.window import Window
from discue.store.cursors import LaneRecord
from discue.store.delivery_rows import DueRetry, KeyRow
from discue.store.engine import DeliveryRow, Detail, MissedRange, RedeliveryStep, ReplayStep, Settle
from discue.store.handover import EndedRequest
from discue.store.redeliveries import RedeliveryBatch

_DETAIL_BYTES = 1 << 19
"""So much of details goes into one settle. What is more follows with the next."""

if TYPE_CHECKING:
    from discue.dispatch.lane.ordering import HeldKey, Ordering


class CursorState:
    """One cursor in memory. Every method is bookkeeping; `take` hands over what is to be stored."""

    __slots__ = (
        "_attempts",
        "_detail_bytes",
        "_details",
        "_exceptions",
        "_left_over",
        "_missed_ranges",
        "_record",
        "_redelivery",
        "_resolved",
        "_taken",
        "_unmissed",
        "_version",
        "acknowledged",
        "dirty",
        "last_failure_at",
        "last_new_at",
        "last_success_at",
        "missed",
        "ordering",
        "retrying",
        "window",
    )

    def __init__(self, record: LaneRecord) -> None:
        self._record = record
        self._version = record.version
        self.window = Window.decode(record.position, record.ahead)
        self.acknowledged = record.acknowledged
        self.missed = record.missed
        self.retrying = record.retrying
        self.last_success_at = record.last_success_at
        self.last_failure_at = record.last_failure_at
        self.last_new_at = record.last_new_at
        self.dirty = False
        self.ordering: Ordering | None = None
        """Of a lane of an ordered queue."""
        self._taken = 0
        self._attempts: list[Attempt] = []
        self._details: deque[Detail] = deque()
        self._detail_bytes = 0
        self._left_over = 0
        self._exceptions: dict[int, DeliveryRow] = {}
        self._resolved: list[int] = []
        self._missed_ranges: list[MissedRange] = []
        self._unmissed: list[int] = []
        self._redelivery: RedeliveryStep | None = None

    @property
    def version(self) -> int:
        """That of the cursor as it was last stored."""
        return self._version

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
    def unstored(self) -> int:
        """How many attempts have ended and are not known to be stored, with all that is kept of them."""
        return len(self._attempts) + self._taken + self._left_over

    def unstored_seqs(self) -> Iterable[int]:
        """Exceptions that are about to be stored: the store does not show them as they are."""
        return chain(self._exceptions, self._resolved)

    @property
    def overflows(self) -> bool:
        """Whether one settle does not take everything."""
        return self._detail_bytes > _DETAIL_BYTES and len(self._details) > 1

    def attempted(self, attempt: Attempt) -> None:
        self._attempts.append(attempt)
        self.dirty = True

    def describe(self, attempt: int, trace: Trace, next_attempt_at: int) -> None:
        """More is kept of the attempt with that id than its record."""
        content = encode_detail(trace, next_attempt_at)
        self._details.append((attempt, content))
        self._detail_bytes += len(content)

    def succeed(self, seq: int, now: int, *, excepted: bool) -> None:
        """The delivery is acknowledged; `excepted` when it stood apart from the cursor as an exception."""
        self.acknowledged += 1
        self.last_success_at = now
        if excepted:
            self._resolve(seq)
        else:
            self.window.settle(seq)
            self._free(seq)

    def fail(self, seq: int, attempts: int, settlement: Settlement, now: int, *, excepted: bool) -> None:
        """The attempt failed: the delivery waits for its next one, or is missed."""
        self.last_failure_at = now
        self._except(seq, attempts, settlement, now, excepted=excepted)

    def depart(self, seq: int, attempts: int, now: int) -> None:
        """A request that is still under way leaves the cursor's span, so that the cursor can go on."""
        self._put(DeliveryRow(seq, "sending", attempts, now, "", self._record.owner))
        self.retrying += 1
        self.window.settle(seq)
        self.dirty = True

    def hand_over(self, seq: int, attempts: int, now: int) -> None:
        """The same for one whose delivery is an exception already."""
        self._put(DeliveryRow(seq, "sending", attempts, now, "", self._record.owner))
        self.dirty = True

    def lease(self, row: DeliveryRow) -> None:
        """Lease a message that has a row already, or extend its lease."""
        self._put(row)
        self.dirty = True

    def lease_new(self, row: DeliveryRow, now: int) -> None:
        """Lease a new message: it gets a row, and the cursor passes it."""
        self.lease(row)
        self.retrying += 1
        self.window.settle(row.seq)
        self.last_new_at = now

    def count(self, guest: EndedRequest) -> None:
        """A delivery that ended outside this lane is acknowledged, or missed."""
        if guest.reason:
            row = DeliveryRow(guest.seq, "missed", guest.attempts, guest.ended_at, guest.reason)
            self._miss_one(row, excepted=True)
            self.last_failure_at = max(self.last_failure_at, guest.ended_at)
        else:
            self._resolve(guest.seq)
            self.acknowledged += 1
            self.last_success_at = max(self.last_success_at, guest.ended_at)
        self.dirty = True

    def try_again(self, seq: int, attempts: int, now: int) -> None:
        """Whoever had the request of an exception under way is gone: whether it arrived is unknown."""
        self._put(DeliveryRow(seq, "retry", attempts, now, ""))
        self.dirty = True

    def forget(self, seq: int) -> None:
        """The message of an exception was deleted, or is not for this listener."""
        self._resolve(seq)
        self.dirty = True

    def block(self, held: "HeldKey", seqs: list[int]) -> None:
        """Messages wait behind the exception of their key; the cursor goes on without them."""
        if self.ordering is not None:
            for seq in seqs:
                self.window.settle(seq)
            self.retrying += len(seqs)
            self._put(self.ordering.block(held, seqs))
            self.dirty = True

    def resume(self, retry: DueRetry) -> bool:
        """The message of an exception is to be sent: somebody else may have made it one.

        Whether for the first time: it has waited behind its key.
        """
        if self.ordering is None:
            return False
        is_first = self.ordering.resumes(retry)
        self._block_waiting(retry.seq)
        return is_first

    def skip(self, first: int, last: int) -> None:
        """Messages that were deleted, or are not for this listener; ends included."""
        self.window.settle_range(first, last)
        self.dirty = True

    def pass_over(self, entry: Entry, reason: str, now: int) -> None:
        """A message that never begins is missed for a reason; without one, it is not for this listener."""
        if reason and self.ordering is not None and self.ordering.blocks:
            self.ordering.begins(entry)
            self._miss_one(DeliveryRow(entry.seq, "missed", 0, now, reason), excepted=False)
            self.dirty = True
            return
        if reason:
            self.miss(entry.seq, entry.seq, reason, now)
        else:
            self.skip(entry.seq, entry.seq)
        if self.ordering is not None:
            self.ordering.passes(entry)

    def miss(self, first: int, last: int, reason: str, now: int) -> None:
        """Consecutive messages that will never be tried, ends included."""
        self.window.settle_range(first, last)
        self.missed += last - first + 1
        ranges = self._missed_ranges
        if ranges and ranges[-1].seq_to == first - 1 and ranges[-1].reason == reason:
            first = ranges.pop().seq_from
        ranges.append(MissedRange(first, last, reason, now))
        self.dirty = True

    def expire(self, seq: int, attempts: int, reason: str, now: int) -> None:
        """A delivery that waited for its next attempt will not have it."""
        self._miss_one(DeliveryRow(seq, "missed", attempts, now, reason), excepted=True)
        self.dirty = True

    def redeliver(self, step: RedeliveryBatch, now: int) -> None:
        """Missed deliveries are due again, as if nothing had been attempted. One step, until `stored`."""
        if self.ordering is not None:
            self.ordering.show(list(step.keys), frozenset({"missed"}), complete=False)
        for seq in step.lost:
            self._resolved.append(seq)
            self._free(seq)
        for cut in step.cuts:
            self._unmissed.append(cut.whole.seq_from)
            self._missed_ranges += [
                MissedRange(first, last, cut.whole.reason, cut.whole.missed_at)
                for first, last in subtract((cut.whole.seq_from, cut.whole.seq_to), cut.taken)
            ]
        for seq in (*step.apart, *(seq for cut in step.cuts for seq in cut.there)):
            self._put(DeliveryRow(seq, "retry", 0, now, "", redelivered_at=now))
        self.retrying += step.redelivered
        self.missed -= step.redelivered + step.gone
        ended_at = now if step.ends else None
        self._redelivery = RedeliveryStep(step.redelivery.id, step.position, step.redelivered, step.gone, now, ended_at)
        self.dirty = True

    def release(self, row: KeyRow) -> None:
        """A message that was missed and holds its key was deleted: the next one of the key is due."""
        if self.ordering is not None and self.ordering.stops(row):
            self._exceptions.pop(row.seq, None)
            self._resolved.append(row.seq)
            self.missed -= 1
            self._free(row.seq)
            self.dirty = True

    def take(self, *, releases: bool = False) -> Settle:
        """What is to be stored now. The next `take` is for after `stored`."""
        record = self._record
        settle = Settle(
            organization=record.organization,
            listener=record.listener,
            stream=record.stream,
            queue=record.queue,
            token=record.token,
            version=self._version,
            position=self.window.position,
            ahead=self.window.encode(),
            acknowledged=self.acknowledged,
            missed=self.missed,
            retrying=self.retrying,
            last_success_at=self.last_success_at,
            last_failure_at=self.last_failure_at,
            last_new_at=self.last_new_at,
            attempts=tuple(self._attempts),
            delivery_rows=tuple(self._exceptions.values()),
            resolved=tuple(self._resolved),
            missed_ranges=tuple(self._missed_ranges),
            unmissed=tuple(self._unmissed),
            redelivery=self._redelivery,
            replay=self._replay_step(),
            details=self._take_details(),
            releases=releases,
        )
        self._taken = len(self._attempts)
        self._attempts.clear()
        self._exceptions.clear()
        self._resolved.clear()
        self._missed_ranges.clear()
        self._unmissed.clear()
        self._redelivery = None
        self.dirty = self._left_over > 0
        return settle

    def _take_details(self) -> tuple[Detail, ...]:
        taken: list[Detail] = []
        size = 0
        while self._details and (not taken or size + len(self._details[0][1]) <= _DETAIL_BYTES):
            taken.append(self._details.popleft())
            size += len(taken[-1][1])
        self._detail_bytes -= size
        self._left_over = len(self._details)
        return tuple(taken)

    def stored(self) -> None:
        self._version += 1
        self._taken = 0

    def _except(self, seq: int, attempts: int, settlement: Settlement, now: int, *, excepted: bool) -> None:
        if settlement.state == "missed":
            self._miss_one(DeliveryRow(seq, "missed", attempts, now, settlement.reason), excepted=excepted)
            return
        self._put(DeliveryRow(seq, settlement.state, attempts, settlement.due_at, settlement.reason))
        if not excepted:
            self.retrying += 1
            self.window.settle(seq)

    def _miss_one(self, row: DeliveryRow, *, excepted: bool) -> None:
        """A delivery ends without having succeeded."""
        self._put(row)
        self.missed += 1
        if excepted:
            self.retrying -= 1
        else:
            self.window.settle(row.seq)
        if self.ordering is None or not self.ordering.blocks:
            self._free(row.seq)

    def _replay_step(self) -> ReplayStep | None:
        """How far this brings the replay that the cursor is of."""
        return None

    def _put(self, row: DeliveryRow) -> None:
        self._exceptions[row.seq] = row if self.ordering is None else self.ordering.keyed(row)
        if row.state != "missed" or (self.ordering is not None and self.ordering.blocks):
            self._block_waiting(row.seq)

    def _block_waiting(self, seq: int) -> None:
        """A message has its row: those that wait in memory behind it are passed by the cursor.

        What comes later is counted by the row, and must not come before them.
        """
        waiting = None if self.ordering is None else self.ordering.waiting_for(seq)
        if waiting is not None:
            self.block(*waiting)

    def _resolve(self, seq: int) -> None:
        # An exception that was never stored needs no removal, but removing what is not there does no harm.
        self._exceptions.pop(seq, None)
        self._resolved.append(seq)
        self.retrying -= 1
        self._free(seq)

    def _free(self, seq: int) -> None:
        """A delivery is settled: what waited behind it comes next."""
        if self.ordering is not None:
            row, gone = self.ordering.settled(seq)
            self.retrying -= gone
            if row is not None:
                self._put(row)


def attempt_record(record: LaneRecord, row_id: int, seq: int, number: int, outcome: Outcome) -> Attempt:
    """What is kept of one attempt."""
    return Attempt(
        row_id,
        record.organization,
        record.listener,
        record.queue,
        seq,
        number,
        outcome.status,
        outcome.error,
        outcome.duration_ms,
        outcome.detail,
        record.stream or None,
    )
