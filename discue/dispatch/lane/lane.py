"""A lane: delivers the messages of one cursor in their order, a bounded number at once, until each is settled."""

import math
from functools import partial

import msgspec

from discue.dispatch.delivery_rules import drop_reason
from discue.dispatch.lane.attempt import InFlightAttempt
from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.breaker import CircuitBreaker
from discue.dispatch.lane.context import LaneContext
from discue.dispatch.lane.cursor_state import CursorState, attempt_record
from discue.dispatch.lane.endpoint import Endpoint, request_of
from discue.dispatch.lane.flush import Flush
from discue.dispatch.lane.handover import Handover, InheritedRequests
from discue.dispatch.lane.limits import FairShare, Slots
from discue.dispatch.lane.ordering import DeletionWatch, KeyReader, Ordering
from discue.dispatch.lane.redelivery import RedeliveryRunner
from discue.dispatch.lane.selector import (
    BlockNew,
    Decision,
    Detach,
    DropNew,
    DropRetry,
    Selector,
    SkipNew,
    SkipRetry,
    Start,
)
from discue.dispatch.lane.states import LANE_TRANSITIONS, LaneState, transition
from discue.dispatch.lane.store_check import StoreCheck
from discue.domain.attempts import Outcome
from discue.domain.concurrency import AdaptiveLimit
from discue.domain.listener_health import Liveness
from discue.domain.messages import Entry
from discue.domain.rate import TokenBucket
from discue.domain.retry import settle
from discue.domain.window import SPAN
from discue.store.cursors import LaneRecord
from discue.store.engine import CursorKey, DeliveryRow, Settle


class Lane:
    """Delivers the messages of one cursor.

    An idle lane has no task and no timer. Whatever may allow it to send calls `pump`: a publish, an outcome, a flush, a
    due time, a probe, a change of the listener, the worker's lease, a free slot.
    """

    def __init__(self, record: LaneRecord, endpoint: Endpoint, context: LaneContext) -> None:
        self.record = record
        self.endpoint = endpoint
        self.state = LaneState.LOADING_KEYS
        self.breaker = CircuitBreaker(record.known, context.tuning.most_trials)
        self.adaptive = AdaptiveLimit(endpoint.max_in_flight)
        # A cursor that had no owner before was never sent to.
        is_new = record.token == 1 and record.version == 0
        self.rate = TokenBucket(endpoint.rate_limit, context.clock.monotonic(), is_full=is_new)
        self.lead: Lane = self
        """The lane whose limits hold: the listener's live lane."""
        self.fair_share: FairShare | None = None
        """Shares the listener's limits with its replays, if there are any."""
        self.slots = Slots(record.organization, self.adaptive, self.pump)
        self.cursor = self._new_cursor_state(context)
        self.wakes_at = 0
        self.has_flushed = False
        """Whether the store has accepted a flush."""
        self._context = context
        self._in_flight: dict[int, InFlightAttempt] = {}
        self.backlog = Backlog(self, context, self._in_flight.keys())
        self.redelivery = RedeliveryRunner(self, context)
        self.inherited: InheritedRequests | None = None
        """Until no inherited request is in flight any more."""
        if record.has_inherited_requests:
            self.inherited = InheritedRequests(record, self.cursor, self.backlog, context, lane=self)
        self._flush = Flush(self, self.cursor, context)
        self._selector = Selector(self, context, self.backlog, self._in_flight)
        self._handover: Handover | None = None
        self._keys: KeyReader | None = None
        self._deletions: DeletionWatch | None = None
        if record.ordered:
            self._keep_order(record, context)

    def _keep_order(self, record: LaneRecord, context: LaneContext) -> None:
        is_known = not record.retrying and not (record.blocks and record.missed)
        waiting = self.backlog.waiting
        ordering = Ordering(self.cursor.window, waiting, is_known=is_known, blocks=record.blocks)
        self.cursor.ordering = ordering
        self._keys = KeyReader(self, context, ordering)
        if record.blocks:
            self._deletions = DeletionWatch(self, context)

    def _new_cursor_state(self, context: LaneContext) -> CursorState:
        del context
        return CursorState(self.record)

    @property
    def key(self) -> CursorKey:
        return self.record.key

    @property
    def is_active(self) -> bool:
        """Whether the lane has its cursor and does not give it up."""
        return self.state is not LaneState.DRAINING and self.state is not LaneState.CLOSED

    @property
    def is_closed(self) -> bool:
        return self.state is LaneState.CLOSED

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight or to be stored, so that the cursor can be given up without a flush."""
        return not self._in_flight and self._flush.is_idle

    @property
    def is_settled(self) -> bool:
        """Whether the lane is idle, and no inherited request is in flight."""
        return self.is_idle and self.inherited is None

    @property
    def is_quiet(self) -> bool:
        """Whether no message is in flight, or waits in memory for one that is."""
        return not self._in_flight and not self.backlog.waiting.count and self.is_active

    @property
    def may_send(self) -> bool:
        """Whether the listener is enabled, and its circuit breaker lets requests through."""
        return self.endpoint.enabled and not self.breaker.is_open

    @property
    def is_wide_open(self) -> bool:
        """Whether the listener gets all messages: replays may be sent to it, too."""
        return self.is_active and self.endpoint.enabled and self.breaker.is_closed

    @property
    def slots_taken(self) -> int:
        """How many of the listener's slots are taken.

        An attempt keeps its slot until it is stored, so that a crash never repeats more than the limit.
        """
        inherited = 0 if self.inherited is None else self.inherited.slots
        return self.slots.in_flight + self.cursor.unflushed + inherited

    def begin(self, head: int) -> None:
        """Load what the store knows of the cursor, then send. The log goes to `head` at least."""
        self.backlog.on_head(head)
        if self.inherited is not None:
            self._context.inheriting.add(self)
        if self._keys is not None and not self.cursor.knows_keys:
            self._keys.check.request()
        if self.record.has_redeliveries:
            self.redelivery.request()
        self._context.prober.follow(self)
        self.on_loaded()

    def on_loaded(self) -> None:
        """Follow a read of keys or of inherited requests: send once both are known."""
        if self.state is LaneState.LOADING_KEYS and self.cursor.knows_keys:
            self._enter(LaneState.LOADING_INHERITED)
            if self.inherited is not None:
                self.inherited.request_check()
            if self._deletions is not None and self.record.missed:
                self._deletions.request_check()
            self.redelivery.advance()
        if self.inherited is not None and self.inherited.is_done:
            self.inherited = None
            self._context.inheriting.discard(self)
        if self.state is LaneState.LOADING_INHERITED and (self.inherited is None or self.inherited.is_known):
            self._enter(LaneState.RUNNING)
        self.advance()

    def advance(self) -> None:
        """Store what a read has changed, and start what may start."""
        self._flush.request()
        if self.is_active:
            self.pump()

    def on_published(self, entries: tuple[Entry, ...]) -> None:
        """Send messages that were appended to the log."""
        self.backlog.on_published(entries, may_hold=self._can_start)
        self.pump()

    def pump(self) -> None:
        """Start whatever may start now, in this lane and in those that share its listener."""
        if self.fair_share is None:
            self.start()
        else:
            self.fair_share.pump(self)

    def start(self) -> None:
        """Start whatever may start now in this lane, and read more if needed."""
        # Most calls come when an attempt has ended or was stored, and find nothing to do.
        if self.backlog.is_idle or not self._can_start or self._flush.is_stalled:
            return
        if not self._context.has_lease():
            self._context.waiting_for_lease.add(self)
            return
        now = self._context.clock.now()
        while self._has_free_slot and self._may_start_now(now):
            decision = self._selector.next(now)
            if decision is None:
                break
            self._apply(decision, now)
        retries = self.backlog.needs_retries(now)
        page = self.backlog.needs_page and self._may_read_page(now)
        if retries or page:
            self.backlog.read(now, retries=retries, page=page)

    def wake(self) -> None:
        """Do what is due. The timers keep one time per lane only, so this asks for the next one."""
        now = self._context.clock.now()
        for check in self._checks():
            check.request_if_due(now)
        self.redelivery.advance()
        self.pump()
        due = [self.backlog.due_at, self._selector.throttle.until, self.redelivery.due_at]
        due += [check.due_at for check in self._checks()]
        later = [due_at for due_at in due if due_at > now]
        if later:
            self.wake_at(min(later))

    def wake_at(self, due_at: int) -> None:
        """Call `wake` at a time in milliseconds since the epoch, or earlier."""
        if not self.is_closed:
            self._context.wake_at(self, due_at)

    def configure(self, endpoint: Endpoint) -> None:
        """Use a new configuration for all attempts from now on."""
        before, self.endpoint = self.endpoint, endpoint
        if endpoint.target != before.target:
            self._selector.throttle.end()
        self.adaptive.limit_to(endpoint.max_in_flight)
        if endpoint.rate_limit != self.rate.limit:
            self.rate = TokenBucket(endpoint.rate_limit, self._context.clock.monotonic(), is_full=False)
        if not endpoint.enabled:
            self.backlog.unread()
        if self.breaker.configure(before, endpoint, self._in_flight):
            self.reopen()
        self._context.prober.configured(self)
        self.pump()

    def on_probe(self, liveness: Liveness) -> None:
        """Follow the state of the listener after a probe."""
        if self.breaker.on_probe(liveness, self._in_flight):
            self.reopen()
        elif self.breaker.is_open:
            self.backlog.unread()
        self.pump()

    def reopen(self) -> None:
        """Send everything that waits, also retries that are not due: the listener works again."""
        self._selector.throttle.end()
        self.backlog.begin_sweep()

    def on_messages_deleted(self) -> None:
        """Read again what is not in flight, so that no deleted message is sent."""
        self.backlog.unread()
        if self._deletions is not None:
            self._deletions.request_check()
        self.pump()

    async def miss_older_than(self, before: int) -> None:
        """Miss messages that were stored before a time. A lane that sends notices their age in their turn."""
        if self.is_quiet:
            await self.backlog.miss_older_than(before)
            self._flush.request()

    def begin_draining(self) -> None:
        """Start nothing any more."""
        if self.is_active:
            self._enter(LaneState.DRAINING)
        self.backlog.drop()

    async def hand_over(self) -> None:
        """Give the cursor up, with the requests in flight. Returns when that is stored."""
        self.begin_draining()
        await self._flush.release()

    def hand_over_in_flight(self) -> None:
        """Give each request in flight a row, for the flush that gives the cursor up."""
        now = self._context.clock.now()
        for attempt in self._in_flight.values():
            if attempt.has_row:
                row = DeliveryRow(attempt.seq, "sending", attempt.number, now, "", self.record.owner)
                self.cursor.put_row(row)
            else:
                self.cursor.detach(attempt.seq, attempt.number, now)
        self._handover = Handover(self.record, self._context, self._in_flight.values())

    def close(self) -> None:
        """Store nothing any more: the cursor is another worker's, or gone.

        Outcomes of requests that the cursor has passed are still reported, in their rows.
        """
        if self.is_closed:
            return
        self._enter(LaneState.CLOSED)
        self.backlog.drop()
        self._context.inheriting.discard(self)
        self._context.waiting_for_lease.discard(self)
        self._context.prober.unfollow(self)
        if self._handover is None:
            detached = [attempt for attempt in self._in_flight.values() if attempt.has_row and not attempt.is_retry]
            self._handover = Handover(self.record, self._context, detached)
        self._handover.on_stored()

    def on_flushed(self, settle: Settle) -> None:
        """Go on after a flush."""
        self.has_flushed = True
        if settle.releases:
            self.close()
            return
        self.backlog.on_flushed(settle, [attempt.seq for attempt in self._in_flight.values() if attempt.has_row])
        self.redelivery.on_flushed(settle)
        if self._deletions is not None:
            self._deletions.on_flushed(settle.delivery_rows)
        self.pump()

    def accepts(self, entry: Entry) -> bool:
        """Whether the message is for the listener."""
        return self.endpoint.accepts(entry)

    def drop_reason(self, entry: Entry, waits_since: int, now: int) -> str:
        """Return why a message is missed instead of sent; "" if it is sent."""
        return drop_reason(entry, waits_since, now, self._context.deadline_ms)

    @property
    def _can_start(self) -> bool:
        return self.state is LaneState.RUNNING and self.may_send

    @property
    def _has_free_slot(self) -> bool:
        # Inherited requests were sent by the previous owner, and are no trials of the circuit breaker here.
        in_flight = self.slots.in_flight + self.cursor.unflushed
        return self.slots_taken < self.slots.limit and self.breaker.allows(in_flight)

    def _may_start_now(self, now: int) -> bool:
        """Whether the listener's rate, and its replays, let a request start now. If not, the lane is called again."""
        if self.backlog.is_empty:
            return False
        if self.fair_share is not None:
            return self.fair_share.may_start(self)
        return self._wait_for(self.rate, now)

    def _wait_for(self, rate: TokenBucket, now: int) -> bool:
        """Whether a rate lets a request start now. If not, the lane is woken when it does."""
        wait_seconds = 0.0 if rate.limit is None else rate.wait_seconds(self._context.clock.monotonic())
        if wait_seconds > 0:
            self.wake_at(now + math.ceil(wait_seconds * 1_000))
        return wait_seconds == 0

    def _may_read_page(self, now: int) -> bool:
        if now < self._selector.throttle.until or not self._has_free_slot:
            return False
        window = self.cursor.window
        if self.backlog.read_through >= window.position + SPAN and (room := self._selector.make_room()) is not None:
            self._apply(room, now)
        # With a full span a page would bring nothing, and the lane would read it again at once.
        return self.backlog.read_through < window.position + SPAN

    def _apply(self, decision: Decision, now: int) -> None:
        match decision:
            case Start():
                self._send(decision)
                return
            case SkipNew(entry=entry):
                self.cursor.skip_new(entry)
            case DropNew(entry=entry, reason=reason):
                self.cursor.miss_new(entry, reason, now)
            case BlockNew(held=held, seq=seq):
                self.cursor.block(held, [seq])
            case DropRetry(retry=retry, reason=reason):
                self.cursor.miss_retry(retry.seq, retry.attempts, reason, now)
            case SkipRetry(retry=retry):
                self.cursor.drop_row(retry.seq)
            case Detach(attempts=attempts):
                for attempt in attempts:
                    attempt.has_row = True
                    self.backlog.claimed.add(attempt.seq)
                    self.cursor.detach(attempt.seq, attempt.number, now)
        self._flush.request()

    def _send(self, start: Start) -> None:
        entry, clock = start.entry, self._context.clock
        attempt = InFlightAttempt(entry, start.number, self.endpoint, self.lead.adaptive.epoch, is_retry=start.is_retry)
        self.lead.rate.take(clock.monotonic())
        self._on_start()
        if self.fair_share is not None:
            self.fair_share.on_start(self)
        self._in_flight[attempt.seq] = attempt
        if self.cursor.ordering is not None and not start.is_retry:
            # A retry either holds its key already, or was redelivered and must not take it from a later message.
            self.cursor.ordering.begin(entry)
        request = request_of(self.record, self.endpoint, entry, start.number, clock=clock)
        self._context.send(request, partial(self._on_outcome, attempt))

    def _on_start(self) -> None:
        """Count an attempt that starts, for limits of a subclass."""

    def _on_outcome(self, attempt: InFlightAttempt, outcome: Outcome) -> None:
        context = self._context
        context.limiter.release(self.slots)
        del self._in_flight[attempt.seq]
        self._selector.retries_in_flight -= attempt.is_retry
        self.lead.adaptive.ended(outcome, attempt.epoch)
        if attempt.handover is not None:
            attempt.handover.on_outcome(attempt, outcome)
            context.log_attempt(self.record, attempt, outcome)
        elif not self.is_closed:
            self._record(attempt, outcome)
            context.log_attempt(self.record, attempt, outcome)
        context.limiter.pump_waiting()
        self.pump()

    def _record(self, attempt: InFlightAttempt, outcome: Outcome) -> None:
        context, cursor = self._context, self.cursor
        now = context.clock.now()
        record = attempt_record(self.record, context.row_ids.next(), attempt.seq, attempt.number, outcome=outcome)
        next_attempt_at = 0
        if outcome.error == "":
            self._selector.throttle.end()
            if self.breaker.on_success(attempt.seq):
                context.prober.note(self)
            cursor.acknowledge(attempt.seq, now, has_row=attempt.has_row)
        else:
            next_attempt_at = self._record_failure(attempt, outcome, now)
        cursor.add_attempt(record, outcome.trace, next_attempt_at)
        self._flush.request()

    def _record_failure(self, attempt: InFlightAttempt, outcome: Outcome, now: int) -> int:
        """Return when the next attempt may start, in milliseconds since the epoch; 0 if there is none."""
        context, throttle = self._context, self._selector.throttle
        throttle.on_failure()
        health_changed = self.breaker.on_failure(attempt.seq, now)
        settlement = settle(attempt.number, outcome, attempt.policy, now, random=context.random())
        self.cursor.fail(attempt.seq, attempt.number, settlement, now, has_row=attempt.has_row)
        self.backlog.claimed.add(attempt.seq)
        if self.breaker.is_open:
            self.backlog.unread()
        elif throttle.only_fails:
            self.backlog.end_sweep()
        context.prober.on_failure(self, health_changed=health_changed)
        if settlement.disable_listener:
            self._disable(attempt.endpoint.config_version, "gone")
        elif self._should_disable(now):
            self._disable(attempt.endpoint.config_version, "failing")
        return settlement.due_at

    def _should_disable(self, now: int) -> bool:
        return self.breaker.should_disable(now, self._context.disable_after_seconds)

    def _disable(self, config_version: int, reason: str) -> None:
        # A configuration that came after the request is not judged by it.
        if self.endpoint.enabled and self.endpoint.config_version == config_version:
            self.endpoint = msgspec.structs.replace(self.endpoint, enabled=False)
            self.backlog.unread()
            self._context.disable(self.record, config_version, reason)

    def _checks(self) -> list[StoreCheck]:
        parts = (self._keys, self.inherited, self._deletions)
        return [part.check for part in parts if part is not None]

    def _enter(self, state: LaneState) -> None:
        """Change the state. Every change is made here."""
        self.state = transition(LANE_TRANSITIONS, self.state, state)
