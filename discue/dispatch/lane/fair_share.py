"""What a listener can take, shared between its live messages and its replays: requests in flight, and their rate."""

from collections.abc import Callable
from typing import Protocol

from discue.domain.concurrency import Claim, may_take_slot
from discue.store.engine import CursorKey


class Sharer(Protocol):
    """What sharing needs to know of a lane."""

    fair_share: "FairShare | None"
    in_flight_count: int
    max_in_flight: int

    @property
    def key(self) -> CursorKey: ...

    @property
    def places_taken(self) -> int:
        """Of the listener's places, also by requests that others have under way."""
        ...

    @property
    def knows_places(self) -> bool:
        """Whether it is known what others have under way."""
        ...

    @property
    def is_wide_open(self) -> bool:
        """Whether the listener may get all that there is for it."""
        ...

    @property
    def pace_wait_seconds(self) -> float:
        """How long until the listener's rate lets a request begin."""
        ...

    def follow(self, live: "Sharer | None") -> None:
        """The limits are those of that lane."""
        ...

    def start(self) -> None:
        """Start whatever may start now."""
        ...

    def reopen(self) -> None:
        """The listener is well again: whatever waits may go out."""
        ...

    def wait_for_pace(self, seconds: float) -> None: ...


class FairShare:
    """One listener's lanes on this worker, from its first replay to its last. `over` is called after that.

    A lane that wants a place and does not get it waits: the others leave it its share, and its turn. So no replay
    keeps live messages back, and they do not keep it back. Requests of lanes that are gone have their places until
    they end.
    """

    def __init__(self, over: Callable[[], None]) -> None:
        self._over = over
        self._live: Sharer | None = None
        self._replays: dict[CursorKey, Sharer] = {}
        self._ending: list[Sharer] = []
        self._waiting: dict[Sharer, None] = {}
        self._turns: dict[Sharer, int] = {}
        self._turn = 0
        self._was_open = False
        self._is_calling = False
        self._is_over = False

    @property
    def is_open(self) -> bool:
        """Whether replays may send: nothing keeps live messages from being sent, or makes them be sent carefully."""
        return self._live is not None and self._live.is_wide_open

    def join(self, lane: Sharer) -> None:
        lane.fair_share = self
        self.begun(lane)
        if lane.key[2]:
            self._replays[lane.key] = lane
            lane.follow(self._live)
            return
        self._live = lane
        self._was_open = lane.is_wide_open
        for replay in self._replays.values():
            replay.follow(lane)
            self._waiting[replay] = None

    def leave(self, lane: Sharer) -> None:
        """What it has under way keeps its places."""
        self._waiting.pop(lane, None)
        if lane is self._live:
            self._live = None
            for replay in self._replays.values():
                replay.follow(None)
        elif self._replays.get(lane.key) is lane:
            del self._replays[lane.key]
        self._ending.append(lane)
        self._go_on()

    def begun(self, lane: Sharer) -> None:
        """A request of the lane has begun, or it may want one from now on: the others come first."""
        self._turn += 1
        self._turns[lane] = self._turn

    def pump(self, lane: Sharer) -> None:
        """Start whatever may start now, here and then elsewhere."""
        self._waiting.pop(lane, None)
        if lane not in self._ending:
            lane.start()
        self._look_whether_open()
        self._go_on()

    def may_begin(self, lane: Sharer) -> bool:
        """Whether a request of the lane may begin. If not, the lane is called when one may."""
        if self._may_begin(lane):
            self._waiting.pop(lane, None)
            return True
        self._waiting[lane] = None
        return False

    def _may_begin(self, lane: Sharer) -> bool:
        live = self._live
        if live is None or live.pace_wait_seconds > 0:
            return False
        lanes = (live, *self._replays.values())
        if not all(each.knows_places for each in lanes):
            return False
        taken = sum(each.places_taken for each in lanes) + sum(each.in_flight_count for each in self._ending)
        waiting = [self._claim(each) for each in self._waiting if each is not lane]
        return may_take_slot(live.max_in_flight, taken, self._claim(lane), waiting)

    def _claim(self, lane: Sharer) -> Claim:
        return Claim(lane.places_taken, self._turns[lane])

    def _look_whether_open(self) -> None:
        was_open, self._was_open = self._was_open, self.is_open
        if self._was_open and not was_open:
            for replay in self._replays.values():
                replay.reopen()
                self._waiting[replay] = None

    def _go_on(self) -> None:
        if self._is_calling:
            return
        self._is_calling = True
        try:
            while (lane := self._next()) is not None:
                # It begins at least one, or does not wait any more.
                del self._waiting[lane]
                lane.start()
        finally:
            self._is_calling = False
        self._wake_next()
        self._end_if_over()

    def _next(self) -> Sharer | None:
        return next((lane for lane in self._waiting if self._may_begin(lane)), None)

    def _wake_next(self) -> None:
        wait_seconds = 0.0 if self._live is None else self._live.pace_wait_seconds
        if wait_seconds > 0 and self._waiting:
            next(iter(self._waiting)).wait_for_pace(wait_seconds)

    def _end_if_over(self) -> None:
        self._ending = [lane for lane in self._ending if lane.in_flight_count]
        lanes = {self._live, *self._replays.values()}
        self._turns = {lane: turn for lane, turn in self._turns.items() if lane in lanes}
        if self._replays or self._ending or self._is_over:
            return
        self._is_over = True
        self._over()
        if self._live is not None:
            self._live.fair_share = None
            self._live.start()
