"""Work on the event loop in slices: 5 ms, then everything else has its turn."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

SLICE_SECONDS: Final = 0.005
"""How long work may keep the event loop from everything else."""

ON_THREAD_BYTES: Final = 65_536
"""Work on more data than this runs on a thread, or in slices: 8 MiB would take up to a tenth of a second."""


class TimeSlice:
    """The time that a piece of work has spent on the event loop since everything else had its turn.

    A task calls `pause_if_over` between the parts of its work. Work that consists of callbacks adds up what these took.
    """

    __slots__ = ("_monotonic", "_started_at", "spent")

    def __init__(self, monotonic: Callable[[], float] | None = None) -> None:
        self._monotonic = monotonic or asyncio.get_running_loop().time
        self._started_at = self._monotonic()
        self.spent = 0.0
        """Seconds that were added up."""

    @property
    def is_over(self) -> bool:
        """Whether what was added up fills the slice."""
        return self.spent >= SLICE_SECONDS

    async def pause_if_over(self, *, rests: bool = False) -> None:
        """Let everything else run, if the slice is over.

        With `rests`, everything else runs for as long as the slice took: a single part of the work may take long.
        """
        spent = self._monotonic() - self._started_at
        if spent > SLICE_SECONDS:
            # In two steps: to the event loop, this step has taken no time yet.
            await asyncio.sleep(0)
            if rests:
                await asyncio.sleep(spent)
            self.begin()

    def begin(self) -> None:
        """Begin a new slice."""
        self._started_at = self._monotonic()
        self.spent = 0.0

    def call_after_rest(self, function: Callable[[], None]) -> None:
        """Call a function after everything else has run for as long as was added up."""
        loop = asyncio.get_running_loop()
        # The time of the event loop stands still within a turn of it: it may be that before the work.
        loop.call_soon(loop.call_later, self.spent, function)


class SharedSlice:
    """A slice of each turn of the event loop that several tasks share, such as all searches of a worker.

    If each task worked for a slice of its own, everything else would wait for as many slices as there are tasks. A new
    task goes ahead of tasks that have worked before: a short one does not wait for long ones.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._spent = 0.0
        self._is_counting = False
        self._new: deque[asyncio.Future[None]] = deque()
        self._earlier: deque[asyncio.Future[None]] = deque()

    async def wait(self, *, is_new: bool) -> None:
        """Return when the slice has room for the task."""
        if self._spent < SLICE_SECONDS and not self._new:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._new if is_new else self._earlier).append(turn)
        self._count_turn()
        await turn

    def add(self, seconds: float) -> None:
        """Add time that a task has worked in this turn of the event loop."""
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
                # A task that was cancelled waits for nothing.
                if not turn.done():
                    turn.set_result(None)
                    self._count_turn()
                    return


async def on_thread_if_large(size: int, work: Callable[[], T]) -> T:
    """Return the result of work on data of a size. It runs on a thread if that is large."""
    return await asyncio.to_thread(work) if size > ON_THREAD_BYTES else work()
