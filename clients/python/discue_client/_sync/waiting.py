"""Waiting and background work, on threads. `_async/waiting.py` has the same names for an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from discue_client.transport import AsyncTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from discue_client.configuration import Configuration, RetryPolicy
    from discue_client.transport import HttpClient, Request

T = TypeVar("T")

Lock = threading.RLock
"""Reentrant: a signal handler may run in a thread that holds it."""
Condition = threading.Condition
Future = concurrent.futures.Future
_CLOSING_SECONDS = 1.0
_LOOP_THREAD = "discue client"


class Transport:
    """Sends requests on an event loop in the background: a blocking request cannot be cut off."""

    def __init__(self, configuration: Configuration, http_client: HttpClient | None) -> None:
        self._inner = AsyncTransport(configuration, http_client)
        weakref.finalize(self, _close, self._inner)

    def close(self) -> None:
        _run(self._inner.close())

    def send(self, request: Request, policy: RetryPolicy) -> bytes:
        return _run(self._inner.send(request, policy))


class Worker(threading.Thread):
    """A thread that keeps the exception that ended it, and whose request can be cut off."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._request: Future[Any] | None = None
        self._is_cancelled = False
        self.error: BaseException | None = None
        self.ended = threading.Event()
        """Set at the end. Before Python 3.13, `join` takes a thread for ended once Ctrl-C has interrupted it."""

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - `finish` raises it
            self.error = None if self._is_cancelled else error
        self.ended.set()

    def sends(self, request: Future[Any]) -> None:
        self._request = request
        if self._is_cancelled:
            request.cancel()

    def cancel(self) -> None:
        """Cut off the request that the work waits for, or its next one, which ends the work."""
        self._is_cancelled = True
        if self._request is not None:
            self._request.cancel()


def wait_until(condition: Condition, is_true: Callable[[], object], seconds: float | None = None) -> None:
    """Wait until `is_true`, which is called when the condition is notified, or until the time has passed.

    The condition is held, but released while this waits.
    """
    condition.wait_for(is_true, seconds)


def result_of(future: Future[T]) -> T:
    return future.result()


def start(work: Callable[[], None], name: str) -> Worker:
    """Run work in the background."""
    worker = Worker(work, name)
    worker.start()
    return worker


def soon(work: Callable[[], None]) -> None:
    """Run short work from a place that cannot wait, such as a signal handler."""
    work()


def finish(worker: Worker, *, interrupt: bool = False) -> None:  # noqa: ARG001 - threads end by themselves
    """Wait until the work has ended. Its exception is raised."""
    worker.ended.wait()
    if worker.error is not None:
        raise worker.error


_loop: asyncio.AbstractEventLoop | None = None
"""The event loop of all sync clients of this process, on a thread of its own."""
_starting = threading.Lock()


def _started_loop() -> asyncio.AbstractEventLoop:
    global _loop  # noqa: PLW0603 - one for the process
    with _starting:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name=_LOOP_THREAD, daemon=True).start()
        return _loop


def _forget_loop() -> None:
    """Start another loop in a child process, which has no threads of its parent."""
    global _loop, _starting
    _loop, _starting = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_loop)


def _run(work: Coroutine[Any, Any, T]) -> T:
    request = asyncio.run_coroutine_threadsafe(work, _started_loop())
    thread = threading.current_thread()
    if isinstance(thread, Worker):
        thread.sends(request)
    try:
        return request.result()
    except BaseException:
        # After Ctrl-C, for example, the caller no longer waits.
        request.cancel()
        raise


def _close(transport: AsyncTransport) -> None:
    """Close the connections of a client without references."""
    if _loop is not None:
        closing = asyncio.run_coroutine_threadsafe(transport.close(), _loop)
        if threading.current_thread().name != _LOOP_THREAD:
            concurrent.futures.wait([closing], _CLOSING_SECONDS)
