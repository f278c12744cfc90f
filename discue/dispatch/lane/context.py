"""What all lanes of a worker share."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from discue.dispatch.lane.budget import BodyBudget
from discue.dispatch.lane.flush import Spawn
from discue.dispatch.lane.gate import ConcurrencyLimiter
from discue.dispatch.lane.handover_outcomes import HandoverOutcomes
from discue.dispatch.lane.in_flight_attempt import InFlightAttempt
from discue.dispatch.lane.probe import Probe
from discue.dispatch.lane.probes import Prober
from discue.dispatch.lane.reads import LimitedReads
from discue.dispatch.lane.tenure import WorkerLease
from discue.domain.attempts import Outcome
from discue.domain.clock import Clock
from discue.domain.ids import RowIds
from discue.sending.request import AttemptRequest
from discue.store.cursors import LaneRecord
from discue.store.store import Store


class Deliver(Protocol):
    """Makes one attempt: `sender.Sender.send`."""

    def __call__(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None: ...


class Reach(NamedTuple):
    """How listeners are reached: with messages, and with probes."""

    deliver: Deliver
    probe: Probe


class Surroundings(msgspec.Struct, frozen=True):
    """What a lane and its parts work with."""

    store: Store
    reads: LimitedReads
    deliver: Deliver
    gate: ConcurrencyLimiter
    budget: BodyBudget
    clock: Clock
    row_ids: RowIds
    random: Callable[[], float]
    lease: WorkerLease
    deadline_ms: int
    disable_after_seconds: int
    attempted: Callable[[LaneRecord, InFlightAttempt, Outcome], None]
    disable: Callable[[LaneRecord, int, str], None]
    spawn: Spawn
    handover_outcomes: HandoverOutcomes
    prober: Prober
