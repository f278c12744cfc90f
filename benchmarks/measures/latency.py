"""How long does a message take from its publish to its listener?"""

from typing import Any

from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.product import Product, Queue
from benchmarks.table import Row, below, seen

RATE = 1_000
_P50_MS = 5.0
_P99_MS = 25.0


def measure(bench: Bench) -> list[Row]:
    with bench.product("latency") as product:
        return at_fixed_rate(bench, product, product.queue(), "")


def at_fixed_rate(bench: Bench, product: Product, queue: Queue, where: str) -> list[Row]:
    """An open loop: messages leave when they are due, however long the answers to earlier ones take."""
    name = f"publish to receipt at {RATE:,}/s{where}"
    with bench.open_loop() as ends:
        listener = product.listener(queue, f"http://127.0.0.1:{ends.hear()['port']}/")
        before = product.cpu_seconds()
        ends.tell(_wish(bench, product, queue))
        seen_by_both = ends.hear()
        used = product.cpu_seconds() - before
        product.wait_settled(listener)
        product.change(listener, status="disabled")
    if seen_by_both["received"] < seen_by_both["published"]:
        raise BenchmarkFailed(f"Messages were lost: {seen_by_both}")
    receipts, answers = seen_by_both["receipts"], seen_by_both["answers"]
    return [
        below(f"{name}, p50", receipts["p50"], _P50_MS, " ms"),
        below(f"{name}, p99", receipts["p99"], _P99_MS, " ms"),
        seen(f"{name}, longest", f"{receipts['max']:.1f} ms; answers {_spread(answers)}"),
        seen(f"{name}, CPU", f"{used / seen_by_both['published'] * 1e6:.0f} µs a message"),
    ]


def _wish(bench: Bench, product: Product, queue: Queue) -> dict[str, Any]:
    return {
        "ports": [product.port],
        "paths": [queue.messages],
        "key": bench.key,
        "rate": RATE,
        "seconds": bench.effort.latency_seconds,
    }


def _spread(took: dict[str, float]) -> str:
    return f"p50 {took['p50']:.1f}, p99 {took['p99']:.1f}, longest {took['max']:.1f} ms"
