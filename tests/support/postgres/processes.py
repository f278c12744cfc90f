"""A process and what it started, read from /proc: a server is a family of processes."""

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PATIENCE_SECONDS = 30.0

_STEP_SECONDS = 0.005


class Stat(NamedTuple):
    state: str
    parent: int

    @property
    def lives(self) -> bool:
        """A zombie does not: it has given everything back."""
        return self.state not in ("Z", "X", "")


def until(is_so: Callable[[], bool], what: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Look again and again, for what nothing signals. Raises TimeoutError that names what did not come."""
    end = time.monotonic() + patience_seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {patience_seconds} s: {what}")
        time.sleep(_STEP_SECONDS)


def lives(pid: int) -> bool:
    return _stat(pid).lives


def children_of(parent: int) -> set[int]:
    """The living processes that it started itself."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return {pid for pid in pids if (stat := _stat(pid)).parent == parent and stat.lives}


def stop_family(parent: int) -> set[int]:
    """SIGSTOP for a process and its children, which are returned: while it is stopped, there come no others."""
    os.kill(parent, signal.SIGSTOP)
    until(lambda: _stat(parent).state == "T" or not lives(parent), f"process {parent} stops")
    children = children_of(parent)
    signal_all(children, signal.SIGSTOP)
    return children


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _stat(pid: int) -> Stat:
    try:
        # The name before it, in parentheses, may hold anything.
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return Stat("", 0)
    return Stat(state, int(parent))
