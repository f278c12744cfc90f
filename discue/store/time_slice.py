"""Slices of work on the event loop: after 5 ms, other work runs."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

SLICE_SECONDS: Final = 0.005
"""How long a piece of work may keep the event loop."""

ON_THREAD_BYTES: Final = 65_536
"""Work on more data runs on a thread or in slices: 8 MiB would take up to a tenth of a second."""


class TimeSlice:
    """The time that a piece of work has spent on the event loop since other work last ran.

    A task calls `pause_if_over` between the parts of its work. Callbacks add the time that they took to `spent`.
    """

    __slots__ = ("_monotonic", "_started_at", "spent")

    def __init__(self, monotonic: Callable[[], float] | None = None) -> None:
        self._monotonic = monotonic or asyncio.get_running_loop().time
        self._started_at = self._monotonic()
        self.spent = 0.0
        """Seconds that callbacks have added."""

    @property
    def is_over(self) -> bool:
        """Whether the added time fills the slice."""
        return self.spent >= SLICE_SECONDS

    async def pause_if_over(self, *, rests: bool = False) -> None:
        """Let other work run if the slice is over.

        With `rests`, other work runs for as long as the slice took, because a single part of the work may take long.
        """
        spent = self._monotonic() - self._started_at
        if spent > SLICE_SECONDS:
            # In two steps: the time of the event loop has not advanced during this step.
            await asyncio.sleep(0)
            if rests:
                await asyncio.sleep(spent)
            self.begin()

    def begin(self) -> None:
        """Begin a new slice."""
        self._started_at = self._monotonic()
        self.spent = 0.0

    def call_after_rest(self, function: Callable[[], None]) -> None:
        """Call a function after other work has run for as long as the added time."""
        loop = asyncio.get_running_loop()
        # The time of the event loop does not advance within a turn, so it may be the time before the work.
        loop.call_soon(loop.call_later, self.spent, function)


class SharedSlice:
    """A slice of each turn of the event loop that several tasks share, such as all searches of a worker.

    If each task had a slice of its own, other work would wait for as many slices as there are tasks. New tasks go
    first, so that a short task does not wait for long ones.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._spent = 0.0
        self._is_counting = False
        self._new: deque[asyncio.Future[None]] = deque()
        self._earlier: deque[asyncio.Future[None]] = deque()

    async def wait(self, *, is_new: bool) -> None:
        """Wait until the slice has room for the task."""
        if self._spent < SLICE_SECONDS and not self._new:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._new if is_new else self._earlier).append(turn)
        self._count_turn()
        await turn

    def add(self, seconds: float) -> None:
        """Add the time that a task has used in this turn of the event loop."""
        self._spent += seconds
        self._count_turn()

    def _count_turn(self) -> None:
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        self._is_counting = False
        self._spent = 0.0
        for waiting in (self._new, self._earlier):
            while waiting:
                turn = waiting.popleft()
                # A cancelled task no longer waits.
                if not turn.done():
                    turn.set_result(None)
                    self._count_turn()
                    return


async def on_thread_if_large(size: int, work: Callable[[], T]) -> T:
    """Return the result of work on `size` bytes of data. Work on large data runs on a thread."""
    return await asyncio.to_thread(work) if size > ON_THREAD_BYTES else work()
