"""A cursor that this worker owns, as all parts of its lane need it."""

from typing import Protocol

from discue.dispatch.lane.cursor_state import CursorState
from discue.dispatch.lane.endpoint import Endpoint
from discue.dispatch.lane.states import LANE_TRANSITIONS, LaneState, transition
from discue.dispatch.lane.worker import LimitedReads, WorkerContext
from discue.store.cursors import LaneRecord
from discue.store.engine import Settle


class LaneCalls(Protocol):
    """The calls that the parts of a lane make when something has happened."""

    def wake_at(self, due_at: int) -> None:
        """Call `wake` at a time in milliseconds since the epoch, or earlier."""

    def pump(self) -> None:
        """Start whatever may start now, in this lane and in those that share its listener."""

    def start(self) -> None:
        """Start whatever may start now in this lane."""

    def reopen(self) -> None:
        """Send everything that waits: the listener works again."""

    def advance(self) -> None:
        """Store what a read has changed, and start what may start."""

    def on_loaded(self) -> None:
        """Follow a read of keys or of inherited requests."""

    def hand_over_in_flight(self) -> None:
        """Prepare the flush that gives the cursor up."""

    def on_flushed(self, settle: Settle) -> None:
        """Go on after a flush."""

    def on_ended(self) -> None:
        """Leave the worker: the lane belonged to a replay that is done."""

    def on_lost(self) -> None:
        """Leave the worker, and read the cursor again: memory and store differ."""


class OwnedCursor:
    """A cursor with its listener, how far its lane has taken it over, and what its parts call."""

    __slots__ = ("cursor", "endpoint", "key", "lane", "reads", "record", "state", "worker")

    def __init__(
        self,
        record: LaneRecord,
        endpoint: Endpoint,
        cursor: CursorState,
        *,
        lane: LaneCalls,
        worker: WorkerContext,
        reads: LimitedReads,
    ) -> None:
        self.record = record
        self.key = record.key
        self.endpoint = endpoint
        """The configuration for all attempts from now on."""
        self.cursor = cursor
        self.worker = worker
        self.reads = reads
        self.lane = lane
        self.state = LaneState.LOADING_KEYS

    @property
    def is_active(self) -> bool:
        """Whether the lane has its cursor and does not give it up."""
        return self.state is not LaneState.DRAINING and self.state is not LaneState.CLOSED

    @property
    def is_closed(self) -> bool:
        return self.state is LaneState.CLOSED

    def enter(self, state: LaneState) -> None:
        """Change the state. Every change is made here."""
        self.state = transition(LANE_TRANSITIONS, self.state, state)

    def on_damage(self) -> None:
        """Report that data of the queue is damaged."""
        self.worker.store.damage.note((self.record.organization, self.record.queue))
