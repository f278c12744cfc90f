"""When lanes are to be called: one heap of due times and one timer for all of a worker's."""

import asyncio
import heapq
from itertools import count
from typing import Protocol

from discue.domain.clock import Clock

_SUPERSEDED_KEPT = 64
_LONGEST_TIMER_MS = 60_000
_LATENESS_SECONDS = 0.001


class Sleeper(Protocol):
    """What an alarm wakes. `wakes_at` is this file's: the one time that counts, 0 when there is none."""

    wakes_at: int
    closed: bool

    def wake(self) -> None: ...


class Timers:
    """Each sleeper has one time, the earliest it asked for. When that has come it asks again for what is later."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[tuple[int, int, Sleeper]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    @property
    def next_at(self) -> int:
        """The earliest time, superseded ones included; 0 when there is none."""
        return self._due[0][0] if self._due else 0

    def wake_at(self, sleeper: Sleeper, due_at: int, sleepers: int) -> None:
        """Wake it then, if not earlier. `sleepers` is how many there are: more times than that serve nobody."""
        if 0 < sleeper.wakes_at <= due_at:
            return
        sleeper.wakes_at = due_at
        heapq.heappush(self._due, (due_at, next(self._order), sleeper))
        if len(self._due) > 2 * sleepers + _SUPERSEDED_KEPT:
            self._due = [due for due in self._due if due[2].wakes_at == due[0] and not due[2].closed]
            heapq.heapify(self._due)
        if self._due and self._due[0][2] is sleeper:
            self._set_timer()

    def ring(self) -> None:
        """Wake everybody whose time has come."""
        now = self._clock.now()
        while self._due and self._due[0][0] <= now:
            due_at, _, sleeper = heapq.heappop(self._due)
            if sleeper.wakes_at == due_at:
                sleeper.wakes_at = 0
                sleeper.wake()
        self._set_timer()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self.stop()
        if self._due:
            # Due times are by the wall clock, the timer is not: it must notice when that jumps forward.
            delay_ms = min(max(0, self.next_at - self._clock.now()), _LONGEST_TIMER_MS)
            self._timer = asyncio.get_running_loop().call_later(delay_ms / 1_000 + _LATENESS_SECONDS, self.ring)
