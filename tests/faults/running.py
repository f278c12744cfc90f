"""A load that runs while somebody makes faults, and ends with them."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from tests.faults.recorder import Recorder

_BEAT_SECONDS = 0.1
_STALL_SECONDS = 0.5


async def under_load(tasks: "Sequence[asyncio.Future[None]]", work: Coroutine[Any, Any, None]) -> None:
    """Run `work` while the tasks run. A task that fails fails the run."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.wait([doing, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (doing, *tasks):
            if not task.done():
                task.cancel()
        results = await asyncio.gather(doing, *tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def watch_the_machine(recorder: Recorder, workers: Sequence[int]) -> None:
    """A machine that does not let this process run does not let the workers either: a fault, and nobody's."""
    loop = asyncio.get_running_loop()
    while True:
        due_at = loop.time() + _BEAT_SECONDS
        await asyncio.sleep(_BEAT_SECONDS)
        if loop.time() - due_at > _STALL_SECONDS:
            recorder.stalled(workers, loop.time() - due_at)


async def arrival(recorder: Recorder, patience_seconds: float) -> None:
    """Wait until no delivery is outstanding. The checker names those that still are."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_seconds):
            await recorder.settled.wait()
