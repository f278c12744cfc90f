"""Timers of a worker: one heap of due times, and one timer of the event loop."""

import asyncio
import heapq
from itertools import count
from typing import Final, Protocol

from discue.domain.clock import Clock
from discue.store.group_commit import call_apart

_SUPERSEDED_KEPT: Final = 64
_LONGEST_TIMER_MS: Final = 5_000
_SET_BACK_MS: Final = 1_000
"""Smaller steps of the wall clock are not noticed."""
_LATENESS_SECONDS: Final = 0.001
"""How much later than its time the timer fires, so that it never fires just before it."""


class Sleeper(Protocol):
    """An object that is woken at a time."""

    wakes_at: int
    """The time that counts, in milliseconds since the epoch; 0 if there is none. Only `Timers` changes it."""

    @property
    def is_closed(self) -> bool:
        """Whether it need not be woken any more."""
        ...

    def wake(self) -> None: ...

    def on_clock_set_back(self, now: int, /) -> None:
        """Take back times that are too far ahead, and do what `wake` does.

        Called instead of `wake` when the wall clock was set back to `now`: a time that was a second ahead by the clock
        of before may be an hour ahead.
        """
        ...


class Timers:
    """Keeps one time per sleeper, the earliest it asked for. When it is woken it asks again for its later times."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[tuple[int, int, Sleeper]] = []
        self._order = count()
        self._compacts_at = _SUPERSEDED_KEPT
        """At how many times the superseded ones are removed."""
        self._timer: asyncio.TimerHandle | None = None
        self._ahead_ms = self._measure_ahead()
        """How far the wall clock was ahead of the monotonic one, at most, since it was last seen to go back."""

    @property
    def next_at(self) -> int:
        """The earliest time, superseded ones included; 0 if there is none."""
        return self._due[0][0] if self._due else 0

    def wake_at(self, sleeper: Sleeper, due_at: int) -> None:
        """Wake a sleeper at a time, if not earlier."""
        if 0 < sleeper.wakes_at <= due_at:
            return
        # An earlier time supersedes the one in the heap, which stays there: removing it would take a search.
        sleeper.wakes_at = due_at
        self._ahead_ms = max(self._ahead_ms, self._measure_ahead())
        heapq.heappush(self._due, (due_at, next(self._order), sleeper))
        if len(self._due) > self._compacts_at:
            kept = {due[2]: due for due in self._due if due[2].wakes_at == due[0] and not due[2].is_closed}
            self._due = list(kept.values())
            heapq.heapify(self._due)
            self._compacts_at = 2 * len(self._due) + _SUPERSEDED_KEPT
        if self._due and self._due[0][2] is sleeper:
            self._set_timer()

    def wake_due(self) -> None:
        now, ahead_ms = self._clock.now(), self._measure_ahead()
        was_set_back = ahead_ms < self._ahead_ms - _SET_BACK_MS
        self._ahead_ms = ahead_ms
        try:
            if was_set_back:
                self._wake_all(now)
            while self._due and self._due[0][0] <= now:
                due_at, _, sleeper = heapq.heappop(self._due)
                if sleeper.wakes_at == due_at:
                    sleeper.wakes_at = 0
                    sleeper.wake()
        finally:
            # A sleeper that fails must not stop the clock of all others.
            self._set_timer()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake_all(self, now: int) -> None:
        """Let every sleeper ask for its times again: the clock was set back."""
        due, self._due = self._due, []
        for due_at, _, sleeper in due:
            if sleeper.wakes_at == due_at:
                sleeper.wakes_at = 0
                # A sleeper that fails must not keep the others from following the clock.
                call_apart(sleeper.on_clock_set_back, now)

    def _measure_ahead(self) -> float:
        return self._clock.now() - self._clock.monotonic() * 1_000

    def _set_timer(self) -> None:
        self.stop()
        if self._due:
            # Due times are wall-clock times, the timer is not: it must notice when the wall clock is set.
            delay_ms = min(max(0, self.next_at - self._clock.now()), _LONGEST_TIMER_MS)
            self._timer = asyncio.get_running_loop().call_later(delay_ms / 1_000 + _LATENESS_SECONDS, self.wake_due)
