"""Faults of workers: they die, stand still, are cut off from the database, or are restarted; wall clocks are wrong."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

from tests.faults.fleet import LEASE_SECONDS, Worker
from tests.faults.nemesis.field import Field
from tests.support.postgres.tapped import Talk, between_prepare_and_execute, with_locks

_STARTING_SECONDS = 1.0
_HOUR_MS = 3_600_000
_UNDER_WAY_SECONDS_IN_LEASES = 0.4


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


async def freeze(field: Field) -> None:
    """Drop what a worker and its database send each other, without an error."""
    with field.a_worker() as worker, field.fault_of("cut off in silence", worker):
        for link in worker.links:
            link.freeze()
        try:
            await field.lasts(0.3, 3)
        finally:
            for link in worker.links:
                link.thaw()


async def freeze_between_steps(field: Field) -> None:
    """Cut a worker off in silence when the database has prepared a statement, and waits for its execution."""
    with field.a_worker() as worker, field.fault_of("cut off between prepare and execute", worker):
        await _freeze_at(field, worker, between_prepare_and_execute)


async def freeze_with_locks(field: Field) -> None:
    """Cut a worker off in silence in the middle of a transaction."""
    with field.a_worker() as worker, field.fault_of("cut off with locks", worker):
        await _freeze_at(field, worker, with_locks)


async def freeze_after_start(field: Field) -> None:
    """Cut a worker off in silence as soon as it does something in the database."""
    with field.a_worker() as worker:
        await _kill(field, worker)
        moment = field.random.choice((between_prepare_and_execute, with_locks))
        with field.fault_of("cut off after start", worker):
            await worker.begin()
            await _freeze_at(field, worker, moment)
            await worker.product.kill()
        await worker.start()


async def _freeze_at(field: Field, worker: Worker, moment: Callable[[Talk, bytes], bool]) -> None:
    """Freeze a worker's connections at a moment that comes within a lease, or at the end of that."""
    for link in worker.links:
        link.stopped.clear()
        link.stops_after = moment
    waiting = [asyncio.ensure_future(link.stopped.wait()) for link in worker.links]
    await asyncio.wait(waiting, timeout=LEASE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()
    for link in worker.links:
        link.stops_after = None
        link.freeze()
    try:
        await field.lasts(0.3, 3)
    finally:
        for link in worker.links:
            link.thaw()


async def refuse(field: Field) -> None:
    """Reset a worker's connections and refuse new ones."""
    with field.a_worker() as worker, field.fault_of("cut off", worker):
        for link in worker.links:
            await link.cut()
        try:
            await field.lasts(0.3, 3)
        finally:
            for link in worker.links:
                await link.mend()


async def clock_ahead(field: Field) -> None:
    """A wall clock is an hour ahead: that touches no worker, so nothing may be repeated.

    Meanwhile no listener fails: the next attempt or probe would be due in an hour of that clock.
    """
    field.load.is_gentle = True
    try:
        await field.lasts(_UNDER_WAY_SECONDS_IN_LEASES, _UNDER_WAY_SECONDS_IN_LEASES)
        await field.until_all_are_well()
        await _be_wrong(field, "clock ahead", _HOUR_MS)
        await field.lasts(_UNDER_WAY_SECONDS_IN_LEASES, _UNDER_WAY_SECONDS_IN_LEASES)
    finally:
        field.load.is_gentle = False


async def clock_behind(field: Field) -> None:
    """A wall clock is an hour behind."""
    await _be_wrong(field, "clock behind", -_HOUR_MS)


async def _be_wrong(field: Field, kind: str, ahead_ms: int) -> None:
    with field.a_worker() as worker, field.fault_of(kind):
        worker.clock.set(ahead_ms)
        try:
            await field.lasts(1, 2)
        finally:
            worker.clock.set(0)


async def rolling_restart(field: Field) -> None:
    """Stop and start the workers one after another: nothing may be repeated, nothing may wait."""
    await field.calm()
    with field.fault_of("rolling restart"):
        for worker in field.fleet.members:
            await _exchange(field, worker)


async def rolling_upgrade(field: Field) -> None:
    """Restart the workers one after another with a program that knows one more migration."""
    await field.calm()
    with field.fault_of("rolling upgrade"):
        for worker in field.fleet.members:
            worker.migrations += 1
            await _exchange(field, worker)


async def _exchange(field: Field, worker: Worker) -> None:
    with field.holding(worker), field.fault_of("restart"):
        code = await worker.product.stop()
        assert code == 0, f"worker {worker.number} ended with {code}:\n{''.join(worker.product.lines)}"
        await worker.start()
        await worker.until_ready()
