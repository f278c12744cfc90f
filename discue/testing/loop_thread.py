"""An event loop on a thread of its own, for callers on other threads and other loops."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_STOP_SECONDS = 10.0


class LoopEnded(RuntimeError):
    """The thread has ended, so nothing runs on it any more."""


class Done(Generic[T]):
    """The result of work that has ended. `await` returns it, too."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, T]:
        return self._result().__await__()

    async def _result(self) -> T:
        return self.value


def either(work: Callable[[], T]) -> Awaitable[T]:
    """Do the work at once where no event loop runs; inside a coroutine, return a coroutine for `await`.

    Waiting there must not block the loop: a handler on it may have to respond first.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return Done(work())
    return asyncio.to_thread(work)


class LoopThread:
    """Runs coroutines until it is stopped. The thread does not keep the process alive."""

    def __init__(self, name: str, make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.loop = make_loop()
        self.ended: Future[None] = Future()
        """Done when the thread has ended."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        """Return the result. Raises LoopEnded if the thread ends before it, TimeoutError after `seconds`."""
        future = self.submit(work)
        ends: list[Future[Any]] = [future, self.ended]
        wait(ends, seconds, FIRST_COMPLETED)
        if not future.done():
            future.cancel()
            if self.ended.done():
                raise LoopEnded(f"The thread {self._thread.name} has ended.")
            raise TimeoutError
        return future.result()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine without waiting. Raises LoopEnded."""
        if not self.ended.done():
            try:
                return asyncio.run_coroutine_threadsafe(work, self.loop)
            except RuntimeError:
                # It has ended just now.
                pass
        work.close()
        raise LoopEnded(f"The thread {self._thread.name} has ended.")

    def stop(self) -> None:
        """Cancel what runs, and end the thread."""
        if self.ended.done():
            return
        self.run(_cancel_others(), _STOP_SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()
            self.ended.set_result(None)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
