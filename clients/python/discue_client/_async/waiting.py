"""Waiting and background work, on an event loop. `_sync/waiting.py` has the same names for threads."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from discue_client import transport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

Lock = asyncio.Lock
Condition = asyncio.Condition
Future = asyncio.Future
Worker = asyncio.Task[None]
AsyncTransport = transport.AsyncTransport


async def wait_until(condition: Condition, is_true: Callable[[], object], seconds: float | None = None) -> None:
    """Wait until `is_true`, which is called when the condition is notified, or until the time has passed.

    The condition is held, but released while this waits.
    """
    if not is_true():
        with suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(condition.wait_for(is_true), seconds)


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
