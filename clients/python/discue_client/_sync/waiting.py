"""Waiting and background work, on threads. `_async/waiting.py` has the same names for an event loop."""

from __future__ import annotations

import concurrent.futures
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from discue_client.wire import HttpClient

T = TypeVar("T")

Lock = threading.RLock
"""Reentrant: a signal handler may run in a thread that holds it."""
Condition = threading.Condition
Future = concurrent.futures.Future
LONGEST_POLL = 2.0
"""How long a request may wait for messages, in seconds: it cannot be cancelled when the consumer stops."""

sleep = time.sleep


class Worker(threading.Thread):
    """A thread that keeps the exception that ended it."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - `finish` raises it
            self.error = error


def wait(condition: threading.Condition, seconds: float | None = None) -> None:
    """Wait until the condition, which is held, is notified or the time has passed."""
    if seconds is None or seconds > 0:
        condition.wait(seconds)


def within(seconds: float, result: T) -> T:  # noqa: ARG001 - each read of a socket has a timeout of its own
    """Return the result of work that is over."""
    return result


def close_with(owner: object, http: HttpClient) -> None:
    """Close the connections when nobody refers to the owner any more."""
    weakref.finalize(owner, http.close)


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


def finish(worker: Worker, *, interrupt: bool = False) -> None:  # noqa: ARG001 - threads end by themselves
    """Wait until the work has ended. Its exception is raised."""
    worker.join()
    if worker.error is not None:
        raise worker.error
