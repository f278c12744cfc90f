"""Everything that the lanes of a worker share."""

from collections.abc import Callable

from discue.dispatch.lane.detail_budget import DetailBudget
from discue.dispatch.lane.endpoint import InFlightAttempt
from discue.dispatch.lane.filter_turns import FilterTurns
from discue.dispatch.lane.handover import Disable, HandoverOutcomes, InheritedRequests
from discue.dispatch.lane.limits import ConcurrencyLimiter, Slots
from discue.dispatch.lane.probes import Prober
from discue.dispatch.lane.reads import LimitedReads
from discue.dispatch.lane.replay_slots import ReplaySlots
from discue.dispatch.lane.worker import BodyBudget, WorkerContext
from discue.domain.attempts import Outcome
from discue.domain.trace_context import TraceIds
from discue.observability.tracing import Tracer
from discue.sending.request import AttemptRequest
from discue.store.cursors import LaneRecord

SendAttempt = Callable[[AttemptRequest, Callable[[Outcome], None]], None]
"""Makes one attempt, and calls back with its outcome later, never at once: `Sender.send`."""


class LaneContext(WorkerContext, frozen=True):
    """Everything that the lanes of a worker share."""

    reads: LimitedReads
    send_request: SendAttempt
    limiter: ConcurrencyLimiter
    budget: BodyBudget
    filter_turns: FilterTurns
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
    waiting_for_lease: dict[Slots, None]
    """Slots of lanes that found the worker's lease lapsed, in that order. They are pumped when it is renewed."""
    inheriting: dict[InheritedRequests, None]
    """Inherited requests that are in flight, in the order in which their lanes began."""
    trace_ids: TraceIds
    tracer: Tracer | None = None
    """None unless spans are exported."""
