"""A read of the store that a lane repeats on request: one at a time, coalesced, and again after a failure."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from discue.dispatch.lane.states import CHECK_TRANSITIONS, CheckState, transition
from discue.domain.errors import Unavailable

if TYPE_CHECKING:
    from discue.dispatch.lane.context import LaneContext
    from discue.dispatch.lane.lane import Lane

READ_RETRY_MS: Final = 250
"""How long a lane waits before it repeats a read that failed."""


class StoreCheck:
    """Runs `check_once` while checks are requested and the lane is active."""

    def __init__(
        self, lane: "Lane", context: "LaneContext", check_once: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self._lane = lane
        self._context = context
        self._check_once = check_once
        self.state = CheckState.IDLE
        self.due_at = 0
        """When the next check is due, in milliseconds since the epoch; 0 if none is scheduled."""

    def request(self) -> None:
        """Check now, or once more after the check that is running."""
        self.due_at = 0
        if self.state is CheckState.REQUESTED:
            return
        was_idle = self.state is CheckState.IDLE
        self._enter(CheckState.REQUESTED)
        if was_idle:
            self._context.spawn(self._run())

    def request_at(self, due_at: int) -> None:
        """Check at a time in milliseconds since the epoch, unless a check is requested before."""
        self.due_at = due_at
        self._lane.wake_at(due_at)

    def request_if_due(self, now: int) -> None:
        if 0 < self.due_at <= now:
            self.request()

    async def _run(self) -> None:
        try:
            while self.state is CheckState.REQUESTED and self._lane.is_active:
                self._enter(CheckState.RUNNING)
                await self._check_once()
        except Unavailable:
            # The store logs the cause; the lane only repeats the read.
            self.request_at(self._context.clock.now() + READ_RETRY_MS)
        finally:
            self._enter(CheckState.IDLE)

    def _enter(self, state: CheckState) -> None:
        self.state = transition(CHECK_TRANSITIONS, self.state, state)
