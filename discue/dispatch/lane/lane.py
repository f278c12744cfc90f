"""What delivers one cursor's messages: in their order, a bounded number at once, until each is settled."""

import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec

from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.breaker import ALL, CircuitBreaker
from discue.dispatch.lane.context import Surroundings
from discue.dispatch.lane.cursor_state import CursorState, attempt_record
from discue.dispatch.lane.endpoint import Endpoint
from discue.dispatch.lane.expiry import Expiry
from discue.dispatch.lane.fair_share import FairShare, Sharer
from discue.dispatch.lane.flush import Flush
from discue.dispatch.lane.handover import Handover
from discue.dispatch.lane.in_flight_attempt import InFlightAttempt
from discue.dispatch.lane.inherited_requests import InheritedRequests
from discue.dispatch.lane.ordering import Ordering
from discue.dispatch.lane.redelivery import RedeliveryRunner
from discue.dispatch.lane.request import request_of
from discue.dispatch.lane.selector import Selector
from discue.dispatch.lane.unblocking import DeletionWatch
from discue.domain.attempts import Outcome
from discue.domain.concurrency import AdaptiveLimit
from discue.domain.errors import Unavailable
from discue.domain.listener_health import Liveness
from discue.domain.messages import Entry
from discue.domain.rate import TokenBucket
from discue.domain.retry import settle
from discue.domain.window import SPAN
from discue.store import delivery_rows
from discue.store.cursors import LaneRecord
from discue.store.delivery_rows import read_open_keys
from discue.store.engine import CursorKey, Settle
from discue.store.listener_health import HealthRecord, ListenerHealth

_READ_RETRY_MS = 250
_OWN_STATES = frozenset({"missed", "retry"})


class LaneContext(Surroundings, frozen=True):
    """And how a lane is known to those that look after all of them.

    `lapsed` are lanes that found the lease lapsed, `hosts` those that have guests.
    """

    wake_at: Callable[["Lane", int], None]
    lost: Callable[["Lane"], None]
    ended: Callable[["Lane"], None]
    lapsed: set["Lane"]
    hosts: set["Lane"]


class Lane:
    """One cursor at work. An idle one has no task and no timer: messages, completions and due times call `pump`."""

    def __init__(self, record: LaneRecord, endpoint: Endpoint, context: LaneContext) -> None:
        self.record = record
        self.endpoint = endpoint
        self.organization = record.organization
        self.max_in_flight = endpoint.max_in_flight
        self.congestion = AdaptiveLimit(endpoint.max_in_flight)
        # A cursor that nobody had before was sent nothing.
        is_new = record.token == 1 and record.version == 0
        self.pace = TokenBucket(endpoint.rate_limit, context.clock.monotonic(), is_full=is_new)
        self.lead: Lane = self
        """Whose limits hold: the listener's live lane."""
        self.fair_share: FairShare | None = None
        """With the listener's replays, if there are any."""
        self.is_queued = False
        self.in_flight_count = 0
        self.closed = False
        self.draining = False
        self.wakes_at = 0
        self.has_stored = False
        self._is_reading_keys = False
        self._context = context
        self._progress = self._new_progress()
        self._in_flight: dict[int, InFlightAttempt] = {}
        self._backlog = Backlog(record, self._progress, (context.reads, context.budget), self.wake_at, self._in_flight)
        if record.ordered:
            is_known = not record.retrying and not (record.blocks and record.missed)
            self._progress.ordering = Ordering(
                self._progress.window, self._backlog.waiting, is_known=is_known, blocks=record.blocks
            )
        self._flush = Flush(self._progress, context.store, context.spawn, self)
        self._inherited = (
            InheritedRequests(record, self._progress, self._backlog, context, self)
            if record.has_inherited_requests
            else None
        )
        self._deletions = DeletionWatch(record, self._progress, context, self) if record.blocks else None
        self._redelivery: RedeliveryRunner | None = None
        self._handover: Handover | None = None
        self._selector = Selector(self, self._progress, self._backlog, self._in_flight, context.gate)
        self.breaker = CircuitBreaker(record.known)

    @property
    def key(self) -> CursorKey:
        return self.record.key

    @property
    def has_waiting(self) -> bool:
        """Whether anything is to be sent."""
        return self._backlog.head > self._progress.window.position or self._progress.retrying > 0

    @property
    def last_failure_at(self) -> int:
        """When an attempt last failed."""
        return self._progress.last_failure_at

    @property
    def is_idle(self) -> bool:
        """Nothing under way and nothing left to store: giving the cursor up is all that leaving it takes."""
        return not self._in_flight and not self._flush.is_running and not self._progress.dirty

    @property
    def is_settled(self) -> bool:
        """The same, and nothing under way with others."""
        return self.is_idle and self._inherited is None

    def begin(self, head: int) -> None:
        """Look for guests, and start whatever may start. The log goes to `head`, if not further."""
        self._backlog.heard(head)
        if self._inherited is not None:
            self._context.hosts.add(self)
        self.look_for_keys()
        self.look_for_guests()
        if self.record.has_redeliveries:
            self.redeliver()
        self._context.prober.follow(self)
        self.pump()

    def look_for_keys(self) -> None:
        """Find out which keys the store shows as taken, where that is not known."""
        # One read at a time: the answer of an older one would bring back keys that were given up since.
        if not self._progress.knows_keys and not self._is_reading_keys:
            self._is_reading_keys = True
            self._context.spawn(self._fetch(self._read_keys))

    def published(self, entries: tuple[Entry, ...]) -> None:
        """Messages were appended to the log."""
        self._backlog.published(entries, wanted=self._is_on)
        self.pump()

    def heard(self, head: int) -> None:
        """The log goes that far: others append, too."""
        if self._backlog.heard(head):
            self.pump()

    def pump(self) -> None:
        """Start whatever may start now."""
        if self.fair_share is None:
            self.start()
        else:
            self.fair_share.pump(self)

    def start(self) -> None:
        """The same, for whom sharing has called."""
        # Most calls come when an attempt has ended or was stored, and find nothing to do.
        if self._backlog.is_idle or not self._is_on or self._flush.is_stalled:
            return
        if not self._context.lease.is_held():
            self._context.lapsed.add(self)
            return
        while self._has_place and self._has_turn and self._selector.next(self._context.clock.now()):
            pass
        self._fetch_if_needed()

    def wake(self) -> None:
        """A time has come that `wake_at` was asked for. That keeps one time only: later ones are asked for again."""
        now = self._context.clock.now()
        look_at = 0 if self._inherited is None else self._inherited.look_at
        if 0 < look_at <= now:
            self.look_for_guests()
        self.look_for_keys()
        redelivers_at = 0 if self._redelivery is None else self._redelivery.due_at
        if 0 < redelivers_at <= now:
            self.redeliver()
        if self._deletions is not None:
            self._deletions.go_on()
        self.pump()
        releases_at = 0 if self._deletions is None else self._deletions.due_at
        for later in (self._backlog.due_at, self._selector.throttle.until, look_at, redelivers_at, releases_at):
            if later > now:
                self.wake_at(later)

    def wake_at(self, due_at: int) -> None:
        if not self.closed:
            self._context.wake_at(self, due_at)

    def look_for_guests(self) -> None:
        """Something may have become of requests that others have under way."""
        # Keys come first: a guest's that was counted before would be seen as taken for ever.
        ordering = self._progress.ordering
        if self._inherited is not None and (ordering is None or ordering.is_known):
            self._inherited.look()

    def redeliver(self) -> None:
        """Missed deliveries may be to be made due again."""
        if self._redelivery is None:
            self._redelivery = RedeliveryRunner(self.record, self._progress, self._context, self)
        self._redelivery.look()

    def configure(self, endpoint: Endpoint) -> None:
        """Attempts from now on are made by this configuration."""
        before, self.endpoint = self.endpoint, endpoint
        if endpoint.target != before.target:
            self._selector.throttle.end()
        self.congestion.limit_to(endpoint.max_in_flight)
        self.max_in_flight = self.congestion.allowed
        if endpoint.rate_limit != self.pace.limit:
            self.pace = TokenBucket(endpoint.rate_limit, self._context.clock.monotonic(), is_full=False)
        if not endpoint.enabled:
            self._backlog.unread()
        if self.breaker.configured(before, endpoint, self._in_flight):
            self._open()
        self._context.prober.configured(self)
        self.pump()

    def probed(self, liveness: Liveness) -> None:
        """How the listener is by the latest probe."""
        opens = self.breaker.probed(liveness, self._in_flight)
        if opens:
            self._open()
        elif self.breaker.is_closed:
            self._backlog.unread()
        self.pump()

    def standing(self) -> HealthRecord:
        """What is known of the listener, to be stored."""
        record, endpoint, breaker = self.record, self.endpoint, self.breaker
        known = ListenerHealth(breaker.liveness, breaker.failing, self._backlog.swept())
        return HealthRecord(
            record.organization, record.listener, record.token, endpoint.liveness_url, endpoint.config_version, known
        )

    def reread(self) -> None:
        """Messages were deleted: what was read and is not under way is read again, so that none of them goes out."""
        self._backlog.unread()
        if self._deletions is not None:
            self._deletions.look()
        self.pump()

    def close(self) -> None:
        """The cursor is somebody else's, or gone: what is still under way is not recorded here.

        What stands apart from the cursor has its row: there it is.
        """
        self.closed = True
        self._flush.close()
        self._backlog.drop()
        self._context.hosts.discard(self)
        self._context.lapsed.discard(self)
        self._context.prober.forget(self)
        if self._handover is None:
            apart = [attempt for attempt in self._in_flight.values() if attempt.excepted and not attempt.is_retry]
            self._handover = Handover(self.record, self._context, apart)
        self._handover.stored()

    def begin_leaving(self) -> None:
        """Start nothing more."""
        self.draining = True
        self._backlog.drop()

    async def hand_over(self) -> None:
        """Give the cursor up. What is under way then is for the next owner to count. Returns when that is stored."""
        self.begin_leaving()
        await self._flush.release()

    async def miss_older_than(self, before: int) -> None:
        """What waits and was stored before a time is missed. A busy lane finds that out when its turn comes."""
        if self._is_quiet():
            sources = (self._context.reads, self._context.clock)
            expiry = Expiry(self.record, self._progress, self._backlog, sources, self._is_quiet, self._is_open)
            await expiry.miss_older_than(before)
            self.settle()

    def part(self) -> None:
        now = self._context.clock.now()
        for attempt in self._in_flight.values():
            if attempt.excepted:
                self._progress.hand_over(attempt.seq, attempt.number, now)
            else:
                self._progress.depart(attempt.seq, attempt.number, now)
        self._handover = Handover(self.record, self._context, self._in_flight.values())

    def stored(self, settle: Settle) -> None:
        self.has_stored = True
        if settle.releases:
            self.close()
            return
        self._backlog.stored(settle, [attempt.seq for attempt in self._in_flight.values() if attempt.excepted])
        if self._redelivery is not None:
            self._redelivery.stored(settle)
        if self._deletions is not None:
            self._deletions.stored(settle)
        self.pump()

    def lose(self) -> None:
        self._context.lost(self)

    def is_kept(self) -> bool:
        return not self.closed and not self.draining

    def looked(self) -> None:
        if self._inherited is not None and self._inherited.are_gone:
            self._inherited = None
            self._context.hosts.discard(self)
        if self.is_kept():
            self.settle()
            self.pump()

    @property
    def places_taken(self) -> int:
        """An attempt keeps its place until it is stored: what a crash can repeat is never more than the limit."""
        guests = 0 if self._inherited is None else self._inherited.places
        return self.in_flight_count + self._progress.unstored + guests

    @property
    def knows_places(self) -> bool:
        """Whether it is known what others have under way."""
        return self._inherited is None or self._inherited.are_known

    @property
    def is_wide_open(self) -> bool:
        """Whether the listener may get all that there is for it."""
        return self.is_kept() and self.endpoint.enabled and self.breaker.places == ALL

    @property
    def pace_wait_seconds(self) -> float:
        """How long until the listener's rate lets a request begin."""
        return 0.0 if self.pace.limit is None else self.pace.wait_seconds(self._context.clock.monotonic())

    def follow(self, live: Sharer | None) -> None:
        """Its own limits hold for a live lane."""

    def reopen(self) -> None:
        """The listener is well again: whatever waits may go out."""
        self._open()

    def wait_for_pace(self, seconds: float) -> None:
        self.wake_at(self._context.clock.now() + math.ceil(seconds * 1_000))

    def _new_progress(self) -> CursorState:
        return CursorState(self.record)

    def wants(self, entry: Entry) -> bool:
        """Whether a message is for the listener."""
        return self.endpoint.wants(entry)

    def settle(self) -> None:
        self._flush.start()

    def _is_quiet(self) -> bool:
        return not self._in_flight and not self._backlog.waiting.count and self.is_kept()

    def _is_open(self) -> bool:
        return self.endpoint.enabled and not self.breaker.is_closed

    @property
    def _is_on(self) -> bool:
        if not self._is_open() or not self.is_kept():
            return False
        ordering = self._progress.ordering
        return (self._inherited is None or self._inherited.are_known) and (ordering is None or ordering.is_known)

    @property
    def _has_place(self) -> bool:
        guests = 0 if self._inherited is None else self._inherited.places
        under_way = self.in_flight_count + self._progress.unstored
        return under_way + guests < self.max_in_flight and self.breaker.has_place(under_way)

    @property
    def _has_turn(self) -> bool:
        """Whether the listener's pace, and its replays, let a request begin now; if not, the lane is called again."""
        if self.fair_share is None:
            if self.pace.limit is None:
                return True
        elif not self._backlog.is_empty:
            return self.fair_share.may_begin(self)
        wait_seconds = self.pace_wait_seconds
        if wait_seconds > 0 and not self._backlog.is_empty:
            self.wait_for_pace(wait_seconds)
        return wait_seconds == 0

    def given_up(self, entry: Entry, waits_since: int, now: int) -> str:
        """Why a message is not sent any more; empty for one that is."""
        if 0 < entry.expires_at <= now:
            return "expired"
        return "too_old" if waits_since < now - self._context.deadline_ms else ""

    def send(self, entry: Entry, number: int, *, is_retry: bool) -> None:
        record, endpoint = self.record, self.endpoint
        attempt = InFlightAttempt(entry, number, endpoint, self.lead.congestion.epoch, is_retry=is_retry)
        self.lead.pace.take(self._context.clock.monotonic())
        if self.fair_share is not None:
            self.fair_share.begun(self)
        self.in_flight_count += 1
        self._in_flight[attempt.seq] = attempt
        if self._progress.ordering is not None and not is_retry:
            # A retry either holds its key already, or was redelivered and must not take it from a later message.
            self._progress.ordering.begins(entry)
        request = request_of(record, endpoint, entry, number, self._context.clock)
        self._context.deliver(request, partial(self._ended, attempt))

    def _ended(self, attempt: InFlightAttempt, outcome: Outcome) -> None:
        context = self._context
        context.gate.leave(self.organization)
        self.in_flight_count -= 1
        del self._in_flight[attempt.seq]
        self._selector.retries_in_flight -= attempt.is_retry
        congestion = self.lead.congestion
        congestion.ended(outcome, attempt.epoch)
        self.max_in_flight = self.lead.max_in_flight = congestion.allowed
        if attempt.handover is not None:
            attempt.handover.ended(attempt, outcome)
            context.attempted(self.record, attempt, outcome)
        elif not self.closed:
            self._record(attempt, outcome)
            context.attempted(self.record, attempt, outcome)
        context.gate.call_waiting()
        self.pump()

    def _record(self, attempt: InFlightAttempt, outcome: Outcome) -> None:
        context, progress = self._context, self._progress
        now = context.clock.now()
        row_id, next_attempt_at = context.row_ids.next(), 0
        progress.attempted(attempt_record(self.record, row_id, attempt.seq, attempt.number, outcome))
        if outcome.error == "":
            self._selector.throttle.end()
            if self.breaker.succeeded(attempt.seq):
                context.prober.note(self)
            progress.succeed(attempt.seq, now, excepted=attempt.excepted)
        else:
            next_attempt_at = self._failed(attempt, outcome, now)
        if outcome.trace is not None:
            progress.describe(row_id, outcome.trace, next_attempt_at)
        self.settle()

    def _failed(self, attempt: InFlightAttempt, outcome: Outcome, now: int) -> int:
        """When the next attempt may start; 0 if there is none."""
        self._selector.throttle.failed()
        needs_notification = self.breaker.failed(attempt.seq, now)
        settlement = settle(attempt.number, outcome, attempt.policy, now, self._context.random())
        self._progress.fail(attempt.seq, attempt.number, settlement, now, excepted=attempt.excepted)
        self._backlog.claimed.add(attempt.seq)
        if self.breaker.is_closed:
            self._backlog.unread()
        elif self._selector.throttle.only_fails:
            self._backlog.end_sweep()
        self._context.prober.failed(self, needs_notification=needs_notification)
        gives_up = self._gives_up(now)
        if settlement.disable_listener or gives_up:
            self._disable(attempt.endpoint.config_version, "gone" if settlement.disable_listener else "failing")
        return settlement.due_at

    def _gives_up(self, now: int) -> bool:
        """Whether the listener has only failed for so long that it is disabled."""
        return self.breaker.is_given_up(now, self._context.disable_after_seconds)

    def _disable(self, config_version: int, reason: str) -> None:
        if self.endpoint.enabled and self.endpoint.config_version == config_version:
            self.endpoint = msgspec.structs.replace(self.endpoint, enabled=False)
            self._backlog.unread()
            self._context.disable(self.record, config_version, reason)

    def _open(self) -> None:
        """Whatever waits may go out, also what waits for another attempt at a later time."""
        self._selector.throttle.end()
        self._backlog.begin_sweep()

    def _fetch_if_needed(self) -> None:
        backlog = self._backlog
        if not backlog.may_fetch:
            return
        now = self._context.clock.now()
        retries, behind = backlog.has_due(now), backlog.is_behind and self._may_read(now)
        if retries or behind:
            self._context.spawn(self._fetch(backlog.fetch(now, retries=retries, behind=behind)))

    def _may_read(self, now: int) -> bool:
        if now < self._selector.throttle.until or not self._has_place:
            return False
        if self._backlog.read_through >= self._progress.window.position + SPAN:
            self._selector.make_span(now)
        # With a full span a page would bring nothing, and the lane would read it again at once.
        return self._backlog.read_through < self._progress.window.position + SPAN

    async def _read_keys(self) -> None:
        ordering = self._progress.ordering
        try:
            rows = await self._context.reads.read(partial(read_open_keys, key=self.key))
            if self._deletions is not None:
                rows += await self._context.reads.read(partial(delivery_rows.blocking_rows, key=self.key))
        finally:
            self._is_reading_keys = False
        if ordering is not None and self.is_kept():
            ordering.show(rows, _OWN_STATES, complete=True)
            if self._deletions is not None:
                self._deletions.look()
            if self._redelivery is not None:
                self._redelivery.go_on()
            self.look_for_guests()

    async def _fetch(self, read: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await read()
        except Unavailable:
            # Whatever broke is known to the store, which has said so; the lane only asks again.
            self.wake_at(self._context.clock.now() + _READ_RETRY_MS)
            return
        self.settle()
        self.pump()
