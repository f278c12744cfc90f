"""The machine that a process runs on. A simulation replaces it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from discue.domain.clock import Clock, SystemClock
from discue.domain.ids import RandomBytes
from discue.sending.dialer import Resolve
from discue.store.engine import Engine
from discue.store.sqlite.connection import SerialThread, StartThread

# No secret. The operating system's generator would cost a system call per failed attempt, during which other threads
# take the interpreter.
_jitter = Random().random  # noqa: S311


@dataclass(frozen=True, slots=True)
class Machine:
    """The time, randomness, threads and name resolution of a process: all of its machine except connections and files.

    It is read while the parts of a process are built, and not afterwards.
    """

    clock: Clock = field(default_factory=SystemClock)
    """For leases, polls and the database. Tests may move the clock of the control plane, but not this one."""
    random_bytes: RandomBytes = os.urandom
    start_thread: StartThread = SerialThread
    """Starts the threads that write to SQLite."""
    resolve: Resolve | None = None
    """Resolves host names; None: the resolver of the system."""
    database: Engine | None = None
    """A database that several simulated machines share; None: the one that the settings name."""
    random: Callable[[], float] = _jitter
    """Spreads retries and probes."""
