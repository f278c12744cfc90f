"""SIGTERM and SIGINT: a process that is asked to stop drains, and stops at once if it is asked again."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from selectors import EVENT_READ, BaseSelector
from typing import Any, Final

from discue.observability.logs import Log

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

SIGNAL_SECONDS: Final = 1.0
"""Signals within this time count as one: terminals, service managers and wrappers may send several for one request."""


def stop_on_signal(log: Log) -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets.

    Another one more than a second later exits the process with code 1.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    asked_at = 0.0

    def receive(name: str) -> None:
        nonlocal asked_at
        if not asked.is_set():
            asked_at = loop.time()
            log.info("drain_started", signal=name)
            asked.set()
        elif loop.time() - asked_at > SIGNAL_SECONDS:
            log.warning("stopped_immediately", signal=name)
            os._exit(1)

    _receive(receive)
    return asked


def stop_with_parent(log: Log, parent_pipe: int) -> asyncio.Event:
    """Return an event that is set when the parent drains or ends, or by a signal. Further signals are ignored.

    Terminals and service managers signal the workers as well as the parent: only the parent decides about a second
    signal.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(reason: str) -> None:
        if not stopping.is_set():
            log.info("drain_started", reason=reason)
            stopping.set()
            loop.remove_reader(parent_pipe)

    loop.add_reader(parent_pipe, stop, "parent")
    _receive(stop)
    return stopping


async def completed(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Run the work to its end, or cancel it when `stop` is set. Returns whether it has ended by itself."""
    doing, asked = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({doing, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if doing.done():
        doing.result()
        return True
    doing.cancel()
    await asyncio.wait({doing})
    return False


@contextmanager
def received_signals(selector: BaseSelector) -> Iterator[list[signal.Signals]]:
    """Yield the list that received signals are appended to. Signals, also of ended children, wake the selector."""
    received: list[signal.Signals] = []
    woken, waker = socket.socketpair()
    with woken, waker:
        for end in (woken, waker):
            end.setblocking(False)
        selector.register(woken, EVENT_READ, lambda: woken.recv(4_096))
        for number in STOPPING:
            signal.signal(number, lambda number, _: received.append(signal.Signals(number)))
        # The default handler of SIGCHLD would not write to the wakeup descriptor.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            yield received
        finally:
            signal.set_wakeup_fd(-1)


def _receive(receive: Callable[[str], None]) -> None:
    for number in STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, receive, number.name)
    # The parent blocks these signals before it forks, until the worker has its handlers.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
