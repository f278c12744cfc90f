"""The state machines of a lane. `docs/architecture.md` draws them; a test compares the tables with the diagrams."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, TypeVar

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
    LaneState.ENDING: frozenset({LaneState.RUNNING, LaneState.DRAINING, LaneState.CLOSED}),
    LaneState.DRAINING: frozenset({LaneState.CLOSED}),
    LaneState.CLOSED: frozenset(),
}


class BreakerState(Enum):
    """State of a circuit breaker."""

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
