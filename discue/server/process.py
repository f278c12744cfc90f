"""The process of a worker: its limits, garbage collection pauses, and the lock and free space of a SQLite database."""

import asyncio
import errno
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from discue.domain.errors import StoreUnusable
from discue.observability.logs import Log
from discue.observability.metrics import Measures
from discue.store.sqlite.connection import alone_with

_LOOP_SECONDS: Final = 0.25

_ROOM_BYTES: Final = 1 << 20
"""Enough for a new database with its journal. A migration of a large one needs more."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


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
    sys.setswitchinterval(0.0005)
    gc.set_threshold(20_000, 20, 50)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def watch_loop(measures: Measures, monotonic: Callable[[], float]) -> None:
    """Measure again and again how late the event loop does what is due."""
    while True:
        started_at = monotonic()
        await asyncio.sleep(_LOOP_SECONDS)
        measures.loop_lag.observe(max(0.0, monotonic() - started_at - _LOOP_SECONDS))


@contextmanager
def collections_measured(measures: Measures) -> Iterator[None]:
    """Measure the pauses of garbage collections for the duration of the block."""
    started_at = 0.0

    def on_phase(phase: str, _: dict[str, int]) -> None:
        nonlocal started_at
        if phase == "start":
            started_at = time.perf_counter()
        else:
            measures.gc_seconds += time.perf_counter() - started_at

    gc.callbacks.append(on_phase)
    try:
        yield
    finally:
        gc.callbacks.remove(on_phase)


def lacks_room(database: Path) -> str:
    """Return which limit keeps a file of that size from being written next to the database, or "".

    Writes a temporary file. Other errors are ignored here: opening the database reports them.
    """
    try:
        # Unbuffered: closing a buffered file would try, and fail, to write once more.
        with tempfile.TemporaryFile(dir=database.parent, buffering=0) as file:
            written = 0
            while written < _ROOM_BYTES:
                written += file.write(bytes(_ROOM_BYTES - written))
    except OSError as error:
        return os.strerror(error.errno) if error.errno in _FULL else ""
    return ""


async def wait_for_room(database: Path, log: Log, stop: asyncio.Event) -> bool:
    """Wait until there is room. Returns False if the process was asked to stop instead."""
    has_waited = False
    while reason := lacks_room(database):
        log.warning("disk_full", database=str(database), reason=reason, detail="Free 1 MiB: the start waits for it.")
        has_waited = True
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await stop.wait()
        if stop.is_set():
            return False
    if has_waited:
        log.info("disk_has_room", database=str(database))
    return True
