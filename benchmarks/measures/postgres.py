"""What does a message cost a worker on PostgreSQL, compared with SQLite, and what does it cost the server?"""

from collections.abc import Sequence

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.measures.samples import Series, answered, delivered
from benchmarks.medians import ratio
from benchmarks.product import Product
from benchmarks.table import Row, at_least, seen

_OF_SQLITE = 0.6


class _Side:
    """One of two products that do the same on different databases."""

    def __init__(self, bench: Bench, product: Product, engine: str) -> None:
        self._bench = bench
        self._product = product
        self._silent, self._heard = product.queue(), product.queue()
        self._listener = product.listener(self._heard, bench.sink.url)
        self.publish = Series(f"publish on {engine}")
        self.end_to_end = Series(f"end to end on {engine}")

    def publish_once(self, *, counts: bool) -> None:
        load = self._product.load(self._silent, body.single(body.MESSAGE))
        self.publish.samples.extend([answered(self._bench, self._product, load)] * counts)

    def deliver_once(self, *, counts: bool) -> None:
        sample = delivered(self._bench, self._product, self._heard, (self._listener,))
        self.end_to_end.samples.extend([sample] * counts)


def measure(bench: Bench) -> list[Row]:
    with bench.product("engine") as embedded, bench.product_on_postgres("engine") as apart:
        sides = (_Side(bench, embedded, "SQLite"), _Side(bench, apart, "PostgreSQL"))
        for counts in (False, *[True] * bench.effort.pairs):
            for side in sides:
                side.publish_once(counts=counts)
            for side in sides:
                side.deliver_once(counts=counts)
    sqlite, postgres = sides
    return [
        *_compared("publish", (sqlite.publish, postgres.publish)),
        *_compared("end to end", (sqlite.end_to_end, postgres.end_to_end)),
    ]


def _compared(what: str, series: Sequence[Series]) -> list[Row]:
    sqlite, postgres = series
    return [
        sqlite.row(),
        postgres.row(),
        seen(f"{what}, the PostgreSQL server itself", f"{postgres.store_cost:.1f} µs CPU a message"),
        at_least(f"{what}, CPU of SQLite ÷ of PostgreSQL", ratio(sqlite.costs, postgres.costs), _OF_SQLITE),
    ]
