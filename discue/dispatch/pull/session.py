"""One cursor whose messages are pulled, for as long as one round takes: what is handed out, and what comes back."""

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from discue.control.listener_options import LEASED_FOR_SECONDS
from discue.control.pulls import Decision, DecisionResult, LeasedMessage
from discue.dispatch.delivery_rules import Drop, Gap, decide_due, decide_new, drop_reason, steps_of_page
from discue.dispatch.lane.breaker import PAUSE_MS, RETRYING_LIMIT
from discue.dispatch.lane.cursor_state import CursorState, attempt_record
from discue.dispatch.lane.limits import BodyBudget
from discue.dispatch.lane.ordering import Ordering, WaitingByKey
from discue.domain.attempts import FailureKind, Outcome
from discue.domain.filters.filters import compile_filter
from discue.domain.ids import RowIds, millisecond_of
from discue.domain.messages import Entry, ReceiptHandle, decode_options
from discue.domain.retry import DEFAULT_RETRY_POLICY, RetryPolicy, Settlement, settle, with_options
from discue.store.delivery_rows import DueRetry, KeyRow
from discue.store.engine import DeliveryRow, LogPage, Settle
from discue.store.pull_leases import OpenDelivery, PullSnapshot

_WRITTEN_BY_US = frozenset({"leased", "missed", "retry"})


class Rules(msgspec.Struct, frozen=True):
    """What holds for every listener of the service, and where time and randomness come from: `now` is this moment."""

    now: int
    row_ids: RowIds
    random: Callable[[], float]
    max_in_flight: int
    deadline_ms: int


class Ledger:
    """Made of what the store showed. Nothing is stored here: `take` hands over what is to be, whole or not at all."""

    def __init__(self, look: PullSnapshot, rules: Rules) -> None:
        record = look.record
        options = record.options
        self._look = look
        self._record = record
        self._rules = rules
        self._now = rules.now
        self._lease_ms = (options.lease_seconds or LEASED_FOR_SECONDS) * 1_000
        self._policy = with_options(with_options(DEFAULT_RETRY_POLICY, record.queue_retry), options.retry)
        self._filter = None if options.filter is None else compile_filter(options.filter)
        self._max_in_flight = options.max_in_flight or rules.max_in_flight
        self._handed_out = look.handed_out
        self._answered: dict[ReceiptHandle, DecisionResult] = {}
        self._touched: set[int] = set()
        self._progress = CursorState(record)
        self._order: Ordering | None = None
        if record.ordered:
            # Nothing waits in memory here: what waits is blocked by a row.
            self._order = self._progress.ordering = Ordering(
                self._progress.window, WaitingByKey(deque[Entry](), BodyBudget(0)), is_known=True, blocks=record.blocks
            )
            self.show(look.keys)
            for row in look.gone:
                self._progress.release_key(row)
        self.makes_due = False
        """Whether something may be handed out by what came back, which others that wait do not know of."""

    @property
    def position(self) -> int:
        return self._progress.window.position

    @property
    def places(self) -> int:
        """How many more may be handed out."""
        return max(0, self._max_in_flight - self._handed_out)

    @property
    def new_from(self) -> int:
        """When the next new message may be handed out, in milliseconds since the epoch; 0: now."""
        until = self._progress.last_new_at + PAUSE_MS
        return until if self.is_held_back and self._now < until else 0

    @property
    def is_held_back(self) -> bool:
        """Whether only one new message per pause is handed out: a consumer that always fails must not fill the store.

        Like `HoldBack` in push, the pause begins with the last new message, not with the last failure: retries that
        fail more often than every 30 s would prolong the pause for ever, and messages of other keys, which may well
        succeed, would never come. Unlike it, a pull does not count failures in a row, since it remembers nothing
        between requests: one failure since the last success is enough here, and one success ends it in both.
        """
        progress = self._progress
        return self._look.open_rows >= RETRYING_LIMIT and progress.last_failure_at > progress.last_success_at

    def show(self, rows: Sequence[KeyRow]) -> None:
        """The store says that these exceptions hold keys. What was changed since is not as it says."""
        if self._order is not None:
            changed = set(self._progress.unflushed_seqs())
            self._order.add_rows([row for row in rows if row.seq not in changed], _WRITTEN_BY_US, complete=True)

    def answer(self, decision: Decision) -> DecisionResult:
        """What a consumer says of a message."""
        known = self._answered.get(decision.receipt)
        if known is None:
            known = self._answered[decision.receipt] = self._decide(decision)
        return known

    def redeliver(self) -> bool:
        """Take the next step of a redelivery, if there is one and its pace allows it. Whether it was taken."""
        step = self._look.step
        if step is None or self._now < self.redelivers_at:
            return False
        self._progress.redeliver(step, self._now)
        return True

    @property
    def redelivers_at(self) -> int:
        """When the next step of a redelivery may be taken; 0 without one, or at once."""
        step = self._look.step
        if step is None or step.redelivery.pace is None or step.redelivery.state == "waiting":
            return 0
        pace = step.redelivery.pace
        return step.redelivery.updated_at + min(pace, step.redelivered) * 1_000 // pace

    def hand_out_again(self, found: OpenDelivery, body: bytes | None) -> LeasedMessage | None:
        """Lease a delivery that is due, or whose lease has expired. Returns None if it is settled instead."""
        if found.seq in self._touched:
            return None
        progress = self._progress
        is_first = self._resumes(found)
        entry = None
        if found.entry is not None and body is not None:
            if found.state == "leased" and not self._end_lease(found):
                return None
            entry = msgspec.structs.replace(found.entry, body=body)
        reason = "" if entry is None else self._drop_reason(entry, found.waits_since)
        decision = decide_due(entry, self._accepts, reason, is_first=is_first)
        if isinstance(decision, Drop):
            progress.miss_retry(found.seq, found.attempts, decision.reason, self._now)
        elif entry is None or decision is not None:
            progress.drop_row(found.seq)
        else:
            return self._lease(entry, found.attempts + 1, is_new=False)
        return None

    def hand_out(self, page: LogPage, most: int) -> list[LeasedMessage]:
        """Lease new messages from the position on, at most so many. Settles what is not for the listener on the way."""
        progress, leased = self._progress, list[LeasedMessage]()
        for step in steps_of_page(page, self.position, self._record.start_seq, page.through):
            if isinstance(step, Gap):
                progress.skip(step.first, step.last)
                continue
            held = None if self._order is None else self._order.holder(step)
            if held is not None:
                progress.block(held, [step.seq])
                continue
            decision = decide_new(step, self._accepts, self._drop_reason(step, step.stored_at))
            if isinstance(decision, Drop):
                progress.miss_new(step, decision.reason, self._now)
            elif decision is not None:
                progress.skip_new(step)
            elif len(leased) < most:
                leased.append(self._lease(step, 1, is_new=True))
            else:
                break
        return leased

    def miss_through(self, seq: int) -> None:
        """What has waited too long, up to there, will not be handed out any more."""
        if seq > self.position and not self._record.blocks:
            self._progress.miss_range(self.position + 1, seq, "too_old", self._now)

    def give_up(self, found: OpenDelivery, before: int) -> None:
        """A delivery that is due, and maybe has waited too long: since before a time."""
        if found.entry is None:
            self._progress.drop_row(found.seq)
        elif found.waits_since < before:
            self._progress.miss_retry(found.seq, found.attempts, "too_old", self._now)

    def take(self) -> Settle | None:
        """What is to be stored; None when nothing is."""
        return self._progress.take() if self._progress.dirty else None

    def _decide(self, decision: Decision) -> DecisionResult:
        seq, token = decision.receipt
        found = self._look.asked.get(seq)
        if found is None or found.state == "missed":
            return "settled"
        if found.state != "leased" or found.token != token or seq in self._touched:
            return "expired"
        self._touched.add(seq)
        self._resumes(found)
        ends_now = decision.action != "extend"
        if ends_now and found.due_at > self._now:
            self._handed_out -= 1
        # One that is acknowledged makes room, where there was none, and its key free, where there are keys.
        was_full = self._look.handed_out >= self._max_in_flight
        self.makes_due |= ends_now and (decision.action != "acknowledge" or was_full or self._order is not None)
        return self._do(decision, found)

    def _do(self, decision: Decision, found: OpenDelivery) -> DecisionResult:
        progress, now, seconds = self._progress, self._now, decision.seconds
        if decision.action == "acknowledge":
            self._attempted(found, "", now)
            progress.acknowledge(found.seq, now, has_row=True)
            return "acknowledged"
        if decision.action == "reject":
            self._fail(found, "rejected", now)
            return "rejected"
        if decision.action == "release":
            progress.schedule_retry(found.seq, found.attempts - 1, now + (seconds or 0) * 1_000)
            return "released"
        lease_ms = self._lease_ms if seconds is None else seconds * 1_000
        row = DeliveryRow(found.seq, "leased", found.attempts, now + lease_ms, "", token=found.token)
        progress.lease(row)
        return "extended"

    def _end_lease(self, found: OpenDelivery) -> bool:
        """Nobody answered in time: the attempt has failed. Whether another one may follow: that may be at once."""
        return self._fail(found, "lease_expired", found.due_at).state == "retry"

    def _fail(self, found: OpenDelivery, error: FailureKind, ended_at: int) -> Settlement:
        outcome = self._attempted(found, error, ended_at)
        policy = self._policy_of(found)
        settlement = settle(found.attempts, outcome, policy, self._now, self._rules.random())
        self._progress.fail(found.seq, found.attempts, settlement, self._now, has_row=True)
        return settlement

    def _policy_of(self, found: OpenDelivery) -> RetryPolicy:
        extra = b"" if found.entry is None else found.entry.extra
        return with_options(self._policy, decode_options(extra).retry) if extra else self._policy

    def _attempted(self, found: OpenDelivery, error: FailureKind, ended_at: int) -> Outcome:
        detail = "" if not error else _DETAILS[error]
        duration_ms = max(0, ended_at - millisecond_of(found.token or 0))
        outcome = Outcome(0, error, detail, duration_ms)
        row_id = self._rules.row_ids.next()
        self._progress.add_attempt(attempt_record(self._record, row_id, found.seq, found.attempts, outcome))
        return outcome

    def _resumes(self, found: OpenDelivery) -> bool:
        """Whether it comes for the first time: it has waited behind its key."""
        if self._order is None:
            return False
        return self._order.resume(DueRetry(found.seq, found.attempts, found.entry))

    def _lease(self, entry: Entry, attempt: int, *, is_new: bool) -> LeasedMessage:
        if is_new and self._order is not None:
            self._order.begin(entry)
        receipt = ReceiptHandle(entry.seq, self._rules.row_ids.next())
        until = self._now + self._lease_ms
        row = DeliveryRow(entry.seq, "leased", attempt, until, "", token=receipt.token)
        if is_new:
            self._progress.lease_new(row, self._now)
        else:
            self._progress.lease(row)
        self._handed_out += 1
        return LeasedMessage(entry, attempt, receipt, until)

    def _accepts(self, entry: Entry) -> bool:
        return self._filter is None or self._filter.accepts(entry)

    def _drop_reason(self, entry: Entry, waits_since: int) -> str:
        return drop_reason(entry, waits_since, self._now, self._rules.deadline_ms)


_DETAILS: dict[str, str] = {
    "rejected": "The consumer rejected it.",
    "lease_expired": "Nobody answered before the lease was over.",
}
