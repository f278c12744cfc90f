"""What all lanes of a worker share."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from discue.clock import Clock
from discue.dispatch.budget import Budget
from discue.dispatch.flight import Flight
from discue.dispatch.gate import Gate
from discue.dispatch.handed_over import HandedOver
from discue.dispatch.probe import Probe
from discue.dispatch.prober import Prober
from discue.dispatch.reads import Reads
from discue.dispatch.settling import Spawn
from discue.dispatch.tenure import Tenure
from discue.ids import RowIds
from discue.model import Outcome
from discue.sending.attempt_request import AttemptRequest
from discue.store.commit import Store
from discue.store.cursors import LaneRecord


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
