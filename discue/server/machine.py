"""The machine that a process runs on. A simulation replaces it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from discue.domain.clock import Clock, SystemClock
from discue.domain.ids import RandomBytes
from discue.sending.dialer import Resolve
from discue.store.engine import Engine
from discue.store.sqlite.serial_thread import SerialThread, StartThread

# No secret. The operating system's generator would cost a system call per failed attempt, during which other threads
# take the interpreter.
_jitter = Random().random  # noqa: S311


@dataclass(frozen=True, slots=True)
class Machine:
    """Sources of time, randomness and threads: all that a process takes from its machine but connections and files."""

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
