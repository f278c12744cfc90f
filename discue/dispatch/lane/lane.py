"""A lane: delivers the messages of one cursor in their order, a bounded number at once, until each is settled."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.context import BodyBudget, DetailBudget, LimitedReads, WorkerContext
from discue.dispatch.lane.cursor_state import CursorState, attempt_record
from discue.dispatch.lane.endpoint import Endpoint, InFlightAttempt
from discue.dispatch.lane.handover import Disable, Handover, HandoverOutcomes, InheritedRequests
from discue.dispatch.lane.limits import ConcurrencyLimiter, Limits, Slots, Turns
from discue.dispatch.lane.ordering import Ordering
from discue.dispatch.lane.owned_cursor import DelayedFlushes, Flush, FlushState, OwnedCursor
from discue.dispatch.lane.probes import Prober
from discue.dispatch.lane.replay import ReplayRun, ReplaySlots
from discue.dispatch.lane.selector import Selector
from discue.dispatch.lane.states import (
    FILTERS,
    IDLE,
    INACTIVE,
    LEASE,
    REPLAYS,
    SHARE,
    SLOTS,
    STORE,
    WORKER,
    Blocked,
    DeliveryState,
    LaneState,
)
from discue.dispatch.lane.store_checks import DeletionWatch, KeyReader, RedeliveryRunner, StoreCheck
from discue.dispatch.spans import SettledAs
from discue.domain.attempts import Outcome
from discue.domain.errors import StoreDamaged
from discue.domain.listener_health import Liveness, should_disable
from discue.domain.messages import Entry
from discue.domain.model import DisableReason
from discue.domain.retry import settle
from discue.domain.window import SPAN
from discue.sending.request import AttemptRequest
from discue.store.batch_rows import CURSOR_COLUMNS, cursor_values
from discue.store.cursors import LaneRecord
from discue.store.engine import Settle
from discue.store.listeners import ListenerHealth

_SLOTS_PER_UNSTORED = 4
"""Outcomes are stored without delay once a quarter of the slots wait for that."""

SendAttempt = Callable[[AttemptRequest, Callable[[Outcome], None]], None]
"""Makes one attempt and calls back with its outcome later, never at once: `AuthorizingSender.send`."""


class LaneContext(WorkerContext, frozen=True, kw_only=True):
    """Everything that the lanes of a worker share."""

    reads: LimitedReads
    send_request: SendAttempt
    limiter: ConcurrencyLimiter
    budget: BodyBudget
    filter_turns: Turns
    replay_slots: ReplaySlots
    disable_after_seconds: int
    """How long a listener may only fail until it is disabled; 0 for ever."""
    details: DetailBudget
    handover_outcomes: HandoverOutcomes
    prober: Prober
    log_attempt: Callable[[LaneRecord, InFlightAttempt, Outcome], None]
    disable: Disable
    on_missed: Callable[[], None]
    """Called when missed deliveries were stored."""
    delayed_flushes: DelayedFlushes
    waiting_for_lease: dict[Slots, None]
    """Slots of lanes that wait for the worker's lease, oldest first. They are pumped when it is renewed."""
    inheriting: dict[InheritedRequests, None]
    """Inherited requests that are in flight, in the order in which their lanes began."""


class LaneOwner(Protocol):
    """Drops the lanes of finished replays, and reloads the cursors of lanes whose writes were refused."""

    def drop(self, lane: "Lane") -> None: ...

    def lose(self, lane: "Lane") -> None: ...


class Lane:
    """Delivers the messages of one cursor.

    An idle lane has no task and no timer. Whatever may allow it to send calls `pump`: a publish, an outcome, a flush, a
    due time, a probe, a change of the listener, the worker's lease, a free slot.
    """

    def __init__(self, record: LaneRecord, endpoint: Endpoint, context: LaneContext, owner: LaneOwner) -> None:
        self.record = self._latest = record
        self.key = record.key
        self.cursor = CursorState(record, None if record.replay is None else context.clock)
        self.owned = OwnedCursor(record, endpoint, self.cursor, lane=self, worker=context, reads=context.reads)
        self.wakes_at = 0
        self.has_flushed = False
        """Whether the store has accepted a flush."""
        self.was_used = True
        """Whether the lane began, or the store has accepted a flush, since this was last reset."""
        self._context = context
        self._owner = owner
        self._delivery_lag = context.store.measures.delivery_lag
        self._in_flight: dict[int, InFlightAttempt] = {}
        self.limits = Limits(self.owned, context.limiter)
        self.backlog = Backlog(self.owned, context.budget)
        self.redelivery = RedeliveryRunner(self.owned)
        if record.has_inherited_requests:
            self.limits.inherited = InheritedRequests(self.backlog, context.handover_outcomes)
        self._flush = Flush(self.owned, context.delayed_flushes, self._may_store_later)
        self._selector = Selector(self.backlog, self.limits, context.filter_turns, self._in_flight)
        self._replay: ReplayRun | None = None
        if record.replay is not None:
            self._replay = ReplayRun(record.replay, self.backlog, context.replay_slots, lambda: self.is_settled)
        self._handover: Handover | None = None
        self._keys: KeyReader | None = None
        self._deletions: DeletionWatch | None = None
        if record.ordered:
            is_known = not record.retrying and not (record.blocks and record.missed)
            ordering = Ordering(self.cursor.window, self.backlog.waiting, is_known=is_known, blocks=record.blocks)
            self.cursor.ordering = ordering
            self._keys = KeyReader(self.owned, ordering)
            if record.blocks:
                self._deletions = DeletionWatch(self.owned)

    @property
    def is_closed(self) -> bool:
        return self.owned.is_closed

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight or to be stored, so that the cursor can be given up without a flush."""
        return not self._in_flight and self._flush.is_idle

    @property
    def is_settled(self) -> bool:
        """Whether the lane is idle, and no inherited request is in flight."""
        return self.is_idle and self.limits.inherited is None

    @property
    def is_needed(self) -> bool:
        """Whether the lane has work before the next message comes, or knows more than the store."""
        is_running, backlog = self.owned.state is LaneState.RUNNING, self.backlog
        if not (is_running and self.is_settled and backlog.is_caught_up) or backlog.due_at or self.cursor.states:
            return True
        if self.redelivery.is_open or any(check.is_due for check in self._checks()):
            return True
        return not self.limits.are_as_new or self._context.prober.health.is_noted(self)

    def idle_record(self) -> LaneRecord:
        """Return the record from which the cursor's next lane continues. Only for a lane that is not needed."""
        # All changes are stored: a settle has the cursor as it is in the store.
        stored = zip(CURSOR_COLUMNS, cursor_values(self.cursor.take()), strict=True)
        return msgspec.structs.replace(
            self._latest,
            **dict(stored),
            head=self.backlog.head,
            has_inherited_requests=False,
            has_redeliveries=False,
            trial_job=0,
            trial_seq=0,
            known=ListenerHealth(),
            causes=frozenset(self.cursor.causes),
        )

    @property
    def waiting(self) -> int:
        """How many messages the listener has not settled."""
        # Without the window's property for the count: a scrape asks all lanes.
        cursor = self.cursor
        window = cursor.window
        return self.backlog.head - window.position - window.ahead.bit_count() + cursor.retrying

    @property
    def waiting_since(self) -> int:
        """When the oldest message was stored whose first attempt has not ended; 0: there is none, or it is not known.

        It is not known of a listener that has not been sent anything since this worker took it.
        """
        since = self.backlog.waiting_since
        if not self._in_flight:
            # Most lanes are idle, and a scrape asks all of them.
            return since
        first = [attempt.entry.stored_at for attempt in self._in_flight.values() if attempt.number == 1]
        return min([*first, since] if since else first, default=0)

    def begin(self, head: int) -> None:
        """Load what the store knows of the cursor, then send. The log goes to `head` at least."""
        self.backlog.on_head(head)
        if self.limits.inherited is not None:
            self._context.inheriting[self.limits.inherited] = None
        if self._keys is not None and not self.cursor.knows_keys:
            self._keys.request()
        if self.record.has_redeliveries:
            self.redelivery.begin()
        self._context.prober.follow(self)
        self.advance()

    def advance(self) -> None:
        """Follow a read: store what it has changed, and start what may start.

        Nothing starts before the held keys and the inherited requests are known.
        """
        inherited = self.limits.inherited
        if self.owned.state is LaneState.LOADING_KEYS and self.cursor.knows_keys:
            self.owned.enter(LaneState.LOADING_INHERITED)
            if inherited is not None:
                inherited.request()
            if self._deletions is not None and self.record.missed:
                self._deletions.request()
            self.redelivery.advance()
        if inherited is not None and inherited.is_done:
            self.limits.inherited = None
            self._context.inheriting.pop(inherited, None)
        if self.owned.state is LaneState.LOADING_INHERITED and (inherited is None or inherited.is_known):
            self.owned.enter(LaneState.RUNNING)
        self._flush.request()
        if self.owned.is_active:
            self.pump()
        if self._replay is not None:
            self._replay.end_if_done()

    def on_published(self, entries: tuple[Entry, ...]) -> None:
        """Note messages that were appended to the log, for `pump`. They are beyond the end of a replay."""
        if self._replay is None:
            self.backlog.on_published(entries, may_hold=self._can_start)

    def pump(self) -> None:
        """Start whatever may start now, in this lane and in those that share its listener.

        A failure goes to the event loop's handler: the caller has other lanes to pump.
        """
        try:
            if self.limits.fair_share is None:
                self.start()
            else:
                self.limits.fair_share.pump(self.limits)
        except Exception as error:  # Handed to the loop's handler
            context = {"message": "a lane failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def start(self) -> None:
        """Start whatever may start now in this lane, and read more if needed."""
        blocked = self._held_back() or self._start_some()
        if blocked is not IDLE:
            self._wait(blocked)

    def wake(self) -> None:
        """Do what is due. The timers keep one time per lane only, so this asks for the next one."""
        now = self._context.clock.now()
        for check in self._checks():
            if 0 < check.due_at <= now:
                check.request()
        limits = self.limits
        if limits.paused_until <= now:
            limits.paused_until = 0
        self.pump()
        pauses = (limits.throttle.until, limits.paused_until)
        due = [self.backlog.due_at, *pauses, *(check.due_at for check in self._checks())]
        later = [due_at for due_at in due if due_at > now]
        if later:
            self.wake_at(min(later))

    def on_clock_set_back(self, now: int) -> None:
        """Follow a wall clock that was set back to `now`. Times of retries stay: they are stored."""
        self.limits.throttle.shorten(now)
        self.limits.paused_until = 0
        for check in self._checks():
            if check.due_at:
                check.request()
        self.wake()

    def wake_at(self, due_at: int) -> None:
        """Call `wake` at a time in milliseconds since the epoch, or earlier."""
        if not self.is_closed:
            self._context.wake_at(self, due_at)

    def configure(self, endpoint: Endpoint, record: LaneRecord) -> None:
        """Use a new configuration for all attempts from now on. `record` was read with it."""
        self._latest = record
        self.cursor.configure_trial(record)
        before, self.owned.endpoint = self.owned.endpoint, endpoint
        self.limits.configure(before, endpoint)
        self._selector.configure(endpoint)
        if not endpoint.enabled:
            self.backlog.unread()
        if self.limits.breaker.configure(before, endpoint, self._in_flight):
            self.reopen()
        self._context.prober.configured(self)
        self.pump()

    def on_probe(self, liveness: Liveness) -> None:
        breaker = self.limits.breaker
        if breaker.on_probe(liveness, self._in_flight):
            self.reopen()
        elif breaker.is_open:
            self.backlog.unread()
        self.pump()

    def reopen(self) -> None:
        """Send everything that waits, also retries that are not due: the listener works again."""
        self.limits.throttle.end()
        self.backlog.begin_sweep()

    def on_messages_deleted(self) -> None:
        """Read again what is not in flight, so that no deleted message is sent. Call `pump` afterwards."""
        self.backlog.unread()
        if self._deletions is not None:
            self._deletions.request()

    async def miss_older_than(self, before: int) -> None:
        """Miss messages that were stored before a time. A lane that sends notices their age in their turn."""
        if self._selector.is_quiet and (self.record.replay is None or self.record.replay.created_at < before):
            try:
                await self._selector.miss_older_than(before)
            except StoreDamaged:
                # The damage is reported. Other lanes continue.
                self.owned.on_damage()
            self._flush.request()

    def begin_draining(self) -> None:
        """Start nothing any more."""
        if self.owned.is_active:
            self.owned.enter(LaneState.DRAINING)
        self._drop_unsent()

    async def hand_over(self) -> None:
        """Give the cursor up, with the requests in flight. Returns when that is stored."""
        self.begin_draining()
        await self._flush.release()

    def close(self) -> None:
        """Store nothing any more: the cursor is another worker's, or gone.

        Outcomes of requests that the cursor has passed are still reported, in their rows.
        """
        if self.is_closed:
            return
        self.owned.enter(LaneState.CLOSED)
        self._drop_unsent()
        if self.limits.inherited is not None:
            self._context.inheriting.pop(self.limits.inherited, None)
        self._context.waiting_for_lease.pop(self.limits, None)
        self._context.prober.unfollow(self)
        if self._handover is None:
            states = self.cursor.states
            detached = [each for each in self._in_flight.values() if states[each.seq] is DeliveryState.DETACHED]
            self._handover = Handover(self.record, self._context.handover_outcomes, detached)
        self._handover.on_stored()

    def hand_over_in_flight(self) -> None:
        """Give each request in flight a row, for the flush that gives the cursor up."""
        now = self._context.clock.now()
        for attempt in self._in_flight.values():
            if self.cursor.states[attempt.seq] is not DeliveryState.DETACHED:
                self.cursor.detach(attempt.seq, attempt.number, now)
        self._handover = Handover(self.record, self._context.handover_outcomes, self._in_flight.values())

    def on_flushed(self, settle: Settle) -> None:
        self.has_flushed = self.was_used = True
        if settle.new_misses is not None:
            self._context.on_missed()
        if settle.releases:
            self.close()
            return
        self.backlog.on_flushed(settle)
        self.redelivery.on_flushed(settle)
        if self._deletions is not None:
            self._deletions.on_flushed(settle.delivery_rows)
        self.pump()
        if self._replay is not None:
            self._replay.end_if_done()

    def on_ended(self) -> None:
        """Leave the worker: the lane belonged to a replay that is done."""
        self._owner.drop(self)

    def on_lost(self) -> None:
        """Leave the worker, and read the cursor again: memory and store differ."""
        self._owner.lose(self)

    def _held_back(self) -> Blocked | None:
        """Return why the lane may not even look for a message; None if it may."""
        if self._replay is not None and not self._replay.may_start(can_start=self._can_start):
            return REPLAYS
        # Most calls come when an attempt has ended or was stored, and find nothing to do.
        if self.backlog.is_idle:
            return IDLE
        if not self._can_start:
            return INACTIVE
        return STORE if self._flush.state is FlushState.REPEATING else None

    def _start_some(self) -> Blocked:
        """Start what may start, read more if needed, and return why no more may start."""
        context = self._context
        session, turns = context.session, context.limiter.turns
        # The clock of the lease and of turns. In tests, messages have a clock of their own.
        began = session.clock.monotonic()
        if not session.is_held_at(began):
            return LEASE
        now = context.clock.now()
        while isinstance(found := self._eligible(now), InFlightAttempt):
            self._send(found)
            began = turns.spend_since(began)
        self._flush.request_soon()
        # Without a free slot, retries are read if memory is left: in a single slot, they take turns with new messages.
        if found is not SLOTS or context.budget.left:
            self.backlog.read_on(now, self._may_read_page)
        return found

    def _eligible(self, now: int) -> InFlightAttempt | Blocked:
        if not (self.backlog.new or self.backlog.retries):
            return IDLE
        found = self.limits.blocked(now) or self._selector.next(now)
        if found is IDLE and self._selector.is_transform_broken:
            self._disable(self.owned.endpoint.config_version, "transform")
        return found

    def _wait(self, blocked: Blocked) -> None:
        """Have the lane called again. `states.py` lists what calls it for each reason."""
        if blocked.until:
            self.wake_at(blocked.until)
        elif blocked is LEASE:
            self._context.waiting_for_lease[self.limits] = None
        elif blocked is WORKER:
            self._context.limiter.wait(self.limits)
        elif blocked is FILTERS:
            self._context.filter_turns.wait(self.limits)
        elif blocked is SHARE and self.limits.fair_share is not None:
            self.limits.fair_share.wait(self.limits)

    @property
    def _can_start(self) -> bool:
        return self.owned.state is LaneState.RUNNING and self.limits.may_send

    def _may_store_later(self) -> bool:
        """Whether nothing waits for a flush: neither messages, nor slots, nor other lanes of the listener."""
        limits = self.limits
        return (
            self.backlog.is_caught_up
            and self.cursor.unflushed * _SLOTS_PER_UNSTORED < limits.adaptive.allowed
            and limits.breaker.is_closed
            and limits.fair_share is None
            and self.owned.is_active
        )

    def _may_read_page(self, now: int) -> bool:
        if now < self.limits.throttle.until:
            self._wait(Blocked("throttle", self.limits.throttle.until))
            return False
        if not self.limits.has_free_slot:
            return False
        window = self.cursor.window
        if self.backlog.read_through >= window.position + SPAN and self._selector.make_room(now):
            self._flush.request()
        # With a full span a page would bring nothing, and the lane would read it again at once.
        return self.backlog.read_through < window.position + SPAN

    def _send(self, attempt: InFlightAttempt) -> None:
        self._in_flight[attempt.seq] = attempt
        self.cursor.enter(attempt.seq, DeliveryState.IN_FLIGHT_AGAIN if attempt.is_retry else DeliveryState.IN_FLIGHT)
        if self.cursor.ordering is not None and not attempt.is_retry:
            # A retry either holds its key already, or was redelivered and must not take it from a later message.
            self.cursor.ordering.begin(attempt.entry)
        request = attempt.request(self.record, self._context.clock, self._context.trace_ids)
        self._context.send_request(request, partial(self._on_outcome, attempt))

    def _on_outcome(self, attempt: InFlightAttempt, outcome: Outcome) -> None:
        context = self._context
        # Nothing starts between this and `_record`, after which the attempt counts as not flushed.
        self.limits.release(attempt, outcome)
        del self._in_flight[attempt.seq]
        if attempt.hand_over_outcome is not None:
            attempt.hand_over_outcome(attempt, outcome)
        elif self.owned.state is not LaneState.CLOSED:
            self._record(attempt, outcome)
        # Logs also outcomes that nothing stores: if the lane was lost, its next owner sends the message again.
        context.log_attempt(self.record, attempt, outcome)
        # Others first: a lane that takes back the slot that it has just freed would never let them have it.
        context.limiter.pump_waiting()
        if self.limits.fair_share is not None:
            self.pump()
        elif not self.backlog.is_idle:
            # In the next turn, once for all outcomes of this one.
            context.limiter.turns.call(self.limits)
        self._flush.request_soon()

    def _record(self, attempt: InFlightAttempt, outcome: Outcome) -> None:
        context, cursor = self._context, self.cursor
        now = context.clock.now()
        if outcome.error == "egress_proxy":
            self._postpone(attempt)
            return
        if attempt.number == 1:
            started_at = now - outcome.duration_ms
            self._delivery_lag.observe(max(0, started_at - attempt.entry.stored_at) / 1_000)
        record = attempt_record(self.record, context.row_ids.next(), attempt.seq, attempt.number, outcome=outcome)
        next_attempt_at = 0
        if outcome.error == "":
            self.limits.throttle.end()
            breaker = self.limits.breaker
            before = breaker.liveness
            if breaker.on_success(attempt.seq, now):
                context.prober.health.note(self)
            if breaker.liveness is not before:
                context.prober.health.on_change(self, before, breaker.liveness)
            cursor.acknowledge(attempt.seq, now)
        else:
            next_attempt_at = self._record_failure(attempt, outcome, now)
        if attempt.trace is not None:
            state: SettledAs = "acknowledged" if outcome.acknowledged else "retry" if next_attempt_at else "missed"
            self._flush.trace(attempt, state)
        organization = self.record.organization
        detail = b""
        if outcome.trace is not None:
            detail = context.details.encode(organization, attempt.number, outcome, next_attempt_at)
        cursor.add_attempt(record, detail)
        if outcome.error:
            # The retry is read from its row.
            self._flush.request()

    def _postpone(self, attempt: InFlightAttempt) -> None:
        """Postpone a delivery whose request the egress proxy failed to pass on, without counting an attempt."""
        store = self._context.store
        store.measures.proxy_failures += 1
        store.proxy_faults.note(self.record.organization)
        paused_until = self.limits.lead.pause()
        self.limits.breaker.on_postponed(attempt.seq)
        self.cursor.schedule_retry(attempt.seq, attempt.number - 1, paused_until, "egress_proxy")
        self.backlog.unread()
        self._flush.request()

    def _record_failure(self, attempt: InFlightAttempt, outcome: Outcome, now: int) -> int:
        """Return when the next attempt may start, in milliseconds since the epoch; 0 if there is none."""
        context, limits = self._context, self.limits
        limits.throttle.on_failure()
        health_changed = limits.breaker.on_failure(attempt.seq, now)
        settlement = settle(attempt.number, outcome, attempt.policy, now, random=context.random())
        self.cursor.fail(attempt.seq, attempt.number, settlement, now, outcome=outcome)
        if limits.breaker.is_open:
            self.backlog.unread()
        elif limits.throttle.only_fails:
            self.backlog.end_sweep()
        context.prober.on_failure(self, health_changed=health_changed)
        if settlement.disable_listener:
            self._disable(attempt.endpoint.config_version, "gone")
        # Failures of old messages, which a replay sends, say little about the listener.
        elif self.record.replay is None and should_disable(limits.breaker.failing, now, context.disable_after_seconds):
            self._disable(attempt.endpoint.config_version, "failing")
        return settlement.due_at

    def _drop_unsent(self) -> None:
        self.backlog.drop()
        if self._replay is not None:
            self._replay.leave()

    def _disable(self, config_version: int, reason: DisableReason) -> None:
        # A configuration that came after the request is not judged by it.
        if self.owned.endpoint.enabled and self.owned.endpoint.config_version == config_version:
            self.owned.endpoint = msgspec.structs.replace(self.owned.endpoint, enabled=False)
            self.backlog.unread()
            self._context.disable(self.record, config_version, reason)

    def _checks(self) -> list[StoreCheck]:
        parts = (self._keys, self.limits.inherited, self._deletions, self.redelivery)
        return [part for part in parts if part is not None]
