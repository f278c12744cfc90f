"""An event loop with virtual time and a seeded order: one seed is one history.

Time stands still while a step runs, and jumps to the next timer when nothing is ready. Threads are steps, too.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, Final, TypeVar, TypeVarTuple

from tests.simulation.trace import Trace

T = TypeVar("T")
_Ts = TypeVarTuple("_Ts")

_MOST_STEPS_AT_ONCE: Final = 50_000
"""More steps than any burst of work takes. A loop that makes more without a wait is busy for ever."""
_OVERTAKING_SHARE: Final = 0.2
_OVERTAKEN: Final = 6
_THREAD_SECONDS: Final = (0.000_02, 0.002)


class Deadlock(AssertionError):
    """Nothing is ready, no timer is set, and the run has not ended."""


class BusyLoop(AssertionError):
    """Steps follow each other for ever, and time stands still."""


class OutOfTime(AssertionError):
    """The run takes longer than it may, in virtual time: something that must happen did not."""


class Host:
    """A machine. Its steps run in contexts in which `HOST` is set to it; the tasks that they start inherit it."""

    def __init__(self, name: str, address: str, number: int = -1) -> None:
        self.name = name
        self.address = address
        self.number = number
        """The number of its worker; -1: it has none."""
        self.is_down = False
        """Whether it was killed. None of its steps runs any more; a restart is another host with the same address."""
        self.is_paused = False
        self.has_lock = False
        """Whether it keeps other processes from writing to a file that they share."""
        self.clock_error_ms = 0
        """How far its wall clock is ahead."""
        self.held: list[Step] = []
        """The steps that wait for the end of a pause."""


HOST: ContextVar[Host | None] = ContextVar("host", default=None)
"""The machine that the current step runs on; None for clients, listeners and the nemesis."""


class Step(asyncio.TimerHandle):
    """A callback that runs soon, or at a time: asyncio's handle without its slow checks of debug mode."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: "SimLoop",
        context: Context | None,
        when: float = 0.0,
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = self._source_traceback = None
        self._when = when
        self._scheduled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = _nothing, ()


def _nothing() -> None:
    """Take the place of a callback that was cancelled."""


class SimLoop(asyncio.BaseEventLoop):
    """Runs steps one at a time. `order` decides which; `shuffles` lets steps of tasks overtake others."""

    def __init__(self, order: Random, trace: Trace, *, shuffles: bool) -> None:
        super().__init__()
        self.trace = trace
        self.steps = 0
        self.ends_at = float("inf")
        """When the run must be over."""
        self.unhandled: list[str] = []
        """Exceptions that nobody has handled."""
        self._order = order
        self._shuffles = shuffles
        self._now = 0.0
        self._soon: deque[Step] = deque()
        self._timers: list[tuple[float, float, int, Step]] = []
        self._numbered = 0
        self._steps_at_once = 0
        self._graveyard: list[object] = []
        self.set_exception_handler(_note_unhandled)

    def time(self) -> float:
        """Return the virtual time in seconds. It starts at 0."""
        return self._now

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        step = Step(callback, args, self, context)
        self._soon.append(step)
        return step

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = Step(callback, args, self, context, when)
        self._numbered += 1
        # Timers for one moment fire in any order, as they do on a machine, whose clock is finer than any plan.
        tie = self._order.random() if self._shuffles else 0.0
        heapq.heappush(self._timers, (max(when, self._now), tie, self._numbered, timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback soon: what another thread asks for comes a moment later."""
        return self.call_later(self.thread_seconds(), callback, *args, context=context)

    def thread_seconds(self) -> float:
        """Return how long it takes until another thread gets its turn."""
        return self._order.uniform(*_THREAD_SECONDS)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], T], *args: *_Ts) -> "asyncio.Future[T]":
        """Run a function as a step of its own."""
        result: asyncio.Future[T] = self.create_future()
        self.call_later(self.thread_seconds(), _run_into, result, func, args)
        return result

    def run_until_complete(self, future: Any) -> Any:
        """Run the simulation until its program ends."""
        program = asyncio.ensure_future(future, loop=self)
        previous = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            while not program.done():
                if self._soon:
                    self._run_next()
                else:
                    self._advance()
        finally:
            asyncio._set_running_loop(previous)
        return program.result()

    def bury(self, remains: object) -> None:
        """Keep what a machine that was killed has left. Its coroutines must not be closed: that would run code."""
        self._graveyard.append(remains)
        self._graveyard.append([*asyncio.all_tasks(self)])

    def resume(self, host: Host) -> None:
        """End the pause of a host."""
        host.is_paused = False
        self._soon.extend(host.held)
        host.held.clear()

    def run_on(self, host: Host, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run a coroutine on a host."""
        context = Context()
        context.run(HOST.set, host)
        return asyncio.Task(coroutine, loop=self, context=context)

    def _run_next(self) -> None:
        step = self._next() if self._shuffles else self._soon.popleft()
        if step._cancelled:
            return
        context = step._context
        host = context.get(HOST)
        if host is not None:
            if host.is_down:
                return
            if host.is_paused:
                host.held.append(step)
                return
        self.steps += 1
        self._steps_at_once += 1
        if self._steps_at_once > _MOST_STEPS_AT_ONCE:
            raise BusyLoop(f"{_MOST_STEPS_AT_ONCE:,} steps at one moment; the last one: {step!r}")
        try:
            context.run(step._callback, *step._args)
        except Exception as error:  # noqa: BLE001 - as asyncio does
            self.call_exception_handler({"message": f"Exception in {step!r}", "exception": error, "handle": step})

    def _next(self) -> Step:
        """Take the next handle: the oldest, or the step of a task that overtakes it.

        Callbacks keep their order, as asyncio promises. Which task is woken first is a matter of what it waits for.
        """
        soon = self._soon
        if len(soon) > 1 and self._order.random() < _OVERTAKING_SHARE:
            place = self._order.randrange(min(len(soon), _OVERTAKEN))
            task = _task_of(soon[place])
            if place and task is not None and all(_task_of(soon[earlier]) is not task for earlier in range(place)):
                handle = soon[place]
                del soon[place]
                return handle
        return soon.popleft()

    def _advance(self) -> None:
        """Go to the time of the next timer, and make all that is due ready."""
        timers = self._timers
        while timers and timers[0][3]._cancelled:
            heapq.heappop(timers)
        if not timers:
            waiting = sorted(repr(task) for task in asyncio.all_tasks(self))
            raise Deadlock("\n".join(["nothing will ever happen again; these tasks wait:", *waiting]))
        if timers[0][0] > self._now:
            self._now = timers[0][0]
            self._steps_at_once = 0
            if self._now > self.ends_at:
                raise OutOfTime(f"not over after {self.ends_at:g} s")
        while timers and timers[0][0] <= self._now:
            timer = heapq.heappop(timers)[3]
            if not timer._cancelled:
                self._soon.append(timer)


def _run_into(result: "asyncio.Future[Any]", function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if result.done():
        return
    try:
        found = function(*args)
    except Exception as error:  # noqa: BLE001 - it is the result
        result.set_exception(error)
    else:
        result.set_result(found)


def _task_of(handle: Step) -> "asyncio.Task[Any] | None":
    owner = getattr(handle._callback, "__self__", None)
    return owner if isinstance(owner, asyncio.Task) else None


def _note_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, SimLoop)
    error = context.get("exception")
    loop.unhandled.append(f"{context.get('message')}: {error!r}" if error is not None else str(context.get("message")))
