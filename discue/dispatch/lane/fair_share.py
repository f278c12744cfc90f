"""The fair share of a listener's live lane and its replays in the slots and the rate of the listener."""

import math
from collections.abc import Callable

from discue.dispatch.lane.limits import Limits
from discue.domain.clock import Clock
from discue.domain.concurrency import Claim, may_take_slot
from discue.store.engine import CursorKey


class FairShare:
    """Shares a listener's slots and rate between its live lane and its replays on this worker.

    A lane that wants a slot and gets none waits, and the others leave it its share and its turn. So neither live
    messages nor replays hold each other up. Requests of lanes that were closed keep their slots until they end.
    """

    def __init__(self, clock: Clock, on_over: Callable[[], object]) -> None:
        self._clock = clock
        self._on_over = on_over
        """Called when the last replay, and the last request of one, has ended."""
        self._live: Limits | None = None
        self.replays: dict[CursorKey, Limits] = {}
        self._closed: list[Limits] = []
        """Lanes that left and have requests in flight."""
        self._waiting: dict[Limits, None] = {}
        self._turns: dict[Limits, int] = {}
        self._turn = 0
        self._was_open = False
        self._is_pumping = False
        self._is_over = False

    @property
    def is_open(self) -> bool:
        """Whether replays may send: the live lane sends, and its circuit breaker is closed."""
        return self._live is not None and self._live.is_wide_open

    def join(self, lane: Limits) -> None:
        lane.fair_share = self
        self.on_start(lane)
        if lane.owned.key[2]:
            self.replays[lane.owned.key] = lane
            if self._live is not None:
                lane.follow(self._live)
            return
        self._live = lane
        self._was_open = lane.is_wide_open
        for replay in self.replays.values():
            replay.follow(lane)
            self._waiting[replay] = None

    def leave(self, lane: Limits) -> None:
        """Remove a lane. Its requests in flight keep their slots."""
        self._waiting.pop(lane, None)
        if lane is self._live:
            self._live = None
        elif self.replays.get(lane.owned.key) is lane:
            del self.replays[lane.owned.key]
        self._closed.append(lane)
        self._pump_waiting()

    def on_start(self, lane: Limits) -> None:
        """Note that the lane starts a request, or joined: the turns of the others come first."""
        self._turn += 1
        self._turns[lane] = self._turn

    def pump(self, lane: Limits) -> None:
        """Let the lane start what it may, then the lanes that wait."""
        self._waiting.pop(lane, None)
        if lane not in self._closed:
            lane.owned.lane.start()
        was_open, self._was_open = self._was_open, self.is_open
        if self._was_open and not was_open:
            for replay in self.replays.values():
                replay.owned.lane.reopen()
                self._waiting[replay] = None
        self._pump_waiting()

    def may_start(self, lane: Limits) -> bool:
        """Whether the lane may start a request."""
        if not self._may_start(lane):
            return False
        self._waiting.pop(lane, None)
        return True

    def wait(self, lane: Limits) -> None:
        """Call the lane when it may start a request."""
        self._waiting[lane] = None

    def _may_start(self, lane: Limits) -> bool:
        live = self._live
        if live is None or self._wait_seconds(live) > 0:
            return False
        lanes = (live, *self.replays.values())
        # Requests of a previous owner take slots of the listener, whichever of its lanes they belong to.
        if any(each.inherited is not None and not each.inherited.is_known for each in lanes):
            return False
        taken = sum(each.taken for each in lanes) + sum(each.in_flight for each in self._closed)
        waiting = [self._claim(each) for each in self._waiting if each is not lane]
        return may_take_slot(live.adaptive.allowed, taken, self._claim(lane), waiting)

    def _wait_seconds(self, live: Limits) -> float:
        """Return how long until the listener's rate allows the next request."""
        return live.rate.wait_seconds(self._clock.monotonic())

    def _claim(self, lane: Limits) -> Claim:
        return Claim(lane.taken, self._turns[lane])

    def _pump_waiting(self) -> None:
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while (lane := next((each for each in self._waiting if self._may_start(each)), None)) is not None:
                # It starts at least one request, or does not wait any more.
                del self._waiting[lane]
                lane.owned.lane.start()
        finally:
            self._is_pumping = False
        wait_seconds = 0.0 if self._live is None else self._wait_seconds(self._live)
        if wait_seconds > 0 and self._waiting:
            next(iter(self._waiting)).owned.lane.wake_at(self._clock.now() + math.ceil(wait_seconds * 1_000))
        self._closed = [lane for lane in self._closed if lane.in_flight]
        lanes = {self._live, *self.replays.values()}
        self._turns = {lane: turn for lane, turn in self._turns.items() if lane in lanes}
        if self.replays or self._closed or self._is_over:
            return
        self._is_over = True
        self._on_over()
        if self._live is not None:
            self._live.fair_share = None
            self._live.owned.lane.start()
