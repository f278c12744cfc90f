"""Limits of lanes: slots for requests in flight, rates, and the fair share of a listener's replays."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Final

from discue.dispatch.lane.breaker import CircuitBreaker, Throttle
from discue.dispatch.lane.endpoint import Endpoint, InFlightAttempt
from discue.dispatch.lane.handover import InheritedRequests
from discue.dispatch.lane.owned_cursor import OwnedCursor
from discue.dispatch.lane.states import SHARE, SLOTS, WORKER, Blocked, BreakerState
from discue.domain.attempts import Outcome
from discue.domain.clock import Clock
from discue.domain.concurrency import AdaptiveLimit, Claim, may_send, may_take_slot
from discue.domain.listener_health import NO_FAILURES, with_jitter
from discue.domain.rate import RateLimit, TokenBucket
from discue.store.engine import CursorKey
from discue.store.listeners import ListenerHealth
from discue.store.time_slice import TimeSlice

# Several, because one free slot raises the thresholds of all lanes; few, so that an outcome costs little while many
# lanes are queued.
_TRIED_PER_RELEASE: Final = 4

LANES_PER_TURN: Final = 64
"""How many lanes are pumped in a turn of the event loop. One without a request to start costs little, but there can be
thousands of them."""

_UNBOUNDED: Final = 1 << 62

_FIRST_PAUSE_MS: Final = 1_000
_LONGEST_PAUSE_MS: Final = 30_000


class Slots:
    """The slots of one lane, or of one probed URL, for requests in flight."""

    __slots__ = ("adaptive", "in_flight", "is_queued", "organization", "pump")

    def __init__(self, organization: int, adaptive: AdaptiveLimit, pump: Callable[[], None]) -> None:
        self.organization = organization
        self.adaptive = adaptive
        self.pump = pump
        """Called when a slot of the worker may be free, after `ConcurrencyLimiter.wait`."""
        self.in_flight = 0
        self.is_queued = False
        """Whether it waits for a slot of the worker."""


class _Waiting:
    """Slots that wait, in an order that is fair: the organizations in turn, and the slots of each in turn."""

    def __init__(self) -> None:
        self._by_organization: dict[int, deque[Slots]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_organization)

    def add(self, slots: Slots) -> None:
        slots.is_queued = True
        self._by_organization.setdefault(slots.organization, deque()).append(slots)

    def take(self) -> Slots:
        organization = next(iter(self._by_organization))
        queued = self._by_organization.pop(organization)
        slots = queued.popleft()
        if queued:
            self._by_organization[organization] = queued
        slots.is_queued = False
        return slots


class Turns:
    """Limits the work of lanes in one turn of the event loop to a number of steps, and to 5 ms.

    After a turn, other work runs: after a turn of more than 5 ms, for as long as the turn took. Lanes with more work
    wait for the next turn, in which organizations alternate. The time of each step is measured, because the data
    affects it in too many ways to predict it.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        most: int = _UNBOUNDED,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """`call_soon` calls a function in the next turn of the event loop. The tests have their own."""
        self._most = most
        self.monotonic = monotonic
        self._call_soon = call_soon
        self.left = most
        """How many steps are left in this turn. 0 if its time is over."""
        self.is_on = False
        """Whether the next turn is scheduled, as after the first step of a turn."""
        self._time_slice = TimeSlice(monotonic)
        self._waiting = _Waiting()

    @property
    def has_waiting(self) -> bool:
        """Whether a lane waits for the next turn, which calls it."""
        return bool(self._waiting)

    def wait(self, slots: Slots) -> None:
        """Call `pump` of slots in a later turn."""
        if not slots.is_queued:
            self._waiting.add(slots)

    def call(self, slots: Slots) -> None:
        """Call `pump` of slots in the next turn."""
        self.wait(slots)
        if not self.is_on:
            self.enter()

    def enter(self) -> None:
        """Schedule the next turn."""
        self.is_on = True
        if self._call_soon is None:
            # Asking for the running loop costs a system call on Python 3.11, and a worker uses one loop only.
            self._call_soon = asyncio.get_running_loop().call_soon
        self._call_soon(self._begin)

    def spend_since(self, began: float) -> float:
        """Note that a step, which began at `began`, has ended. Returns the current time, for the next step."""
        now = self.monotonic()
        self._time_slice.spent += now - began
        if not self.is_on:
            self.enter()
        if self._time_slice.is_over:
            self.left = 0
        return now

    def _begin(self) -> None:
        if self._time_slice.is_over:
            self._time_slice.call_after_rest(self._begin)
            self._time_slice.begin()
            return
        self._time_slice.begin()
        self.left = self._most
        self.is_on = False
        tried = 0
        while self._waiting and self.left and tried < LANES_PER_TURN:
            self._waiting.take().pump()
            tried += 1
        if self._waiting and not self.is_on:
            # No lane took a step, which would have scheduled the next turn.
            self.enter()


class ConcurrencyLimiter:
    """A worker's cap on requests in flight, shared fairly between organizations and their listeners.

    It also limits how many requests start in a turn. A request that fails at once spends most of its time on the event
    loop, so hundreds of listeners that refuse connections would leave no time for publishers. Most requests take a
    tenth of a millisecond to start; signing a large message with several keys takes a few milliseconds.
    """

    def __init__(self, cap: int, turns: Turns) -> None:
        self._cap = cap
        self.turns = turns
        self.in_flight = 0
        self._by_organization: dict[int, int] = {}
        self._waiting = _Waiting()
        """Slots of lanes that found no free one."""

    def acquire(self, slots: Slots) -> bool:
        """Take a slot. False if there is none now."""
        turns = self.turns
        if not turns.left:
            return False
        organization = slots.organization
        taken = self._by_organization.get(organization, 0)
        limit = slots.adaptive.allowed
        if may_send(self._cap, self.in_flight, taken, slots.in_flight, lane_limit=limit):
            if not turns.is_on:
                turns.enter()
            turns.left -= 1
            self.in_flight += 1
            slots.in_flight += 1
            self._by_organization[organization] = taken + 1
            return True
        return False

    def wait(self, slots: Slots) -> None:
        """Call `pump` of slots that have got none when there may be one."""
        if not self.turns.left:
            self.turns.wait(slots)
        elif slots.in_flight < slots.adaptive.allowed and not slots.is_queued:
            self._waiting.add(slots)

    def release(self, slots: Slots) -> None:
        """Give a slot back. `pump_waiting` then pumps lanes that wait for one."""
        self.in_flight -= 1
        slots.in_flight -= 1
        taken = self._by_organization[slots.organization] - 1
        if taken:
            self._by_organization[slots.organization] = taken
        else:
            del self._by_organization[slots.organization]

    def pump_waiting(self) -> None:
        """Pump a few of those that wait for a slot, now or in the next turn."""
        tried = 0
        while self._waiting and tried < _TRIED_PER_RELEASE:
            slots = self._waiting.take()
            if not self.turns.left:
                self.turns.wait(slots)
                tried += 1
                continue
            before = self.in_flight
            slots.pump()
            # Slots that had nothing left to send have used no turn.
            tried += slots.is_queued or self.in_flight != before


class Limits(Slots):
    """Everything that bounds the requests of one lane: slots, rates, fair share, circuit breaker and throttle."""

    def __init__(self, owned: OwnedCursor, limiter: ConcurrencyLimiter) -> None:
        record, endpoint, worker = owned.record, owned.endpoint, owned.worker
        super().__init__(record.organization, AdaptiveLimit(endpoint.max_in_flight), owned.lane.pump)
        self.owned = owned
        self._cursor = owned.cursor
        self.limiter = limiter
        self._clock = worker.clock
        tuning, now, replay = worker.tuning, worker.clock.monotonic(), record.replay
        self._is_replay = replay is not None
        # The listener's stored health is about the live lane: the breaker of a replay stays closed.
        self.breaker = CircuitBreaker(
            record.known if replay is None else ListenerHealth(),
            tuning.most_trials,
            worker.store.measures.breaker_transitions,
            acknowledged_at=record.last_success_at,
        )
        self.throttle = Throttle(tuning.throttle_rows, tuning.throttle_failures)
        # A cursor that had no owner before was never sent to.
        is_new = record.token == 1 and record.version == 0
        self.rate = TokenBucket(endpoint.rate_limit, now, is_full=is_new)
        self._own_rate: TokenBucket | None = None
        """The rate of a replay, in addition to that of the listener."""
        if replay is not None and replay.pace is not None:
            self._own_rate = TokenBucket(RateLimit(replay.pace, 1), now, is_full=False)
        self.lead = self
        """The limits of the listener's live lane, whose rate and slots hold for its replays, too."""
        self.fair_share: FairShare | None = None
        """Shares the listener's limits with its replays, if there are any."""
        self.turn = 0
        """The place in the turns of `fair_share`: the lowest is next."""
        self.paused_until = 0
        """When the pause after a failure of the egress proxy ends, in milliseconds since the epoch; 0 without one."""
        self.pause_ms = 0
        """Length of the last pause; 0 if a request has passed the proxy since."""
        self.retries_in_flight = 0
        self.inherited: InheritedRequests | None = None
        """Until no inherited request is in flight any more."""

    @property
    def is_wide_open(self) -> bool:
        """Whether the listener gets all messages: replays may be sent to it, too."""
        return self.owned.is_active and self.owned.endpoint.enabled and self.breaker.is_closed and not self.paused_until

    @property
    def may_send(self) -> bool:
        """Whether the listener is enabled, its circuit breaker lets requests through, and the egress proxy works.

        Replays may send while the live lane is on this worker and sends without restrictions.
        """
        if self._is_replay:
            return self.fair_share is not None and self.fair_share.is_open
        is_open = self.breaker.state is BreakerState.OPEN or self.paused_until > 0
        return self.owned.endpoint.enabled and not is_open

    @property
    def are_as_new(self) -> bool:
        """Whether a new lane would have the same limits: the listener is enabled, alone, and has not failed lately."""
        breaker, is_alone = self.breaker, self.fair_share is None
        has_failed = breaker.failing is not NO_FAILURES or self.throttle.only_fails or self.adaptive.is_reduced
        return is_alone and self.owned.endpoint.enabled and breaker.is_closed and not has_failed

    @property
    def taken(self) -> int:
        """How many of the listener's slots are taken.

        An attempt keeps its slot until it is stored, so that a crash never repeats more than the limit.
        """
        inherited = self.inherited
        return self.in_flight + self._cursor.unflushed + (0 if inherited is None else inherited.slots)

    @property
    def has_free_slot(self) -> bool:
        own, inherited = self.in_flight + self._cursor.unflushed, self.inherited
        if own + (0 if inherited is None else inherited.slots) >= self.adaptive.allowed:
            return False
        # Inherited requests were sent by the previous owner, and are no trials of the circuit breaker here.
        return self.breaker.state is BreakerState.CLOSED or self.breaker.allows(own)

    @property
    def may_retry(self) -> bool:
        """Whether retries leave half of the slots to new messages."""
        return self.retries_in_flight * 2 < self.adaptive.allowed

    def blocked(self, now: int) -> Blocked | None:
        """Return why slots, rates or fair share let no request start; None if they do."""
        if not self.has_free_slot:
            return SLOTS
        if not self.limiter.turns.left:
            return WORKER
        if self._own_rate and (until := self._starts_at(self._own_rate, now)):
            return Blocked("rate", until)
        if self.fair_share is not None:
            return None if self.fair_share.may_start(self) else SHARE
        if self.rate.limit is not None and (until := self._starts_at(self.rate, now)):
            return Blocked("rate", until)
        return None

    def acquire(self, *, is_retry: bool) -> bool:
        """Take a slot of the worker, and tokens, for a request that starts. False if there is no slot."""
        # The slot comes first, because only the slot can be refused: a token taken before it would be lost.
        if not self.limiter.acquire(self):
            return False
        self.retries_in_flight += is_retry
        if self.lead.rate.limit is not None:
            self.lead.rate.take(self._clock.monotonic())
        if self._own_rate is not None:
            self._own_rate.take(self._clock.monotonic())
        if self.fair_share is not None:
            self.fair_share.on_start(self)
        return True

    def release(self, attempt: InFlightAttempt, outcome: Outcome) -> None:
        """Give back what an attempt has taken, and adapt the number of slots to its outcome."""
        self.limiter.release(self)
        self.retries_in_flight -= attempt.is_retry
        self.lead.adaptive.ended(outcome, attempt.epoch)
        if self.lead.pause_ms and outcome.error != "egress_proxy":
            self.lead.pause_ms = 0

    def pause(self) -> int:
        """Start nothing for a while, because the egress proxy failed. Returns the end of the pause.

        Each pause is twice as long as the last. Other listeners continue, because some proxies report a host that does
        not respond as a failure of their own.
        """
        if not self.paused_until:
            self.pause_ms = min(2 * self.pause_ms or _FIRST_PAUSE_MS, _LONGEST_PAUSE_MS)
            self.paused_until = self._clock.now() + with_jitter(self.pause_ms, self.owned.worker.random())
            self.owned.lane.wake_at(self.paused_until)
        return self.paused_until

    def follow(self, live: "Limits") -> None:
        """Let the slots and the rate of the live lane hold for its replay."""
        self.lead, self.adaptive = live, live.adaptive

    def configure(self, before: Endpoint, after: Endpoint) -> None:
        """Follow a change of the listener's slots, rate and target."""
        if after.destination.target != before.destination.target:
            self.throttle.end()
            self.paused_until = 0
        self.adaptive.limit_to(after.max_in_flight)
        if after.rate_limit != self.rate.limit:
            self.rate = TokenBucket(after.rate_limit, self._clock.monotonic(), is_full=False)

    def _starts_at(self, rate: TokenBucket, now: int) -> int:
        """Return when a rate lets a request start, in milliseconds since the epoch; 0 if it does so now."""
        wait_seconds = rate.wait_seconds(self._clock.monotonic())
        return now + math.ceil(wait_seconds * 1_000) if wait_seconds > 0 else 0


class FairShare:
    """Shares a listener's slots and rate between its live lane and its replays on this worker.

    A lane that gets no slot waits, and the others leave it its share and its turn. So live messages and replays do not
    delay each other. Requests of closed lanes keep their slots until they end. Lanes are identified by their limits.
    """

    def __init__(self, clock: Clock, on_over: Callable[[], object]) -> None:
        self._clock = clock
        self._on_over = on_over
        """Called when the last replay, and the last request of one, has ended."""
        self._live: Limits | None = None
        self.replays: dict[CursorKey, Limits] = {}
        self._closed: list[Limits] = []
        """Lanes that left and have requests in flight."""
        self._waiting: dict[Limits, None] = {}
        self._turn = 0
        self._was_open = False
        self._is_pumping = False
        self._is_over = False

    @property
    def is_open(self) -> bool:
        """Whether replays may send: the live lane sends, and its circuit breaker is closed."""
        return self._live is not None and self._live.is_wide_open

    def join(self, limits: Limits) -> None:
        limits.fair_share = self
        self.on_start(limits)
        if limits.owned.key[2]:
            self.replays[limits.owned.key] = limits
            if self._live is not None:
                limits.follow(self._live)
            return
        self._live = limits
        self._was_open = limits.is_wide_open
        for replay in self.replays.values():
            replay.follow(limits)
            self._waiting[replay] = None

    def leave(self, limits: Limits) -> None:
        """Remove a lane. Its requests in flight keep their slots."""
        self._waiting.pop(limits, None)
        if limits is self._live:
            self._live = None
        elif self.replays.get(limits.owned.key) is limits:
            del self.replays[limits.owned.key]
        self._closed.append(limits)
        self._pump_waiting()

    def on_start(self, limits: Limits) -> None:
        """Note that the lane starts a request, or joined: the turns of the others come first."""
        self._turn += 1
        limits.turn = self._turn

    def pump(self, limits: Limits) -> None:
        """Let the lane start what it may, then the lanes that wait."""
        self._waiting.pop(limits, None)
        if limits not in self._closed:
            limits.owned.lane.start()
        was_open, self._was_open = self._was_open, self.is_open
        if self._was_open and not was_open:
            for replay in self.replays.values():
                replay.owned.lane.reopen()
                self._waiting[replay] = None
        self._pump_waiting()

    def may_start(self, limits: Limits) -> bool:
        """Whether the lane may start a request. If so, it does not wait any more."""
        live = self._live
        if live is None or self._wait_seconds(live) > 0:
            return False
        lanes = (live, *self.replays.values())
        # Requests of a previous owner take slots of the listener, whichever of its lanes they belong to.
        if any(each.inherited is not None and not each.inherited.is_known for each in lanes):
            return False
        taken = sum(each.taken for each in lanes) + sum(each.in_flight for each in self._closed)
        waiting = [Claim(each.taken, each.turn) for each in self._waiting if each is not limits]
        if not may_take_slot(live.adaptive.allowed, taken, Claim(limits.taken, limits.turn), waiting):
            return False
        self._waiting.pop(limits, None)
        return True

    def wait(self, limits: Limits) -> None:
        """Call the lane when it may start a request."""
        self._waiting[limits] = None

    def _wait_seconds(self, live: Limits) -> float:
        """Return how long until the listener's rate allows the next request."""
        return live.rate.wait_seconds(self._clock.monotonic())

    def _pump_waiting(self) -> None:
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while (limits := next((each for each in self._waiting if self.may_start(each)), None)) is not None:
                # It starts at least one request, or does not wait any more.
                limits.owned.lane.start()
        finally:
            self._is_pumping = False
        wait_seconds = 0.0 if self._live is None else self._wait_seconds(self._live)
        if wait_seconds > 0 and self._waiting:
            next(iter(self._waiting)).owned.lane.wake_at(self._clock.now() + math.ceil(wait_seconds * 1_000))
        self._closed = [limits for limits in self._closed if limits.in_flight]
        if self.replays or self._closed or self._is_over:
            return
        self._is_over = True
        self._on_over()
        if self._live is not None:
            self._live.fair_share = None
            self._live.owned.lane.start()
