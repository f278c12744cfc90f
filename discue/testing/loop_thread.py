"""An event loop on a thread of its own, for callers on other threads and other loops."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_STOP_SECONDS = 10.0


class LoopEnded(RuntimeError):
    """The thread has ended, so nothing runs on it any more."""


class Done:
    """Work that has ended: `await` returns at once."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


def either(work: Callable[[], None]) -> Awaitable[None]:
    """Do the work at once where no event loop runs; inside a coroutine, return a coroutine for `await`.

    Waiting there must not block the loop: a handler on it may have to respond first.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
        return Done()
    return asyncio.to_thread(work)


class LoopThread:
    """Runs coroutines until it is stopped. The thread does not keep the process alive."""

    def __init__(self, name: str, make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.loop = make_loop()
        self.ended: Future[None] = Future()
        """Done when the thread has ended."""
        self._submitted: set[Coroutine[Any, Any, Any]] = set()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        """Return the result. Raises LoopEnded if the thread ends before it, TimeoutError after `seconds`."""
        future = self.submit(work)
        ends: list[Future[Any]] = [future, self.ended]
        wait(ends, seconds, FIRST_COMPLETED)
        has_ended = self._is_ending or self.ended.done()
        if future.done() and not (has_ended and future.cancelled()):
            return future.result()
        future.cancel()
        if has_ended:
            raise LoopEnded(f"The thread {self._thread.name} has ended.")
        raise TimeoutError

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine without waiting. Raises LoopEnded."""
        if not self.ended.done():
            try:
                future = asyncio.run_coroutine_threadsafe(work, self.loop)
            except RuntimeError:
                # It has ended just now.
                pass
            else:
                self._submitted.add(work)
                future.add_done_callback(lambda _: self._submitted.discard(work))
                return future
        work.close()
        raise LoopEnded(f"The thread {self._thread.name} has ended.")

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """Cancel what runs, and end the thread. Raises TimeoutError if what runs does not end in time."""
        with suppress(RuntimeError):  # The loop is closed already.
            self.loop.call_soon_threadsafe(self._stop_loop)
        self.ended.result(seconds)
        self._thread.join()

    def _stop_loop(self) -> None:
        # Tasks that close what they have opened must not be stopped as well.
        if not self._is_ending:
            self.loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            # Code on the loop may have stopped it, too. Even then, tasks close what they have opened: threads that
            # work for the loop would otherwise stay, or find it closed.
            self._is_ending = True
            self.loop.run_until_complete(self._end())
        finally:
            self.loop.close()
            self.ended.set_result(None)

    async def _end(self) -> None:
        # Submitted work is first: it may need the other tasks to close what it has opened.
        await _cancel(task for task in asyncio.all_tasks() if task.get_coro() in self._submitted)
        this = asyncio.current_task()
        await _cancel(task for task in asyncio.all_tasks() if task is not this)
        await self.loop.shutdown_default_executor()


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
