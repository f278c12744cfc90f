"""What do a million waiting messages cost on PostgreSQL, beside thousands of listeners?"""

from collections.abc import Sequence

from benchmarks.bench import Bench
from benchmarks.crowd import LISTENERS, Crowd
from benchmarks.measures.samples import Series, delivered
from benchmarks.medians import median, ratio
from benchmarks.product import Product, Queue
from benchmarks.table import Row, at_most, below, seen

_EMPTY, _FULL = "alone", "crowd"
_OF_EMPTY = 1.15
_START_SECONDS = 5.0
_MIB = 2**20
_SCRAPES = 21
_SCRAPE_MS = 20


class _Side:
    """One of two workers that do the same, one of them on a database that is full."""

    def __init__(self, bench: Bench, product: Product, queue: Queue) -> None:
        self._bench = bench
        self._queue = queue
        self._listener = product.listener(queue, bench.sink.url)
        self.product = product
        self.end_to_end = Series("end to end")

    def deliver_once(self, *, counts: bool) -> None:
        sample = delivered(self._bench, self.product, self._queue, (self._listener,))
        self.end_to_end.samples.extend([sample] * counts)


def measure(bench: Bench) -> list[Row]:
    crowd = _made(bench)
    with bench.product_on_postgres(_EMPTY) as empty, bench.product_on_postgres(_FULL) as full:
        sides = (_Side(bench, empty, empty.queue()), _Side(bench, full, crowd.queue))
        # It looks for messages that have waited too long when it starts, and then once a minute.
        full.rest()
        for counts in (False, *[True] * bench.effort.pairs):
            for side in sides:
                side.deliver_once(counts=counts)
        scrapes = [full.scrape() * 1_000 for _ in range(_SCRAPES)]
        more = (full.memory().resident - empty.memory().resident) / _MIB
    name = f"PostgreSQL, {bench.effort.waiting:,} waiting"
    return [
        below(
            f"{name}, {crowd.queues * LISTENERS:,} listeners, start to ready", full.start_seconds, _START_SECONDS, " s"
        ),
        seen(f"{name}, memory", f"{more:.0f} MB more"),
        at_most(f"{name}, {crowd.queues * LISTENERS:,} listeners, a scrape", median(scrapes), _SCRAPE_MS, " ms"),
        *_compared(f"{name}, end to end", [side.end_to_end for side in sides]),
    ]


def _made(bench: Bench) -> Crowd:
    with bench.product_on_postgres(_FULL) as product:
        queue = product.queue()
        listener = product.listener(queue, bench.sink.url)
        product.change(listener, status="disabled")
    queues = bench.effort.queues
    crowd = Crowd(queue, listener, queues, bench.effort.waiting // queues)
    crowd.make(lambda sql: bench.postgres.run(_FULL, sql))
    return crowd


def _compared(name: str, series: Sequence[Series]) -> list[Row]:
    empty, full = series
    server = f"{full.store_cost:.1f} µs CPU; with none {empty.store_cost:.1f}"
    return [
        seen(name, f"{full.cost:.1f} µs CPU; with none {empty.cost:.1f}"),
        at_most(f"{name} ÷ none", ratio(full.costs, empty.costs), _OF_EMPTY),
        seen(f"{name}, the PostgreSQL server itself", server),
    ]
