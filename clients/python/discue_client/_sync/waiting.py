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
        self._is_cancelled = True
        if self._request is not None:
            self._request.cancel()


def wait(condition: threading.Condition, seconds: float | None = None) -> None:
    """Wait until the condition, which is held, is notified or the time has passed."""
    if seconds is None or seconds > 0:
        condition.wait(seconds)


def new_future() -> Future[Any]:
    return Future()


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


def cancel_request(worker: Worker) -> None:
    """Cut off the request that the work waits for, or its next one, which ends the work."""
    worker.cancel()


def finish(worker: Worker, *, interrupt: bool = False) -> None:  # noqa: ARG001 - threads end by themselves
    """Wait until the work has ended. Its exception is raised."""
    worker.ended.wait()
    if worker.error is not None:
        raise worker.error


class _Loop(threading.Thread):
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        super().__init__(name="discue client", daemon=True)
        self.loop = asyncio.new_event_loop()

    def run(self) -> None:
        self.loop.run_forever()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)


_loop: _Loop | None = None
"""The event loop of all sync clients of this process."""
_starting = threading.Lock()


def _started_loop() -> _Loop:
    global _loop  # noqa: PLW0603 - one for the process
    with _starting:
        if _loop is None:
            _loop = _Loop()
            _loop.start()
        return _loop


def _forget_loop() -> None:
    """Start another loop in a child process, which has no threads of its parent."""
    global _loop, _starting
    _loop, _starting = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_loop)


def _run(work: Coroutine[Any, Any, T]) -> T:
    request = _started_loop().begin(work)
    thread = threading.current_thread()
    if isinstance(thread, Worker):
        thread.sends(request)
    try:
        return request.result()
    except BaseException:
        # After Ctrl-C, for example, nobody waits for it any more.
        request.cancel()
        raise


def _close(transport: AsyncTransport) -> None:
    """Close the connections of a client that nobody refers to any more."""
    if _loop is not None:
        closing = _loop.begin(transport.close())
        if threading.current_thread() is not _loop:
            concurrent.futures.wait([closing], _CLOSING_SECONDS)
