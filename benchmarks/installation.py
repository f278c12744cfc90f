"""Several workers on one PostgreSQL database, and where their lanes are."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.product import Product, Queue

_POLL_SECONDS = 0.05
_SPREAD_SECONDS = 30.0
_SETTLED_SECONDS = 120.0

_OWNERS = """
    SELECT queue.public_id, cursor.owner FROM cursor
    JOIN queue ON queue.organization = cursor.organization AND queue.id = cursor.queue"""
_UNSETTLED = """
    SELECT count(*) FROM cursor
    JOIN queue_head ON queue_head.organization = cursor.organization AND queue_head.queue = cursor.queue
    WHERE cursor.position < queue_head.head OR cursor.retrying > 0"""


class Installation:
    """Begins with a number of workers. Leaving ends those that are left."""

    def __init__(self, bench: Bench, name: str, workers: int) -> None:
        self._bench = bench
        self._name = name
        self._count = workers
        self.workers: list[Product] = []
        self.queues: list[Queue] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self.add()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def add(self) -> Product:
        """One worker more."""
        worker = self._bench.product_on_postgres(self._name)
        self.workers.append(worker)
        return worker

    def remove(self, worker: Product) -> None:
        """One that has ended."""
        self.workers.remove(worker)
        worker.stop()

    def spread(self, queues: int, listeners: int, url: str) -> None:
        """Make queues with listeners, and wait until their lanes are on all workers."""
        for _ in range(queues):
            queue = self.workers[0].queue()
            self.queues.append(queue)
            for _ in range(listeners):
                self.workers[0].listener(queue, url)
        self.wait_spread(self.workers)

    def wait_spread(self, workers: Sequence[Product]) -> None:
        """Until every lane is on one of these workers, and each of them has some."""
        wanted = {worker.session_id for worker in workers}
        _until(lambda: {owner for _, owner in self._owners()} == wanted, "The lanes are not spread", _SPREAD_SECONDS)

    def queues_on(self, worker: Product) -> list[Queue]:
        """Those of which it has lanes."""
        theirs = {queue for queue, owner in self._owners() if owner == worker.session_id}
        return [queue for queue in self.queues if queue.id in theirs]

    def wait_settled(self) -> None:
        """Until nothing waits for any listener. The database is asked, no worker."""
        _until(lambda: self.number(_UNSETTLED) == 0, "Messages are not delivered", _SETTLED_SECONDS)

    def number(self, sql: str) -> int:
        """What a statement says that answers one number."""
        return self._bench.postgres.number(self._name, sql)

    def cpu_seconds(self) -> float:
        """Of all workers together."""
        return sum(worker.cpu_seconds() for worker in self.workers)

    def rest(self) -> None:
        for worker in self.workers:
            worker.rest()

    def wish(self, ports: Sequence[Product], queues: Sequence[Queue], rate: float, seconds: float) -> dict[str, Any]:
        """Publishing to these queues by way of these workers, for an open loop."""
        return {
            "ports": [worker.port for worker in ports],
            "paths": [queue.messages for queue in queues],
            "key": self._bench.key,
            "rate": rate,
            "seconds": seconds,
        }

    def _owners(self) -> list[tuple[str, int]]:
        """Each lane's queue and the session id of the worker that owns it; 0 if none does."""
        return [(str(queue), int(owner or 0)) for queue, owner in self._bench.postgres.run(self._name, _OWNERS)]

    def _stop(self) -> None:
        for worker in self.workers:
            worker.stop()


def _until(is_so: Callable[[], bool], failure: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise BenchmarkFailed(f"{failure} within {seconds:.0f} s.")
        time.sleep(_POLL_SECONDS)
