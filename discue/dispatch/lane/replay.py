"""A replay: delivers a part of the log once more, in a lane of its own that ends."""

from functools import partial
from typing import TYPE_CHECKING

from discue.dispatch.lane.flush import write_until_stored
from discue.dispatch.lane.states import LaneState
from discue.store import replays
from discue.store.cursors import ReplayPlan

if TYPE_CHECKING:
    from discue.dispatch.lane.context import LaneContext
    from discue.dispatch.lane.lane import Lane


class ReplayRun:
    """The part of a replay's lane that a live lane does not have: it takes turns with other replays, and ends."""

    def __init__(self, lane: "Lane", plan: ReplayPlan, context: "LaneContext") -> None:
        self._lane = lane
        self._plan = plan
        self._context = context

    def may_start(self) -> bool:
        """Take a slot for messages that may be sent. False if all are taken; a free one then pumps the lane."""
        lane = self._lane
        if lane.can_start and not lane.backlog.is_read:
            return self._context.replay_slots.take(lane)
        self.leave()
        return True

    def leave(self) -> None:
        """Give up the slot."""
        self._context.replay_slots.leave(self._lane)

    def may_miss(self, before: int) -> bool:
        """Whether messages that were stored before a time are too old. They wait since the replay was created."""
        return self._plan.created_at < before

    def end_if_done(self) -> None:
        """Remove the cursor in the background if everything is sent and stored."""
        lane = self._lane
        if lane.state is LaneState.RUNNING and self._is_through and not lane.cursor.dirty:
            lane.enter(LaneState.ENDING)
            self._context.spawn(self._end())

    @property
    def _is_through(self) -> bool:
        cursor = self._lane.cursor
        return cursor.window.position >= self._plan.until_seq and not cursor.retrying

    async def _end(self) -> None:
        """Remove the cursor, unless something came up meanwhile."""
        lane = self._lane
        try:
            ended = await write_until_stored(self._remove_cursor, is_wanted=self._may_end)
            if ended is not None and not lane.is_closed:
                registry = self._context.registry
                (registry.drop if ended else registry.lose)(lane)
        finally:
            if lane.state is LaneState.ENDING:
                lane.enter(LaneState.RUNNING)
                lane.pump()

    def _may_end(self) -> bool:
        return self._lane.state is LaneState.ENDING and self._is_through and self._lane.is_settled

    async def _remove_cursor(self) -> bool:
        lane, now = self._lane, self._context.clock.now()
        end = partial(replays.end, key=lane.key, token=lane.record.token, version=lane.cursor.version, now=now)
        return await self._context.store.write(end)
