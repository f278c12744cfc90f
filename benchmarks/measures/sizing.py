"""What does a machine need for a number of messages a day? They come in a third of it, with one delivery each."""

from typing import Any

from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.measures.samples import delivered
from benchmarks.product import Product, Queue
from benchmarks.table import Row, seen

MILLIONS_A_DAY = (1, 20)
_BUSY_SECONDS = 24 * 3_600 / 3


def measure(bench: Bench) -> list[Row]:
    return [*(_of_a_day(bench, millions) for millions in MILLIONS_A_DAY), _disk(bench)]


def _of_a_day(bench: Bench, millions: int) -> Row:
    rate = millions * 1e6 / _BUSY_SECONDS
    with bench.product(f"sizing-{millions}") as product, bench.open_loop() as ends:
        queue = product.queue()
        listener = product.listener(queue, f"http://127.0.0.1:{ends.hear()['port']}/")
        before = product.cpu_seconds()
        ends.tell(_wish(bench, product, queue, rate))
        heard = ends.hear()
        share = (product.cpu_seconds() - before) / bench.effort.latency_seconds
        product.wait_settled(listener)
        memory = product.memory().peak / 1e6
    if heard["received"] < heard["published"]:
        raise BenchmarkFailed(f"Messages were lost: {heard}")
    return seen(
        f"{millions} million messages a day, at {rate:.0f}/s",
        f"{share:.0%} of a core, {memory:.0f} MB, p99 to receipt {heard['receipts']['p99']:.1f} ms",
    )


def _wish(bench: Bench, product: Product, queue: Queue, rate: float) -> dict[str, Any]:
    return {
        "ports": [product.port],
        "paths": [queue.messages],
        "key": bench.key,
        "rate": rate,
        "seconds": bench.effort.latency_seconds,
    }


def _disk(bench: Bench) -> Row:
    """The size of a database of messages with one attempt each, when it is closed."""
    path = bench.folder / "sizing-disk.db"
    with bench.product(path.stem) as product:
        queue = product.queue()
        listener = product.listener(queue, bench.sink.url)
        product.rest()
        empty = path.stat().st_size
        delivered(bench, product, queue, (listener,))
        messages = product.counts(listener).acknowledged
    return seen(
        "a message of 300 bytes and its attempt, on SQLite", f"{(path.stat().st_size - empty) / messages:.0f} bytes"
    )
