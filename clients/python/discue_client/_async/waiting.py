"""Waiting and background work, on an event loop. `_sync/waiting.py` has the same names for threads."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from discue_client.wire import AsyncHttpClient

T = TypeVar("T")

Lock = asyncio.Lock
Condition = asyncio.Condition
Future = asyncio.Future
Worker = asyncio.Task[None]
LONGEST_POLL = 20.0
"""How long a request may wait for messages, in seconds: it is cancelled when the consumer stops."""

sleep = asyncio.sleep


async def wait(condition: asyncio.Condition, seconds: float | None = None) -> None:
    """Wait until the condition, which is held, is notified or the time has passed."""
    if seconds is None:
        await condition.wait()
    elif seconds > 0:
        try:
            await asyncio.wait_for(condition.wait(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            return


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of the work. Raises TimeoutError if it takes longer."""
    if sys.version_info >= (3, 11):
        async with asyncio.timeout(seconds):
            return await work
    else:
        try:
            return await asyncio.wait_for(work, seconds)
        except asyncio.TimeoutError:  # not the built-in one before 3.11
            raise TimeoutError from None


def close_with(_owner: object, _http: AsyncHttpClient) -> None:
    """Leave the connections of a forgotten client to the event loop: only a coroutine could close them."""


def new_future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


async def result_of(future: asyncio.Future[T]) -> T:
    return await future


def start(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> Worker:
    """Run work in the background."""
    return asyncio.get_running_loop().create_task(work(), name=name)


_soon: set[asyncio.Task[None]] = set()


def soon(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run short work from a place that cannot wait, such as a signal handler."""
    task = asyncio.get_running_loop().create_task(work())
    _soon.add(task)
    task.add_done_callback(_soon.discard)


async def finish(worker: Worker, *, interrupt: bool = False) -> None:
    """Wait until the work has ended; `interrupt` cancels it. Its exception is raised."""
    if interrupt:
        worker.cancel()
    await asyncio.wait([worker])
    if not worker.cancelled():
        worker.result()
