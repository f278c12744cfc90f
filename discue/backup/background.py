"""Long blocking work of an asynchronous program: on a thread of its own, until it is cancelled."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from discue.domain.errors import DiscueError
from discue.store.group_commit import resolve
from discue.store.sqlite.snapshot import RequireRunning

T = TypeVar("T")

_STOP_SECONDS: Final = 5.0


async def in_background(name: str, work: Callable[[RequireRunning], T]) -> T:
    """Return what `work` returns, or raise what it raises.

    A task that is cancelled waits for up to five seconds until the work has noticed it. The process can exit while the
    work goes on, which may be blocked by a file system that does not respond.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    stopping = threading.Event()

    def require_running() -> None:
        if stopping.is_set():
            raise DiscueError("Stopped.")

    def run() -> None:
        try:
            found: T | Exception = work(require_running)
        except Exception as error:  # It is the result
            found = error
        # When the loop is closed, no caller waits for the result.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(resolve, result, found)

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        return await asyncio.shield(result)
    except asyncio.CancelledError:
        stopping.set()
        await asyncio.wait({result}, timeout=_STOP_SECONDS)
        # The caller no longer waits for the result: read its error, so that asyncio does not report it as unhandled.
        result.exception() if result.done() else result.cancel()
        raise
