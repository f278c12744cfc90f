"""Workers that die, and workers that stand still and do not know."""

import asyncio
import signal
from contextlib import suppress

from tests.faults.fleet import Worker
from tests.faults.nemesis.field import Field

_STARTING_SECONDS = 1.0


async def kill(field: Field) -> None:
    """SIGKILL. The next process comes before its lease is over, or after."""
    with field.a_worker() as worker:
        await _kill(field, worker)
        await field.lasts(0, 2)
        if field.random.random() < 0.25:
            await _kill_while_starting(field, worker)
        await worker.start()


async def kill_two(field: Field) -> None:
    """Two at once: the third takes over from both."""
    with field.a_worker() as one, field.a_worker() as other:
        with field.fault_of("kill of two", one, other):
            await one.product.kill()
            await other.product.kill()
        await field.lasts(0, 2)
        await other.start()
        await one.start()


async def short_pause(field: Field) -> None:
    """SIGSTOP and SIGCONT before its lease is over."""
    await _pause(field, "pause", 0.1, 0.6)


async def long_pause(field: Field) -> None:
    """SIGSTOP, and SIGCONT when others have taken over."""
    await _pause(field, "pause beyond lease", 1.5, 2.5)


async def _pause(field: Field, kind: str, shortest_leases: float, longest_leases: float) -> None:
    with field.a_worker() as worker, field.fault_of(kind, worker):
        worker.product.send(signal.SIGSTOP)
        try:
            await field.lasts(shortest_leases, longest_leases)
        finally:
            worker.product.send(signal.SIGCONT)


async def _kill(field: Field, worker: Worker) -> None:
    with field.fault_of("kill", worker):
        await worker.product.kill()


async def _kill_while_starting(field: Field, worker: Worker) -> None:
    await worker.begin()
    with suppress(TimeoutError):
        async with asyncio.timeout(field.random.uniform(0.1, _STARTING_SECONDS)):
            await worker.product.ready()
    await _kill(field, worker)
