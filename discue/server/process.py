"""The operating system process of a worker: its limits, its garbage collector, and its lock on a SQLite database."""

import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from discue.domain.errors import StoreUnusable
from discue.store.sqlite.connection import alone_with

_SWITCH_INTERVAL_SECONDS: Final = 0.0005
_YOUNGEST_GENERATION: Final = 20_000


@contextmanager
def alone_on(database: Path | None) -> Iterator[None]:
    """Lock a SQLite database for this process. Raises StoreUnusable if another process serves it."""
    if database is None:
        yield
        return
    refusal = StoreUnusable(f"Another process serves {database}. Stop it, or use another database.")
    with alone_with(database, ".serving", refusal):
        yield


def freeze_memory() -> None:
    """Keep the garbage collector from traversing what exists now: in a process that only serves, it stays."""
    gc.collect()
    gc.freeze()


def prepare_process() -> None:
    """Tune the interpreter and the limit of open files for a busy worker. Call this once, before the event loop.

    The writer thread acquires the GIL from a busy event loop dozens of times per commit, each of which can take 5 ms
    at the default switch interval. Each connection is an open file, so the limit is raised to the maximum.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    gc.set_threshold(_YOUNGEST_GENERATION, 20, 50)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
