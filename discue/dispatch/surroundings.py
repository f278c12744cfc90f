"""What all lanes of a worker share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from discue.clock import Clock
from discue.dispatch.budget import Budget
from discue.dispatch.flight import Flight
from discue.dispatch.gate import Gate
from discue.dispatch.probe import Probe
from discue.dispatch.reads import Reads
from discue.dispatch.settling import Spawn
from discue.dispatch.tenure import Tenure
from discue.ids import RowIds
from discue.model import Outcome
from discue.sending.attempt_request import AttemptRequest
from discue.store.commit import Store
from discue.store.cursors import LaneRecord

if TYPE_CHECKING:
    from discue.dispatch.handed_over import HandedOver
    from discue.dispatch.lane import Lane
    from discue.dispatch.prober import Prober


class Deliver(Protocol):
    """Makes one attempt: `sender.Sender.send`."""

    def __call__(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None: ...


class Reach(NamedTuple):
    """How listeners are reached: with messages, and with probes."""

    deliver: Deliver
    probe: Probe


class Surroundings(msgspec.Struct, frozen=True):
    """`lapsed` are lanes that found the lease lapsed, `hosts` those that have guests."""

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
    wake_at: Callable[["Lane", int], None]
    attempted: Callable[[LaneRecord, Flight, Outcome], None]
    disable: Callable[[LaneRecord, int, str], None]
    lost: Callable[["Lane"], None]
    ended: Callable[["Lane"], None]
    spawn: Spawn
    handed_over: "HandedOver"
    prober: "Prober"
    lapsed: set["Lane"]
    hosts: set["Lane"]
