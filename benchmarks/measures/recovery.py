"""How soon, and how fast, does a listener get what has waited for it while it was down?"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.product import Listener, Product, Queue
from benchmarks.table import Row, at_least, below, seen

_NAME = "recovery"
_WAITING = 10_000
_BATCH = 100
_FIRST_SECONDS = 2.0
_OF_NORMAL = 0.8
_PROBED_SECONDS = 40.0
_DRAINED_SECONDS = 90.0
_POLL_SECONDS = 0.01


def measure(bench: Bench) -> list[Row]:
    with bench.product(_NAME) as product:
        queue = product.queue()
        listener = product.listener(queue, bench.sink.url)
        normal = _drain_disabled(product, queue, listener)
        _until(lambda: product.liveness(listener).successes > 0, "No probe succeeds", _PROBED_SECONDS)
    _make_inactive(bench)
    bench.sink.go_down()
    try:
        with bench.product(_NAME) as product:
            first, rate = _recover(bench, product, queue, listener)
    finally:
        bench.sink.come_up()
    return [
        below(f"first of {_WAITING:,} messages after the first good probe", first, _FIRST_SECONDS, " s"),
        seen("draining after recovery", f"{rate:,.0f}/s; after being disabled {normal:,.0f}/s"),
        at_least("draining after recovery ÷ after being disabled", rate / normal, _OF_NORMAL),
    ]


def _make_inactive(bench: Bench) -> None:
    """As three probes would, within a minute."""
    with closing(sqlite3.connect(bench.folder / f"{_NAME}.db")) as connection, connection:
        connection.execute("UPDATE liveness SET state = 'inactive', in_a_row = -3")


def _recover(bench: Bench, product: Product, queue: Queue, listener: Listener) -> tuple[float, float]:
    """Seconds from the first good probe to the first message, and messages a second from then on."""
    _publish(product, queue)
    probes, earlier = product.liveness(listener).successes, product.counts(listener).acknowledged
    bench.sink.come_up()
    _until(lambda: product.liveness(listener).successes > probes, "No probe succeeds", _PROBED_SECONDS)
    probed_at = time.monotonic()
    _until(lambda: product.counts(listener).acknowledged > earlier, "No message comes", _DRAINED_SECONDS)
    first = time.monotonic() - probed_at
    return first, _drained(product, listener, probed_at)


def _drain_disabled(product: Product, queue: Queue, listener: Listener) -> float:
    """Messages a second, after a round that does not count."""
    rate = 0.0
    for _ in range(2):
        product.change(listener, status="disabled")
        _publish(product, queue)
        began = time.monotonic()
        product.change(listener, status="enabled")
        rate = _drained(product, listener, began)
    return rate


def _drained(product: Product, listener: Listener, began: float) -> float:
    _until(lambda: product.counts(listener).pending == 0, "Messages are not delivered", _DRAINED_SECONDS)
    return _WAITING / (time.monotonic() - began)


def _publish(product: Product, queue: Queue) -> None:
    messages = {"messages": [{"data": body.MESSAGE.decode()}] * _BATCH}
    for _ in range(_WAITING // _BATCH):
        product.ask("POST", f"{queue.messages}/batch", messages)


def _until(is_so: Callable[[], bool], failure: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise BenchmarkFailed(f"{failure} within {seconds:.0f} s.")
        time.sleep(_POLL_SECONDS)
