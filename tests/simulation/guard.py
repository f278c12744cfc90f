"""Guards against what would make two runs of a seed differ: the real clock, entropy, threads and sockets.

They stay until the process ends: each run has a process of its own.
"""

import gc
import os
import random
import secrets
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

EPOCH_SECONDS: Final = 1_790_000_000
"""The wall-clock time at which each run starts: in September 2026."""

_CLOCKS: Final = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
_PRODUCT: Final = "discue"


class Leak(AssertionError):
    """Code under simulation has used something of the real machine, past the seams."""


def guard(now: Callable[[], float], choices: random.Random) -> None:
    """Replace the clocks of this process by a virtual one, its random choices by seeded ones, and forbid the rest.

    The product must take time, randomness and threads as arguments: its own use of them raises Leak. The test's own
    code may read the clock, which is the virtual one.
    """
    # Collections would run at moments that depend on what ran before.
    gc.disable()
    for name in _CLOCKS:
        setattr(time, name, _clock(name, now))
    random.seed(choices.random())
    for place, name in (
        (os, "urandom"),
        (secrets, "token_bytes"),
        (secrets, "token_hex"),
        (secrets, "token_urlsafe"),
        (threading.Thread, "start"),
        (socket, "socket"),
        (socket, "getaddrinfo"),
        (time, "sleep"),
    ):
        setattr(place, name, _forbidden(f"{place.__name__}.{name}"))


def guard_poll(poll: Callable[[], Any]) -> None:
    """Replace `select.poll` by one that knows the simulated connections."""
    select.poll = poll  # type: ignore[misc,assignment]


def _clock(name: str, now: Callable[[], float]) -> Callable[[], float]:
    start = EPOCH_SECONDS if name.startswith("time") else 0
    is_whole = name.endswith("_ns")

    def read() -> float:
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))
        if caller.partition(".")[0] == _PRODUCT:
            raise Leak(f"{caller} reads time.{name}: it must take a clock")
        seconds = start + now()
        return round(seconds * 1_000_000_000) if is_whole else seconds

    return read


def _forbidden(name: str) -> Callable[..., NoReturn]:
    def refuse(*_args: object, **_named: object) -> NoReturn:
        raise Leak(f"{name} is used while a simulation runs")

    return refuse
