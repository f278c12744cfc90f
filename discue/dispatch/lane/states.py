"""The states of a lane, its deliveries and its parts, and the reasons why a lane starts no attempt."""

from collections.abc import Mapping
from enum import Enum, IntEnum, auto
from typing import Final, NamedTuple, TypeVar

State = TypeVar("State", bound=Enum)
Transitions = Mapping[State, frozenset[State]]


class LaneState(Enum):
    """Ownership of the cursor: how far a lane has taken it over, or given it up."""

    LOADING_KEYS = auto()
    """Reads which keys are held. Nothing is sent or redelivered."""
    LOADING_INHERITED = auto()
    """Reads which requests of the previous owner are in flight. Nothing is sent."""
    RUNNING = auto()
    """Sends, if the listener, its circuit breaker and the limits allow it."""
    ENDING = auto()
    """A replay that reached its end and removes its cursor."""
    DRAINING = auto()
    """Gives its cursor up: starts nothing, stores what it knows, and hands over what is in flight."""
    CLOSED = auto()
    """Stores nothing any more. The cursor is another worker's, or gone."""


LANE_TRANSITIONS: Final[Transitions[LaneState]] = {
    LaneState.LOADING_KEYS: frozenset({LaneState.LOADING_INHERITED, LaneState.DRAINING, LaneState.CLOSED}),
    LaneState.LOADING_INHERITED: frozenset({LaneState.RUNNING, LaneState.DRAINING, LaneState.CLOSED}),
    LaneState.RUNNING: frozenset({LaneState.ENDING, LaneState.DRAINING, LaneState.CLOSED}),
    LaneState.ENDING: frozenset({LaneState.DRAINING, LaneState.CLOSED}),
    LaneState.DRAINING: frozenset({LaneState.CLOSED}),
    LaneState.CLOSED: frozenset(),
}


class DeliveryState(IntEnum):
    """The state of a delivery. Integers, because they hash fast and each message changes its state several times."""

    PENDING = auto()
    """The delivery has not started, and has no row."""
    IN_FLIGHT = auto()
    """The first request is in flight. There is no row, so the cursor cannot pass the delivery."""
    DETACHED = auto()
    """A request is in flight, and the row names the worker that sent it."""
    BLOCKED = auto()
    """The delivery waits for its key, without a row. The row of the delivery that holds the key counts it."""
    RETRYING = auto()
    """The row has the time of the next attempt."""
    DUE = auto()
    """The row was read, and the next attempt waits for its turn."""
    IN_FLIGHT_AGAIN = auto()
    """A retry is in flight. The row has not changed."""
    LEASED = auto()
    """A consumer has the message. The row has the end of the lease."""
    MISSED = auto()
    """The delivery has ended without success."""
    ACKNOWLEDGED = auto()
    """The delivery has ended with success."""
    SKIPPED = auto()
    """The message does not match the filter, or was deleted."""


_D = DeliveryState

DELIVERY_TRANSITIONS: Final[Transitions[DeliveryState]] = {
    _D.PENDING: frozenset({_D.IN_FLIGHT, _D.BLOCKED, _D.LEASED, _D.MISSED, _D.SKIPPED}),
    _D.IN_FLIGHT: frozenset({_D.ACKNOWLEDGED, _D.RETRYING, _D.MISSED, _D.DETACHED}),
    _D.DETACHED: frozenset({_D.ACKNOWLEDGED, _D.RETRYING, _D.MISSED}),
    _D.BLOCKED: frozenset({_D.RETRYING}),
    _D.RETRYING: frozenset({_D.DUE}),
    # Back to retrying if the lane drops what it has read.
    _D.DUE: frozenset({_D.IN_FLIGHT_AGAIN, _D.LEASED, _D.RETRYING, _D.MISSED, _D.SKIPPED}),
    _D.IN_FLIGHT_AGAIN: frozenset({_D.ACKNOWLEDGED, _D.RETRYING, _D.MISSED, _D.DETACHED}),
    _D.LEASED: frozenset({_D.ACKNOWLEDGED, _D.RETRYING, _D.LEASED, _D.MISSED, _D.SKIPPED}),
    # Retrying if it is redelivered, skipped if it is deleted while it blocks its key.
    _D.MISSED: frozenset({_D.RETRYING, _D.SKIPPED}),
    _D.ACKNOWLEDGED: frozenset({_D.RETRYING}),
    _D.SKIPPED: frozenset(),
}


class BreakerState(Enum):
    CLOSED = "closed"
    """All messages are sent."""
    HALF_OPEN = "half_open"
    """A few requests may be in flight: one at first, one more after each success."""
    OPEN = "open"
    """Nothing is sent."""


BREAKER_TRANSITIONS: Final[Transitions[BreakerState]] = {
    # The third probe in a row failed: the listener is `inactive`.
    BreakerState.CLOSED: frozenset({BreakerState.OPEN}),
    # A trial or a probe failed (open); enough trials succeeded, or the listener is `stable` (closed).
    BreakerState.HALF_OPEN: frozenset({BreakerState.OPEN, BreakerState.CLOSED}),
    # A probe succeeded or did not count, or the target changed after such a probe (half open); the listener is `stable`
    # or `unknown`, which it is with another liveness URL or none (closed).
    BreakerState.OPEN: frozenset({BreakerState.HALF_OPEN, BreakerState.CLOSED}),
}


class CheckState(Enum):
    """State of a repeated read of the store (`StoreCheck`); at most one read runs."""

    IDLE = auto()
    REQUESTED = auto()
    RUNNING = auto()


CHECK_TRANSITIONS: Final[Transitions[CheckState]] = {
    CheckState.IDLE: frozenset({CheckState.REQUESTED}),
    # Idle without a read if the lane gives its cursor up.
    CheckState.REQUESTED: frozenset({CheckState.RUNNING, CheckState.IDLE}),
    # A request during the read means another read: this one may have missed what the request is about.
    CheckState.RUNNING: frozenset({CheckState.REQUESTED, CheckState.IDLE}),
}


def transition(table: Transitions[State], before: State, after: State) -> State:
    """Return the new state. Raises ValueError if the table does not have this transition."""
    if after not in table[before]:
        raise ValueError(f"no transition from {before} to {after}")
    return after


class Blocked(NamedTuple):
    """The reason why a lane starts no attempt. Each constant below documents what calls the lane again."""

    reason: str
    until: int = 0
    """When the lane is woken, in milliseconds since the epoch; 0 if something else calls it."""


IDLE: Final = Blocked("idle")
"""No message waits, or messages are being read. A publish, a read or a due time calls the lane again."""
REPLAYS: Final = Blocked("replays")
"""Other replays of the organization have all replay slots, which call it again."""
INACTIVE: Final = Blocked("inactive")
"""The lane is loading or giving up its cursor, or may not send to the listener. A change calls it again."""
STORE: Final = Blocked("store")
"""The store does not accept outcomes. The next flush that succeeds calls the lane again."""
LEASE: Final = Blocked("lease")
"""The worker's lease has lapsed. Its renewal calls it again."""
SLOTS: Final = Blocked("slots")
"""The listener has no free slot. The flush of an outcome calls it again."""
WORKER: Final = Blocked("worker")
"""The worker has no free slot, or its turn on the event loop is over. `ConcurrencyLimiter` calls it again."""
SHARE: Final = Blocked("share")
"""Other lanes of the listener come first. `FairShare` calls it again."""
FILTERS: Final = Blocked("filters")
"""The turn of the filters is over. Its `Turns` call it again."""
REQUESTS: Final = Blocked("requests")
"""The next message waits for a request in flight, whose outcome calls it again."""
