"""The field of the nemesis: the workers, their database, and the history that records the faults."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.faults.fleet import LEASE_SECONDS, Fleet, Worker
from tests.faults.history import Fault
from tests.faults.load import Load
from tests.support.postgres.standby import Pair

_CALM_SECONDS = LEASE_SECONDS + 2.0
_ARRIVAL_SECONDS = 30.0


class Field:
    """Faults that do not get into each other's way may happen at once: a worker is held by one of them at a time."""

    def __init__(self, fleet: Fleet, pair: Pair, load: Load, choices: random.Random) -> None:
        self.fleet = fleet
        self.pair = pair
        self.load = load
        self.random = choices
        self._held: set[int] = set()

    @contextmanager
    def a_worker(self) -> Iterator[Worker]:
        """Any that nobody holds."""
        worker = self.random.choice([each for each in self.fleet.members if each.number not in self._held])
        with self.holding(worker):
            yield worker

    @contextmanager
    def holding(self, worker: Worker) -> Iterator[None]:
        self._held.add(worker.number)
        try:
            yield
        finally:
            self._held.discard(worker.number)

    def fault_of(self, kind: str, *workers: Worker) -> AbstractContextManager[Fault]:
        """Record a fault: the requests in flight at these workers may be repeated."""
        return self.load.recorder.fault(kind, [worker.number for worker in workers])

    def fault_of_all(self, kind: str) -> AbstractContextManager[Fault]:
        return self.fault_of(kind, *self.fleet.members)

    async def lasts(self, shortest_leases: float, longest_leases: float) -> None:
        """How long a fault goes on, in lengths of a lease."""
        await asyncio.sleep(LEASE_SECONDS * self.random.uniform(shortest_leases, longest_leases))

    async def calm(self) -> None:
        """Wait until all workers are ready and the effects of earlier faults are over."""
        await self.fleet.until_ready()
        await asyncio.sleep(_CALM_SECONDS)
        try:
            async with asyncio.timeout(_ARRIVAL_SECONDS):
                await self.load.recorder.room.wait()
        except TimeoutError:
            raise AssertionError(f"deliveries do not go on {_ARRIVAL_SECONDS} s after all workers are ready") from None

    async def until_all_are_well(self) -> None:
        """Wait until the service takes no listener for inactive. The load must be gentle."""
        try:
            async with asyncio.timeout(_ARRIVAL_SECONDS):
                await self.load.recovered.wait()
        except TimeoutError:
            raise AssertionError(f"still inactive after {_ARRIVAL_SECONDS} s: {self.load.interrupted}") from None
