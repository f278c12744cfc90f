"""A replay: delivers a part of the log once more, in a lane of its own that ends."""

from collections.abc import Callable
from functools import partial

from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.flush import write_until_stored
from discue.dispatch.lane.replay_slots import ReplaySlots
from discue.dispatch.lane.states import LaneState
from discue.store import replays
from discue.store.cursors import ReplayPlan


class ReplayRun:
    """The part of a replay's lane that a live lane does not have: it takes turns with other replays, and ends."""

    def __init__(self, plan: ReplayPlan, backlog: Backlog, slots: ReplaySlots, is_settled: Callable[[], bool]) -> None:
        owned = self._owned = backlog.owned
        self.organization = owned.record.organization
        self.pump = owned.lane.pump
        self.unread = backlog.unread
        self._plan = plan
        self._backlog = backlog
        self._slots = slots
        self._is_settled = is_settled
        """Returns whether nothing is in flight or to be stored."""

    def may_start(self, *, can_start: bool) -> bool:
        """Take a slot for messages that may be sent. False if all are taken."""
        if can_start and not self._backlog.is_read:
            return self._slots.take(self)
        self.leave()
        return True

    def leave(self) -> None:
        """Give up the slot."""
        self._slots.leave(self)

    def may_miss(self, before: int) -> bool:
        """Whether messages that were stored before a time are too old. They wait since the replay was created."""
        return self._plan.created_at < before

    def end_if_done(self) -> None:
        """Remove the cursor in the background if everything is sent and stored."""
        owned = self._owned
        if owned.state is LaneState.RUNNING and self._is_through and not owned.cursor.dirty:
            owned.enter(LaneState.ENDING)
            owned.worker.spawn(self._end())

    @property
    def _is_through(self) -> bool:
        cursor = self._owned.cursor
        return cursor.window.position >= self._plan.until_seq and not cursor.retrying

    async def _end(self) -> None:
        """Remove the cursor, unless something came up meanwhile."""
        owned = self._owned
        try:
            ended = await write_until_stored(self._remove_cursor, is_wanted=self._may_end)
            if ended is not None and not owned.is_closed:
                (owned.lane.on_ended if ended else owned.lane.on_lost)()
        finally:
            if owned.state is LaneState.ENDING:
                owned.enter(LaneState.RUNNING)
                self.pump()

    def _may_end(self) -> bool:
        return self._owned.state is LaneState.ENDING and self._is_through and self._is_settled()

    async def _remove_cursor(self) -> bool:
        owned, worker = self._owned, self._owned.worker
        version, now = owned.cursor.version, worker.clock.now()
        end = partial(replays.end, key=owned.key, token=owned.record.token, version=version, now=now)
        return await worker.store.write(end)
