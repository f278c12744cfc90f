"""Measures of what slows a process down: an event loop that is late, and pauses of the garbage collector."""

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Final

from discue.observability.metrics import Measures

_LOOP_SECONDS: Final = 0.25


async def watch_loop(measures: Measures, monotonic: Callable[[], float]) -> None:
    """Measure again and again how late the event loop does what is due."""
    while True:
        started_at = monotonic()
        await asyncio.sleep(_LOOP_SECONDS)
        measures.loop_lag.observe(max(0.0, monotonic() - started_at - _LOOP_SECONDS))


class CollectorWatch:
    """Measures the pauses of garbage collections."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._started_at = 0.0

    def start(self) -> None:
        gc.callbacks.append(self._on_phase)

    def stop(self) -> None:
        gc.callbacks.remove(self._on_phase)

    def _on_phase(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._started_at = time.perf_counter()
        else:
            self._measures.gc_seconds += time.perf_counter() - self._started_at
