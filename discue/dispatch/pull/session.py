"""A pull session: the decisions of one round over a listener in pull mode. Pure, apart from new row ids and jitter."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Final

import msgspec

from discue.auth.keyed_semaphore import KeyedSemaphore
from discue.control.listener_fields import LEASED_FOR_SECONDS
from discue.control.pulls import Decision, DecisionResult, LeasedMessage
from discue.dispatch.delivery_rules import DeliveryRules, Gap, message_policy, policy_of, steps_of_page
from discue.dispatch.lane.breaker import PAUSE_MS, RETRYING_LIMIT
from discue.dispatch.lane.context import BodyBudget
from discue.dispatch.lane.cursor_state import CursorState, attempt_record
from discue.dispatch.lane.ordering import Ordering, WaitingByKey
from discue.dispatch.spans import SettledAs, settle_span
from discue.domain.attempts import FailureKind, Outcome
from discue.domain.clock import Clock
from discue.domain.errors import Overloaded
from discue.domain.filters import filters_of
from discue.domain.ids import RowIds, millisecond_of
from discue.domain.messages import Entry, ReceiptHandle, traceparent_of
from discue.domain.model import DisableReason
from discue.domain.retry import Settlement, settle
from discue.domain.trace_context import TraceIds, begin_attempt
from discue.domain.transforms import MOST_FAILURES
from discue.observability.tracing import SpanContext, Tracer
from discue.store.cursors import LaneRecord
from discue.store.delivery_rows import DueRetry, KeyRow
from discue.store.engine import LogPage, Settle
from discue.store.pull_leases import OpenDelivery, PullSnapshot
from discue.store.store import Store
from discue.store.time_slice import SLICE_SECONDS

_STATES_WRITTEN: Final = frozenset({"leased", "missed", "retry"})
"""The states of delivery rows in pull mode. Any session may change them, guarded by the version of the cursor."""

_FAILURE_DETAILS: Final[dict[str, str]] = {
    "rejected": "The consumer rejected the message.",
    "lease_expired": "The lease expired before the consumer responded.",
}


BODY_BYTES: Final = 1 << 20
"""Maximum size of the bodies of one round. The first message may be larger."""


_ROUNDS_AT_ONCE: Final = 4
_MOST_WAITING: Final = 100_000
_MOST_COUNTED: Final = 10_000
"""More than there are open requests: each listener has one round at most."""


class PullContext(msgspec.Struct):
    """The dependencies and settings of every round."""

    store: Store
    clock: Clock
    """The database's: any worker may end a lease of another one."""
    row_ids: RowIds
    random: Callable[[], float]
    max_in_flight: int
    """How many messages of a listener may be leased at once, if the listener does not say."""
    deadline_ms: int
    """How long a message may wait before it is missed."""
    trace_ids: TraceIds
    on_missed: Callable[[], None]
    """Called when missed deliveries were stored."""
    disable: Callable[[LaneRecord, int, DisableReason], None]
    """Disables a listener with this version of its configuration."""
    tracer: Tracer | None = None
    """None unless spans are exported."""
    losses: int = 0
    """How often the connection to the store was lost. A snapshot from before may be of another server."""
    transform_failures: dict[tuple[int, int], int] = msgspec.field(default_factory=dict)
    """Consecutive failures of a listener's transform, by the row id and configuration version of the listener."""
    rounds: KeyedSemaphore[int] = msgspec.field(
        default_factory=lambda: KeyedSemaphore(limit=_ROUNDS_AT_ONCE, max_waiting=_MOST_WAITING, refusal=Overloaded)
    )
    """The rounds of an organization that look at their messages at once. The others wait."""


class PullSession:
    """Decides on the messages and the decisions of one round, on a snapshot of the cursor.

    Nothing is stored here: `take` returns all changes for one guarded write. If the cursor has changed since the
    snapshot, that write does nothing, and another session starts from a new snapshot.
    """

    def __init__(self, snapshot: PullSnapshot, context: PullContext, *, now: int) -> None:
        record = snapshot.record
        options = record.options
        self._snapshot = snapshot
        self._record = record
        self._now = now
        self._context = context
        self._lease_ms = (options.lease_seconds or LEASED_FOR_SECONDS) * 1_000
        self._policy = policy_of(record)
        self._rules = DeliveryRules(filters_of(options.criteria), context.deadline_ms, transform=options.transform)
        self._rules.failures = context.transform_failures.get((record.listener, record.config_version), 0)
        self._max_in_flight = options.max_in_flight or context.max_in_flight
        self._leased = snapshot.handed_out
        self._results: dict[ReceiptHandle, DecisionResult] = {}
        self._decided: set[int] = set()
        """Each `seq` that a decision of this round is about. It is not leased again in the same round."""
        self._cursor = CursorState(record)
        self._ordering: Ordering | None = None
        if record.ordered:
            # No message waits in memory here: messages that wait for their key are blocked by a row.
            waiting = WaitingByKey(deque[Entry](), BodyBudget(0))
            self._ordering = self._cursor.ordering = Ordering(
                self._cursor.window, waiting, is_known=True, blocks=record.blocks
            )
            self.add_keys(snapshot.keys)
            self.add_keys(snapshot.gone)
            for row in snapshot.gone:
                self._cursor.release_key(row)
        self.makes_due = False
        """Whether a decision made messages available that other waiting consumers do not know of."""
        self.spans: list[Callable[..., None]] = []
        """Record the ends of the leases of traced messages. The argument is when the round started."""
        self.bytes_left = BODY_BYTES
        # The messages behind deleted ones that blocked their keys are due now.
        self.has_more = bool(snapshot.gone)
        """Whether another round may lease more messages at once."""
        self._is_late = False
        """Whether the round has taken its time for deliveries that are due."""
        self.next_at = snapshot.next_at
        """If not: when a message is due next, in milliseconds since the epoch; 0 if none is."""

    @property
    def position(self) -> int:
        return self._cursor.window.position

    @property
    def has_filter(self) -> bool:
        return self._rules.has_filter

    @property
    def _is_transform_broken(self) -> bool:
        """Whether the listener is about to be disabled. Its other messages wait."""
        return self._rules.failures >= MOST_FAILURES

    @property
    def free_slots(self) -> int:
        """How many more messages may be leased."""
        return max(0, self._max_in_flight - self._leased)

    @property
    def is_throttled(self) -> bool:
        """Whether only one new message per pause is leased: a consumer that always fails must not fill the store.

        Like `Throttle` in push mode, the pause begins with the last new message, not with the last failure: retries
        that fail more often than every 30 s would prolong the pause for ever, and messages of other keys, which may
        well succeed, would never be leased. Unlike it, a session does not count failures in a row, since nothing is
        remembered between requests: one failure since the last success is enough here. One success ends it in both.
        """
        cursor = self._cursor
        return self._snapshot.open_rows >= RETRYING_LIMIT and cursor.last_failure_at > cursor.last_success_at

    def add_keys(self, rows: Sequence[KeyRow]) -> None:
        """Add delivery rows that hold keys. Rows that this session has changed are not as the store shows them."""
        if self._ordering is not None:
            unchanged = [row for row in rows if row.seq not in self._cursor.states]
            self._ordering.add_rows(unchanged, _STATES_WRITTEN, complete=True)

    def decide(self, decision: Decision) -> DecisionResult:
        """Apply a consumer's decision. A receipt that occurs again in the round gets the same result."""
        if decision.receipt not in self._results:
            self._results[decision.receipt] = self._decide(decision)
        return self._results[decision.receipt]

    def redeliver(self) -> None:
        """Take the next step of a redelivery, if there is one and its rate allows it."""
        step, due_at = self._snapshot.step, 0
        if step is None or step.is_empty:
            return
        rate = step.redelivery.pace
        if rate is not None and step.redelivery.state != "waiting":
            due_at = step.redelivery.updated_at + min(rate, step.redelivered) * 1_000 // rate
        if self._now < due_at:
            self._expect(due_at)
        else:
            self._cursor.redeliver(step, self._now)
            self.has_more = True

    def most_bytes(self, most: int) -> int:
        """Return an upper bound of the bodies that a round for up to `most` messages reads."""
        due = self._snapshot.due[: min(most, self.free_slots)]
        return max(BODY_BYTES, due[0].size if due else self._snapshot.next_size)

    def choose_due(self, most: int) -> list[OpenDelivery]:
        """Return the first due deliveries whose bodies fit."""
        chosen = list[OpenDelivery]()
        if self._is_transform_broken:
            return chosen
        for found in self._snapshot.due[:most]:
            if chosen and found.size > self.bytes_left:
                self.bytes_left, self.has_more = 0, True
                break
            self.bytes_left -= found.size
            chosen.append(found)
        return chosen

    def lease_due(self, chosen: Sequence[OpenDelivery], bodies: Mapping[int, bytes]) -> list[LeasedMessage]:
        """Lease deliveries that are due, or whose leases have expired. Settles some, and leaves some for later."""
        leased, until = list[LeasedMessage](), self._until()
        for found in chosen:
            message = self._lease_due(found, bodies.get(found.seq))
            if message is not None:
                leased.append(message)
            if until < inf and self._context.clock.monotonic() >= until:
                self._is_late = True
                break
        # The messages behind the settled ones are due now.
        self.has_more = self.has_more or len(leased) < len(chosen)
        return leased

    def _until(self) -> float:
        """Return when the event loop's turn is over. Other rounds filter and transform the rest."""
        is_slow = self._rules.has_filter or self._rules.has_transform
        return self._context.clock.monotonic() + SLICE_SECONDS if is_slow else inf

    def may_lease_new(self, *, is_first: bool) -> bool:
        """Whether a new message may be leased now. `is_first` is whether the round reads no other messages."""
        if self._record.head <= self.position or self._is_transform_broken or self._is_late:
            return False
        until = self._cursor.last_new_at + PAUSE_MS
        if self.is_throttled and self._now < until:
            self._expect(until)
            return False
        if not is_first and self._snapshot.next_size > self.bytes_left:
            self.has_more = True
            return False
        return True

    def _expect(self, due_at: int) -> None:
        self.next_at = min(self.next_at, due_at) if self.next_at else due_at

    def _lease_due(self, found: OpenDelivery, body: bytes | None) -> LeasedMessage | None:
        if found.seq in self._decided:
            return None
        cursor = self._cursor
        is_first = self._take_up(found)
        entry = None
        if found.entry is not None and body is not None:
            if found.state == "leased" and not self._expire_lease(found):
                return None
            entry = msgspec.structs.replace(found.entry, body=body)
        reason = self._rules.decide_due(entry, found.waits_since, self._now, is_first=is_first)
        if entry is not None and not reason:
            return self._lease(entry, found.attempts + 1, is_new=False)
        cursor.settle_due(found.seq, found.attempts, reason, self._now, is_there=entry is not None)
        return None

    def lease_new(self, page: LogPage, most: int) -> list[LeasedMessage]:
        """Lease up to `most` new messages from the position on. Settles what is not for the listener on the way."""
        cursor, leased = self._cursor, list[LeasedMessage]()
        monotonic, until = self._context.clock.monotonic, self._until()
        for step in steps_of_page(page, self.position, self._record.start_seq, page.through):
            if isinstance(step, Gap):
                cursor.skip(step.first, step.last)
                continue
            held = None if self._ordering is None else self._ordering.holder(step)
            if held is not None:
                cursor.block(held, [step.seq])
                continue
            reason = self._rules.decide_new(step, self._now)
            if reason:
                cursor.settle_new(step, reason, self._now)
            elif len(leased) < most:
                leased.append(self._lease(step, 1, is_new=True))
            else:
                break
            if self._is_transform_broken or self.bytes_left <= 0:
                break
            if until < inf and monotonic() >= until:
                break
        self.has_more = self.has_more or self.position < page.head
        return leased

    def count_transform_failures(self) -> None:
        """Remember the failures of the round once it is stored. Too many in a row disable the listener."""
        if not self._rules.has_transform:
            return
        record, failures = self._record, self._rules.failures
        counts, version = self._context.transform_failures, (record.listener, record.config_version)
        is_new = counts.pop(version, 0) < MOST_FAILURES
        if failures:
            if len(counts) >= _MOST_COUNTED:
                counts.clear()
            counts[version] = failures
        if failures >= MOST_FAILURES and is_new:
            self._context.disable(record, record.config_version, "transform")

    def miss_through(self, seq: int) -> None:
        """Miss all new messages up to `seq`: they have waited too long.

        Not where a missed message blocks its key: each then needs a row of its own, and is missed at its turn.
        """
        if seq > self.position and not self._record.blocks:
            self._cursor.miss_range(self.position + 1, seq, "too_old", self._now)

    def miss_if_old(self, found: OpenDelivery, before: int) -> None:
        """Miss a delivery that is due and has waited since before a time. An expired lease first ends as an attempt."""
        self._cursor.claim(found.seq, is_leased=found.state == "leased")
        is_there = found.entry is not None
        if not is_there or (found.waits_since < before and (found.state != "leased" or self._expire_lease(found))):
            self._cursor.settle_due(found.seq, found.attempts, "too_old", self._now, is_there=is_there)

    def take(self) -> Settle | None:
        """Return the changes to store; None if there are none."""
        return self._cursor.take() if self._cursor.dirty else None

    def _decide(self, decision: Decision) -> DecisionResult:
        seq, token = decision.receipt
        found = self._snapshot.asked.get(seq)
        if found is None or found.state == "missed":
            # A message that the cursor has not passed was never leased here: the receipt is another listener's.
            return "settled" if self._cursor.window.is_settled(seq) else "expired"
        if found.state != "leased" or found.token != token or seq in self._decided:
            return "expired"
        self._decided.add(seq)
        self._take_up(found)
        ends_lease = decision.action != "extend"
        if ends_lease and found.due_at > self._now:
            self._leased -= 1
        # An acknowledgement makes messages available only if it frees the last slot, or a key.
        was_full = self._snapshot.handed_out >= self._max_in_flight
        self.makes_due |= ends_lease and (decision.action != "acknowledge" or was_full or self._ordering is not None)
        return self._apply(decision, found)

    def _take_up(self, found: OpenDelivery) -> bool:
        """Prepare a delivery with a row. Returns whether it was blocked, and so had no attempt yet."""
        self._cursor.claim(found.seq, is_leased=found.state == "leased")
        return self._cursor.resume(DueRetry(found.seq, found.attempts, found.entry))

    def _apply(self, decision: Decision, found: OpenDelivery) -> DecisionResult:
        cursor, now, seconds = self._cursor, self._now, decision.seconds
        if decision.action == "acknowledge":
            self._end_attempt(found, "", now)
            cursor.acknowledge(found.seq, now)
            self._trace(found, "acknowledged")
            return "acknowledged"
        if decision.action == "reject":
            self._fail(found, "rejected", now)
            return "rejected"
        if decision.action == "release":
            # As if the message had not been leased: the attempt is not counted, and leaves no record. Without a delay,
            # it is due since it was leased: the clock of the worker that is asked next may be a little behind.
            due_at = now + seconds * 1_000 if seconds else min(now, millisecond_of(found.token or 0))
            cursor.schedule_retry(found.seq, found.attempts - 1, due_at)
            return "released"
        lease_ms = self._lease_ms if seconds is None else seconds * 1_000
        cursor.lease(found.seq, found.attempts, now + lease_ms, found.token)
        return "extended"

    def _expire_lease(self, found: OpenDelivery) -> bool:
        """Fail the attempt of an expired lease. Returns whether another attempt may follow.

        It may follow at once, without the delay of the retry policy: the lease was the delay.
        """
        if self._fail(found, "lease_expired", found.due_at).state != "retry":
            return False
        self._cursor.claim(found.seq)
        return True

    def _fail(self, found: OpenDelivery, error: FailureKind, ended_at: int) -> Settlement:
        outcome = self._end_attempt(found, error, ended_at)
        policy = self._policy if found.entry is None else message_policy(self._policy, found.entry.extra)
        settlement = settle(found.attempts, outcome, policy, self._now, random=self._context.random())
        self._cursor.fail(found.seq, found.attempts, settlement, self._now, outcome=outcome)
        self._trace(found, settlement.state)
        return settlement

    def _trace(self, found: OpenDelivery, state: SettledAs) -> None:
        entry, tracer = found.entry, self._context.tracer
        if tracer is None or entry is None:
            return
        creation = traceparent_of(entry.extra)
        if creation is not None and tracer.records(creation):
            end = settle_span(tracer, self._record, entry.id, found.attempts, state=state)
            # The span of the attempt is not stored: any worker may have handed the message out.
            self.spans.append(partial(end, "server", creation=creation, span=SpanContext(links=(creation,))))

    def _end_attempt(self, found: OpenDelivery, error: FailureKind, ended_at: int) -> Outcome:
        detail = "" if not error else _FAILURE_DETAILS[error]
        # A token is a row id, which contains the time of the lease.
        duration_ms = max(0, ended_at - millisecond_of(found.token or 0))
        outcome = Outcome(0, error, detail, duration_ms)
        self._cursor.add_attempt(
            attempt_record(self._record, self._context.row_ids.next(), found.seq, found.attempts, outcome=outcome)
        )
        return outcome

    def _lease(self, entry: Entry, attempt: int, *, is_new: bool) -> LeasedMessage:
        receipt = ReceiptHandle(entry.seq, self._context.row_ids.next())
        until = self._now + self._lease_ms
        if is_new:
            if self._ordering is not None:
                self._ordering.begin(entry)
            self._cursor.last_new_at = self._now
        self._cursor.lease(entry.seq, attempt, until, receipt.token)
        self._leased += 1
        sent, traceparent = self._rules.shaped(entry), traceparent_of(entry.extra)
        self.bytes_left -= len(sent.body) - len(entry.body)
        if traceparent is None:
            return LeasedMessage(sent, attempt, receipt, until)
        trace = begin_attempt(traceparent, self._record.options.trace, self._context.trace_ids)
        return LeasedMessage(sent, attempt, receipt, until, trace)
