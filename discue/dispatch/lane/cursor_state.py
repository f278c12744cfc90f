"""A cursor in memory: its position, its counts, and the changes that are not stored yet."""

from itertools import chain
from typing import Final

import msgspec

from discue.dispatch.delivery_rules import SKIP
from discue.dispatch.lane.ordering import HeldKey, Ordering
from discue.dispatch.lane.states import DELIVERY_TRANSITIONS, DeliveryState
from discue.domain.attempts import Attempt, Outcome, shown_outcome
from discue.domain.causes import Cause, cause_of, plain, told_apart
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

_NOT_PASSED: Final = frozenset({DeliveryState.PENDING, DeliveryState.IN_FLIGHT})
"""States of deliveries that the cursor has not passed."""
_AS_STORED: Final = frozenset(
    {DeliveryState.RETRYING, DeliveryState.MISSED, DeliveryState.ACKNOWLEDGED, DeliveryState.SKIPPED}
)
"""States that are dropped from memory once they are stored."""


class Trial(msgspec.Struct, frozen=True):
    """The message that a trial of a redelivery is sending, as stored."""

    job: int
    seq: int
    """The seq of the message; 0: none."""
    version: int
    """The version of the cursor at which this state was stored."""


class CursorState:
    """The bookkeeping of one cursor. `take` returns the changes to store; nothing here does I/O.

    A delivery has a row in the store if it deviates from "settled in the order of the log": it waits for a retry, the
    cursor has passed its request, a consumer has it, or it is missed.
    """

    def __init__(self, record: LaneRecord, replay_clock: Clock | None = None) -> None:
        """`replay_clock` is None for a live cursor. A replay keeps no rows of deliveries that end without success."""
        self._record = record
        self._replay_clock = replay_clock
        self._expired = self._filtered = 0
        """How many messages of a replay have expired, and were filtered, since the last flush."""
        self.version = record.version
        """The version of the cursor as it was last stored."""
        self.window = Window.decode(record.position, record.ahead)
        self.states: dict[int, DeliveryState] = {}
        """The state of each delivery that is in flight or due, or whose state has changed and is not stored.

        The store has the state of other deliveries. New messages and those that wait for a key are pending until they
        start.
        """
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
        self.unflushed = 0
        """How many attempts have ended and may not be stored yet, details included."""
        self._attempts: list[Attempt] = []
        self._details: list[Detail] = []
        self._detail_bytes = 0
        self._remaining_details = 0
        """How many details were left out of the last flush."""
        self._rows: dict[int, DeliveryRow] = {}
        self._removed: dict[int, None] = {}
        """Rows to remove, in order."""
        self._missed_ranges: list[MissedRange] = []
        self._unmissed: list[int] = []
        self.causes = set(record.causes)
        """The ids of the causes with a text that the listener has, or has had."""
        self._causes: dict[int, Cause] = {}
        self._new_misses: NewMisses | None = None
        self._redelivery: RedeliveryStep | None = None
        self.trial = Trial(record.trial_job, record.trial_seq, record.version)

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
    def claimed(self) -> list[int]:
        """Deliveries whose rows must not be read: they are in flight or due, or have changed and are not stored."""
        return [seq for seq, state in self.states.items() if state is not DeliveryState.IN_FLIGHT]

    @property
    def fits_one_flush(self) -> bool:
        return self._detail_bytes <= _DETAIL_BYTES or len(self._details) <= 1

    def add_attempt(self, attempt: Attempt, detail: bytes = b"") -> None:
        """Record an attempt that has ended, with its details if they are kept."""
        self._attempts.append(attempt)
        self.unflushed += 1
        self.dirty = True
        if detail:
            self._details.append((attempt.id, detail))
            self._detail_bytes += len(detail)

    def enter(self, seq: int, state: DeliveryState, before: DeliveryState = DeliveryState.PENDING) -> bool:
        """Change the state of a delivery. Returns whether the cursor had passed it.

        All transitions of single deliveries go through this method. `before` is the stored state, used if the state is
        not in memory.
        """
        before = self.states.get(seq, before)
        # Does not call `transition`, because each message comes here twice.
        if state not in DELIVERY_TRANSITIONS[before]:
            raise ValueError(f"no transition from {before!r} to {state!r}")
        self.states[seq] = state
        return before not in _NOT_PASSED

    def claim(self, seq: int, *, is_leased: bool = False) -> None:
        """Take a delivery whose row was read: it is due, or a consumer has it."""
        if is_leased:
            self.enter(seq, DeliveryState.LEASED, DeliveryState.LEASED)
        else:
            self.enter(seq, DeliveryState.DUE, DeliveryState.RETRYING)

    def forget(self, seq: int) -> None:
        """Drop a due delivery from memory. Its row will be read again."""
        self.enter(seq, DeliveryState.RETRYING)
        del self.states[seq]

    def acknowledge(self, seq: int, now: int) -> None:
        self.acknowledged += 1
        self.last_success_at = now
        self._end_trial_of(seq, now, tried=1)
        self._settle(seq, DeliveryState.ACKNOWLEDGED)

    def fail(self, seq: int, attempts: int, settlement: Settlement, now: int, *, outcome: Outcome) -> None:
        """Record that an attempt failed: the delivery waits for its retry, or is missed."""
        self.last_failure_at = now
        if settlement.state == "missed":
            self.miss(seq, attempts, cause_of(settlement.reason, outcome), now)
        else:
            row = DeliveryRow(seq, settlement.state, attempts, settlement.due_at, settlement.reason)
            self._write(row, DeliveryState.RETRYING)

    def detach(self, seq: int, attempts: int, now: int) -> None:
        """Note in the row which worker sent the request, so that the cursor can pass it or move to another worker."""
        self._write(DeliveryRow(seq, "sending", attempts, now, "", self._record.owner), DeliveryState.DETACHED)

    def lease(self, seq: int, attempts: int, until: int, token: int | None) -> None:
        """Lease a delivery to a consumer, or change the end of its lease."""
        self._write(DeliveryRow(seq, "leased", attempts, until, "", token=token), DeliveryState.LEASED)

    def count_ended(self, ended: EndedRequest) -> None:
        """Count a delivery that another worker acknowledged, or missed."""
        if ended.cause is not None:
            self.miss(ended.seq, ended.attempts, ended.cause, ended.ended_at, before=DeliveryState.DETACHED)
            self.last_failure_at = max(self.last_failure_at, ended.ended_at)
        else:
            self._end_trial_of(ended.seq, ended.ended_at, tried=1)
            self._settle(ended.seq, DeliveryState.ACKNOWLEDGED, DeliveryState.DETACHED)
            self.acknowledged += 1
            self.last_success_at = max(self.last_success_at, ended.ended_at)

    def schedule_retry(self, seq: int, attempts: int, due_at: int, reason: str = "") -> None:
        """Retry a delivery whose request was abandoned, or may not have ended. `attempts` were made so far."""
        row = DeliveryRow(seq, "retry", attempts, due_at, reason)
        self._write(row, DeliveryState.RETRYING, DeliveryState.DETACHED)

    def settle_due(self, seq: int, attempts: int, reason: str, now: int, *, is_there: bool) -> None:
        """Settle a delivery with a row without sending it. `reason` is as in `settle_new` if the message exists."""
        if is_there and reason != SKIP:
            self.miss(seq, attempts, plain(reason), now)
            return
        self._end_trial_of(seq, now)
        self._settle(seq, DeliveryState.SKIPPED)
        if is_there:
            self._filtered += 1

    def block(self, held: HeldKey, seqs: list[int]) -> None:
        """Let the cursor pass messages whose key has a row. The row counts them."""
        if self.ordering is not None:
            for seq in seqs:
                self.window.settle(seq)
            self.retrying += len(seqs)
            self._put_row(self.ordering.block(held, seqs))

    def resume(self, retry: DueRetry) -> bool:
        """Prepare the retry of a message with a row. Returns whether it was blocked, and so had no attempt yet."""
        if self.ordering is None:
            return False
        is_first = self.ordering.resume(retry)
        self._block_waiting(retry.seq)
        return is_first

    def skip(self, first: int, last: int) -> None:
        """Settle messages that were deleted or do not match the filter; both ends included."""
        self.window.settle_range(first, last)
        self.dirty = True

    def settle_new(self, entry: Entry, reason: str, now: int) -> None:
        """Settle a new message without sending it. `reason` is `SKIP` if the filter rejects it, or why it is missed."""
        if reason == SKIP:
            self.skip(entry.seq, entry.seq)
            self._filtered += 1
        elif self.ordering is not None and self.ordering.blocks:
            self.ordering.begin(entry)
            self.miss(entry.seq, 0, plain(reason), now)
            return
        else:
            self.miss_range(entry.seq, entry.seq, reason, now)
        if self.ordering is not None:
            self.ordering.skip(entry)

    def miss_range(self, first: int, last: int, reason: str, now: int) -> None:
        """Miss consecutive messages that were never sent; both ends included."""
        if self._replay_clock is not None:
            self.skip(first, last)
            self._expired += last - first + 1
            return
        self.window.settle_range(first, last)
        self.missed += last - first + 1
        self._count_missed(reason, now, last - first + 1)
        ranges = self._missed_ranges
        if ranges and ranges[-1].seq_to == first - 1 and ranges[-1].reason == reason:
            first = ranges.pop().seq_from
        ranges.append(MissedRange(first, last, reason, now))
        self.dirty = True

    def miss(
        self, seq: int, attempts: int, cause: Cause, now: int, *, before: DeliveryState = DeliveryState.PENDING
    ) -> None:
        """Miss a delivery. A delivery of a replay leaves no row. `before` is as in `enter`."""
        if self._replay_clock is not None:
            if cause.reason in _EXPIRED:
                self._expired += 1
            else:
                self.missed += 1
            self._settle(seq, DeliveryState.MISSED, before)
            return
        self._end_trial_of(seq, now, failure=cause)
        was_passed = self.enter(seq, DeliveryState.MISSED, before)
        cause = told_apart(cause, self.causes)
        if cause.has_text:
            self.causes.add(cause.id)
            # Stored each time: retention may have removed it.
            self._causes.setdefault(cause.id, cause)
        self._put_row(DeliveryRow(seq, "missed", attempts, now, cause.reason, cause=cause.id))
        self.missed += 1
        self._count_missed(cause.reason, now, 1)
        if was_passed:
            self.retrying -= 1
        else:
            self.window.settle(seq)
        if self.ordering is None or not self.ordering.blocks:
            self._free_key(seq)

    def redeliver(self, batch: RedeliveryBatch, now: int) -> None:
        """Make settled deliveries due again, as if never tried. One batch at a time, until `on_stored`."""
        if self.ordering is not None:
            self.ordering.add_rows(batch.keys, _MISSED, complete=False)
        for seq in batch.lost:
            self._remove_missed(seq)
        for cut in batch.cuts:
            self._unmissed.append(cut.whole.seq_from)
            self._missed_ranges += [
                msgspec.structs.replace(cut.whole, seq_from=first, seq_to=last)
                for first, last in subtract((cut.whole.seq_from, cut.whole.seq_to), cut.taken)
            ]
        before = dict.fromkeys(batch.apart, DeliveryState.MISSED)
        before |= dict.fromkeys(batch.acknowledged, DeliveryState.ACKNOWLEDGED)
        before |= dict.fromkeys((seq for cut in batch.cuts for seq in cut.there), DeliveryState.MISSED)
        for seq, state in before.items():
            self.enter(seq, DeliveryState.RETRYING, state)
            self._put_row(DeliveryRow(seq, "retry", 0, now, "", redelivered_at=now))
        self.retrying += batch.redelivered
        self.acknowledged -= len(batch.acknowledged)
        self.missed -= batch.redelivered - len(batch.acknowledged) + batch.gone_missed
        ended_at = now if batch.ends else None
        redelivery, trying = batch.redelivery, batch.seqs
        trying_seq = trying[0] if trying and redelivery.tried < (redelivery.trial or 0) else 0
        self._redelivery = RedeliveryStep(
            redelivery.id, batch.position, batch.redelivered, batch.gone, now, ended_at, trying_seq
        )
        self.dirty = True

    def configure_trial(self, record: LaneRecord) -> None:
        """Follow the cancellation of a redelivery: its message becomes an ordinary retry."""
        if record.version >= self.trial.version:
            self.trial = Trial(record.trial_job, record.trial_seq, record.version)

    def _end_trial_of(self, seq: int, now: int, *, tried: int = 0, failure: Cause | None = None) -> None:
        """Store the outcome of a trial's message in the flush that settles it. A failure ends the redelivery."""
        if seq == self.trial.seq:
            stopped_by = "" if failure is None else msgspec.json.encode(failure).decode()
            ended_at = None if failure is None else now
            self._redelivery = RedeliveryStep(
                self.trial.job, 0, 0, 0, now, ended_at, tried=tried, stopped_by=stopped_by
            )

    def release_key(self, row: KeyRow) -> None:
        """Free the key of a missed message that was deleted: the next message of the key is due."""
        if self.ordering is not None and self.ordering.prepare_release(row):
            self._remove_missed(row.seq)
            self.missed -= 1

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
            causes=tuple(self._causes.values()),
            new_misses=self._new_misses,
            unmissed=tuple(self._unmissed),
            redelivery=self._redelivery,
            replay=self._take_replay_step(),
            details=self._take_details(),
            releases=releases,
        )
        # From here on changes belong to the next flush, which may be made only after this one is stored.
        self.unflushed = len(self._attempts) + self._remaining_details
        self._attempts.clear()
        self._rows.clear()
        self._removed.clear()
        self._missed_ranges.clear()
        self._unmissed.clear()
        self._causes.clear()
        self._new_misses = None
        self._redelivery = None
        self.dirty = self._remaining_details > 0
        return settle

    def on_stored(self, settle: Settle) -> None:
        """Note that changes are stored, and drop the states that have not changed since from memory."""
        self.version += 1
        if settle.redelivery is not None:
            self.trial = Trial(settle.redelivery.redelivery, settle.redelivery.trying_seq, self.version)
        self.unflushed = len(self._attempts) + self._remaining_details
        for seq in chain(settle.resolved, (row.seq for row in settle.delivery_rows)):
            if self.states.get(seq) in _AS_STORED and seq not in self._rows and seq not in self._removed:
                del self.states[seq]

    def _take_replay_step(self) -> ReplayStep | None:
        if self._replay_clock is None:
            return None
        step = ReplayStep(self._expired, self._filtered, self._replay_clock.now())
        self._expired = self._filtered = 0
        return step

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

    def _settle(self, seq: int, state: DeliveryState, before: DeliveryState = DeliveryState.PENDING) -> None:
        """End a delivery that leaves no row, and free its key."""
        self.dirty = True
        if self.enter(seq, state, before):
            self._remove_row(seq)
            self.retrying -= 1
        else:
            del self.states[seq]
            self.window.settle(seq)
        if self.ordering is not None:
            self._free_key(seq)

    def _write(self, row: DeliveryRow, state: DeliveryState, before: DeliveryState = DeliveryState.PENDING) -> None:
        """Change the state and the row of a delivery that is to be continued. The cursor passes it."""
        was_passed = self.enter(row.seq, state, before)
        self._put_row(row)
        if not was_passed:
            self.retrying += 1
            self.window.settle(row.seq)

    def _put_row(self, row: DeliveryRow) -> None:
        """Write the row of a delivery with the key that its message holds."""
        self.dirty = True
        before = self._rows.get(row.seq)
        if row.state == "missed" and row.cause is None and before is not None:
            # Only the count of messages behind it has changed.
            row = msgspec.structs.replace(row, cause=before.cause)
        self._rows[row.seq] = row if self.ordering is None else self.ordering.with_key(row)
        if row.state != "missed" or (self.ordering is not None and self.ordering.blocks):
            self._block_waiting(row.seq)

    def _remove_row(self, seq: int) -> None:
        # A row that was never stored needs no removal; removing it does no harm.
        self._rows.pop(seq, None)
        self._removed[seq] = None
        self.dirty = True

    def _remove_missed(self, seq: int) -> None:
        """Remove the row of a missed message that was deleted, and free its key."""
        self.enter(seq, DeliveryState.SKIPPED, DeliveryState.MISSED)
        self._remove_row(seq)
        self._free_key(seq)

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
                self.enter(row.seq, DeliveryState.RETRYING, DeliveryState.BLOCKED)
                self._put_row(row)


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
