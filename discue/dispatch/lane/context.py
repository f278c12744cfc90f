"""The context of a worker's lanes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from discue.dispatch.lane.attempt import InFlightAttempt
from discue.dispatch.lane.flush import Spawn
from discue.dispatch.lane.handover import HandoverOutcomes
from discue.dispatch.lane.limits import BodyBudget, ConcurrencyLimiter, LimitedReads
from discue.dispatch.lane.tuning import Tuning
from discue.domain.attempts import Outcome
from discue.domain.clock import Clock
from discue.domain.ids import RowIds
from discue.sending.request import AttemptRequest
from discue.store.cursors import LaneRecord
from discue.store.store import Store

if TYPE_CHECKING:
    from discue.dispatch.lane.lane import Lane
    from discue.dispatch.lane.probes import Prober

SendAttempt = Callable[[AttemptRequest, Callable[[Outcome], None]], None]
"""Makes one attempt, and calls back with its outcome later, never at once: `Sender.send`."""


class LaneContext(msgspec.Struct, frozen=True):
    """Everything that the lanes of a worker share: store, limits, and callbacks to the dispatcher."""

    store: Store
    reads: LimitedReads
    send: SendAttempt
    limiter: ConcurrencyLimiter
    budget: BodyBudget
    clock: Clock
    row_ids: RowIds
    random: Callable[[], float]
    """Returns a random number from [0, 1)."""
    has_lease: Callable[[], bool]
    """Whether attempts may start: no other worker can have taken the cursors over yet."""
    tuning: Tuning
    deadline_ms: int
    """How long a message may wait until it is missed."""
    disable_after_seconds: int
    """How long a listener may only fail until it is disabled; 0 for ever."""
    spawn: Spawn
    handover_outcomes: HandoverOutcomes
    prober: "Prober"
    wake_at: Callable[["Lane", int], None]
    """Calls `Lane.wake` at a time in milliseconds since the epoch."""
    log_attempt: Callable[[LaneRecord, InFlightAttempt, Outcome], None]
    disable: Callable[[LaneRecord, int, str], None]
    """Disables a listener, if its configuration still has this version, for a reason."""
    lose: Callable[["Lane"], None]
    """Drops a lane whose memory may differ from the store, and reads it again."""
    drop: Callable[["Lane"], None]
    """Drops a lane whose cursor is gone."""
    waiting_for_lease: set["Lane"]
    """Lanes that found the worker's lease lapsed. They are pumped when it is renewed."""
    inheriting: set["Lane"]
    """Lanes with inherited requests in flight."""
