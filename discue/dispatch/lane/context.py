"""The context of a worker's lanes: store, memory, time, batch sizes, and callbacks to the dispatcher."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from discue.dispatch.lane.breaker import FAILURES_IN_A_ROW, MOST_TRIALS, RETRYING_LIMIT
from discue.dispatch.lane.detail_budget import DetailBudget
from discue.dispatch.lane.endpoint import InFlightAttempt
from discue.dispatch.lane.filter_turns import FilterTurns
from discue.dispatch.lane.flush import Spawn
from discue.dispatch.lane.handover import HandoverOutcomes
from discue.dispatch.lane.limits import STARTS_PER_TURN, ConcurrencyLimiter
from discue.dispatch.lane.probes import Prober
from discue.dispatch.lane.reads import LimitedReads
from discue.dispatch.timers import Sleeper
from discue.domain.attempts import Outcome
from discue.domain.clock import Clock
from discue.domain.ids import RowIds
from discue.domain.model import DisableReason
from discue.domain.trace_context import TraceIds
from discue.domain.window import SPAN
from discue.observability.logs import Log
from discue.observability.tracing import Tracer
from discue.sending.request import AttemptRequest
from discue.store.cursors import LaneRecord
from discue.store.store import Store

if TYPE_CHECKING:
    from discue.dispatch.lane.lane import Lane
    from discue.dispatch.lane.replay_slots import ReplaySlots
    from discue.dispatch.registry import LaneRegistry

SendAttempt = Callable[[AttemptRequest, Callable[[Outcome], None]], None]
"""Makes one attempt, and calls back with its outcome later, never at once: `Sender.send`."""


class Tuning(msgspec.Struct, frozen=True):
    """Numbers that are no settings. Tests make them tiny, so that rare paths become common."""

    page_rows: int = 128
    """Messages per read of the log."""
    due_rows: int = 32
    """Retries per read, in addition to those that are claimed."""
    notified_held: int = 256
    """Messages from notifications that a lane holds in memory."""
    waiting_held: int = 256
    """Messages of a lane that wait in memory for their keys."""
    missed_per_step: int = 500
    """Retries that the deadline job misses at once."""
    waiting_retries: int = 500
    """The next step of a redelivery waits while more deliveries with rows are not settled. So a redelivery of any size
    makes few rows at once."""
    detach_within: int = SPAN // 2
    """How far from the position requests in flight are detached when the span is full."""
    throttle_rows: int = RETRYING_LIMIT
    throttle_failures: int = FAILURES_IN_A_ROW
    most_trials: int = MOST_TRIALS
    starts_per_turn: int = STARTS_PER_TURN
    report_grace_ms: int = 60_000
    """How long after its timeout an inherited request may stay unreported before it counts as lost. A live sender needs
    this time if the store is unavailable when the request ends."""
    ends_per_write: int = 64
    """Outcomes of handed-over requests per write."""
    probes_at_once: int = 256
    health_records_per_write: int = 128
    cursors_per_release: int = 1_000
    cursors_per_claim: int = 500
    lanes_per_read: int = 500


class BodyBudget:
    """How many bytes of message bodies the lanes of a worker hold in memory. Other messages are read again later."""

    __slots__ = ("_limit", "held")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    @property
    def left(self) -> int:
        return max(0, self._limit - self.held)

    def take(self, size: int) -> bool:
        """Take `size` bytes if they are left."""
        if self.held + size > self._limit:
            return False
        self.held += size
        return True

    def force(self, size: int) -> None:
        """Take `size` bytes beyond the limit, for the page that a lane needs to go on. Pages are bounded themselves."""
        self.held += size

    def give_back(self, size: int) -> None:
        self.held -= size


class WorkerContext(msgspec.Struct, frozen=True):
    """Everything that the parts of a dispatcher share."""

    store: Store
    log: Log
    clock: Clock
    row_ids: RowIds
    random: Callable[[], float]
    """Returns a random number from [0, 1)."""
    has_lease: Callable[[], bool]
    """Whether attempts may start: no other worker can have taken the cursors over yet."""
    tuning: Tuning
    spawn: Spawn
    wake_at: Callable[[Sleeper, int], None]
    """Wakes a sleeper at a time in milliseconds since the epoch."""


class LaneContext(WorkerContext, frozen=True):
    """Everything that the lanes of a worker share."""

    reads: LimitedReads
    send_request: SendAttempt
    limiter: ConcurrencyLimiter
    budget: BodyBudget
    filter_turns: FilterTurns
    replay_slots: "ReplaySlots"
    deadline_ms: int
    """How long a message may wait until it is missed."""
    disable_after_seconds: int
    """How long a listener may only fail until it is disabled; 0 for ever."""
    details: DetailBudget
    handover_outcomes: HandoverOutcomes
    prober: Prober
    log_attempt: Callable[[LaneRecord, InFlightAttempt, Outcome], None]
    disable: Callable[[LaneRecord, int, DisableReason], None]
    """Disables a listener, if its configuration still has this version, for a reason."""
    on_missed: Callable[[], None]
    """Called when missed deliveries were stored."""
    registry: "LaneRegistry"
    waiting_for_lease: dict["Lane", None]
    """Lanes that found the worker's lease lapsed, in that order. They are pumped when it is renewed."""
    inheriting: dict["Lane", None]
    """Lanes with inherited requests in flight, in the order in which they began."""
    trace_ids: TraceIds
    tracer: Tracer | None = None
    """None unless spans are exported."""

    def time_to_start(self, lane: "Lane") -> int | None:
        """Return the time, in milliseconds since the epoch; None without the lease: then the lane is pumped with it."""
        if self.has_lease():
            return self.clock.now()
        self.waiting_for_lease[lane] = None
        return None
