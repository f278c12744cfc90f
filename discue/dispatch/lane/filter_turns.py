"""Bounds how long the filters of all lanes hold the event loop."""

import asyncio
from collections.abc import Callable

from discue.dispatch.lane.limits import Slots
from discue.store.time_slice import TimeSlice


class FilterTurns:
    """Shares the event loop between the filters of a worker's lanes and all other work.

    A message that is published to a hundred listeners is filtered a hundred times at once, and a lane may pass over
    thousands of messages before one that its listener accepts. When the filters have used 5 ms without letting other
    work run, their turn is over. They then pause for as long as the turn took, because a long message may take much
    longer than 5 ms. The remaining lanes continue in the next turns, alternating between organizations.

    Times are measured, because the cost of a filter depends on the message and the filter in many ways.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._time_slice = TimeSlice(monotonic)
        """The time that filters have taken in this turn."""
        self._is_on = False
        """Whether the turn has begun."""
        self._started_at = 0.0
        self._waiting: dict[int, dict[Slots, None]] = {}
        """The slots of lanes that wait for the next turn, by organization."""

    @property
    def has_waiting(self) -> bool:
        """Whether a lane waits for the next turn, so that it goes on by itself."""
        return bool(self._waiting)

    def wait(self, slots: Slots) -> None:
        """Pump a lane in a later turn."""
        self._waiting.setdefault(slots.organization, {})[slots] = None

    def begin(self) -> bool:
        """Whether a lane may filter a message now, after which it calls `end`."""
        if self._time_slice.is_over:
            return False
        if not self._is_on:
            self._is_on = True
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._started_at = self._monotonic()
        return True

    def end(self) -> None:
        """Note that a message was filtered."""
        self._time_slice.spent += self._monotonic() - self._started_at

    def _end_turn(self) -> None:
        if self._time_slice.is_over:
            self._time_slice.call_after_rest(self._begin_turn)
        else:
            self._time_slice.begin()
            self._is_on = False

    def _begin_turn(self) -> None:
        started_at = self._monotonic()
        self._time_slice.begin()
        self._is_on = False
        while self._waiting and not self._time_slice.is_over:
            organization = next(iter(self._waiting))
            waiting = self._waiting.pop(organization)
            slots = next(iter(waiting))
            del waiting[slots]
            if waiting:
                # The others of its organization come after those of other organizations.
                self._waiting[organization] = waiting
            slots.pump()
            # Sending accepted messages takes time, too.
            self._time_slice.spent = max(self._time_slice.spent, self._monotonic() - started_at)
        if self._time_slice.is_over and not self._is_on:
            self._is_on = True
            asyncio.get_running_loop().call_soon(self._end_turn)
