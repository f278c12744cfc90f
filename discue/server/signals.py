"""SIGTERM and SIGINT: the first asks for a drain, the second ends the process at once."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from selectors import EVENT_READ, BaseSelector
from typing import Final

from discue.observability.logs import Log

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

_ENDED_AT_ONCE: Final = 1
_WAKINGS_READ: Final = 4_096


def stop_asked(log: Log) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT from now on. A second one ends the process at once, with exit code 1."""
    asked = asyncio.Event()

    def receive(name: str) -> None:
        if asked.is_set():
            log.warning("stopped_at_once", signal=name)
            os._exit(_ENDED_AT_ONCE)
        log.info("draining", signal=name)
        asked.set()

    _receive(receive)
    return asked


def stop_told(log: Log, parent_pipe: int) -> asyncio.Event:
    """For one of several workers: set by the end of its leash, or by a signal, however many there are.

    A terminal and a service manager signal the workers as well as their parent: it is the parent that counts.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(reason: str) -> None:
        if not told.is_set():
            log.info("draining", reason=reason)
            told.set()
            loop.remove_reader(parent_pipe)

    loop.add_reader(parent_pipe, stop, "parent")
    _receive(stop)
    return told


@contextmanager
def signals_heard(selector: BaseSelector) -> Iterator[list[signal.Signals]]:
    """For a process without an event loop: which of them came. They wake the selector, and so do ends of children."""
    heard: list[signal.Signals] = []
    woken, waker = socket.socketpair()
    with woken, waker:
        for end in (woken, waker):
            end.setblocking(False)
        selector.register(woken, EVENT_READ, lambda: woken.recv(_WAKINGS_READ))
        for number in STOPPING:
            signal.signal(number, lambda number, _: heard.append(signal.Signals(number)))
        # With the handler that the system has, nothing would be woken.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            yield heard
        finally:
            signal.set_wakeup_fd(-1)


def _receive(receive: Callable[[str], None]) -> None:
    for number in STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, receive, number.name)
    # A parent holds them back from what it forks, until they would be heard.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
