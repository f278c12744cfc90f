"""What all lanes of a worker share."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from discue.dispatch.lane.budget import Budget
from discue.dispatch.lane.flush import Spawn
from discue.dispatch.lane.gate import Gate
from discue.dispatch.lane.handover_outcomes import HandedOver
from discue.dispatch.lane.in_flight_attempt import Flight
from discue.dispatch.lane.probe import Probe
from discue.dispatch.lane.probes import Prober
from discue.dispatch.lane.reads import Reads
from discue.dispatch.lane.tenure import Tenure
from discue.domain.clock import Clock
from discue.domain.ids import RowIds
from discue.domain.model import Outcome
from discue.sending.attempt_request import AttemptRequest
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
    reads: Reads
    deliver: Deliver
    gate: Gate
    budget: Budget
    clock: Clock
    row_ids: RowIds
    random: Callable[[], float]
    tenure: Tenure
    deadline_ms: int
    disable_after_seconds: int
    attempted: Callable[[LaneRecord, Flight, Outcome], None]
    disable: Callable[[LaneRecord, int, str], None]
    spawn: Spawn
    handed_over: HandedOver
    prober: Prober
