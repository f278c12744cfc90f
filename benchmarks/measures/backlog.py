"""What do a million messages cost that wait for a listener which does not take them, and how fast do they go?"""

import socket
import time

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.measures import latency
from benchmarks.measures.samples import Sample, Series, answered, delivered
from benchmarks.medians import ratio
from benchmarks.product import Listener, Product, Queue
from benchmarks.table import Row, at_least, at_most, below, seen

_OF_EMPTY = 1.15
_MORE_MIB = 100.0
_START_SECONDS = 2.0
_DRAIN_OF_END_TO_END = 0.85
_DRAIN_SECONDS = 15.0
_FIRST_ACKNOWLEDGED_SECONDS = 60.0
_POLL_SECONDS = 0.05
_MIB = 2**20


class _Side:
    """One of two servers that do the same: one with messages waiting, one without."""

    def __init__(self, product: Product, queue: Queue) -> None:
        self.product = product
        self.queue = queue
        self.listeners: tuple[Listener, ...] = ()


def measure(bench: Bench, end_to_end_rate: float) -> list[Row]:
    """`end_to_end_rate` is what draining is compared with, in messages a second."""
    queue, dead = _fill(bench)
    with bench.product("empty") as empty, bench.product("waiting") as full:
        starts = [full.start_seconds]
        sides = (_Side(empty, empty.queue()), _Side(full, queue))
        rows = [*_while_disabled(bench, sides), *_while_refusing(bench, sides, dead)]
        full.change(dead, notify_url=bench.sink.url, status="disabled")
    with bench.product("waiting") as full:
        starts.append(full.start_seconds)
        rows.append(below(f"{_waiting(bench)}, restart to ready", max(starts), _START_SECONDS, " s"))
        return [*rows, *_drain(full, dead, end_to_end_rate)]


def _fill(bench: Bench) -> tuple[Queue, Listener]:
    with bench.product("waiting") as product:
        queue = product.queue()
        dead = product.listener(queue, bench.sink.url)
        product.change(dead, status="disabled")
    bench.fill("waiting", queue.id, bench.effort.waiting)
    return queue, dead


def _while_disabled(bench: Bench, sides: tuple[_Side, _Side]) -> list[Row]:
    published = [_publish(bench, side) for side in sides]
    for _ in range(bench.effort.pairs):
        for series, side in zip(published, sides, strict=True):
            series.samples.append(_publish_once(bench, side))
    for side in sides:
        side.listeners = (side.product.listener(side.queue, bench.sink.url),)
    costs = _deliver_on(bench, sides, "disabled listener")
    more = (sides[1].product.memory().resident - sides[0].product.memory().resident) / _MIB
    return [
        *_compared(f"publish, {_waiting(bench)} for a disabled listener", published),
        *costs,
        below(f"{_waiting(bench)}, memory", more, _MORE_MIB, " MB more"),
        *latency.at_fixed_rate(bench, sides[1].product, sides[1].queue, f", {_waiting(bench)}"),
    ]


def _publish(bench: Bench, side: _Side) -> Series:
    """An empty series, after a round that does not count."""
    _publish_once(bench, side)
    return Series("publish")


def _publish_once(bench: Bench, side: _Side) -> Sample:
    return answered(bench, side.product, side.product.load(side.queue, body.single(body.MESSAGE)))


def _while_refusing(bench: Bench, sides: tuple[_Side, _Side], dead: Listener) -> list[Row]:
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        port = bound_but_deaf.getsockname()[1]
        full = sides[1].product
        full.change(dead, notify_url=f"http://127.0.0.1:{port}/", status="enabled")
        full.rest()
        return _deliver_on(bench, sides, "refusing listener")


def _deliver_on(bench: Bench, sides: tuple[_Side, _Side], why: str) -> list[Row]:
    series = [Series("delivery"), Series("delivery")]
    for warm in (False, *[True] * bench.effort.pairs):
        for one, side in zip(series, sides, strict=True):
            sample = delivered(bench, side.product, side.queue, side.listeners)
            one.samples.extend([sample] * warm)
    return _compared(f"end to end, {_waiting(bench)} for a {why}", series)


def _compared(name: str, series: list[Series]) -> list[Row]:
    empty, full = series
    return [
        seen(name, f"{full.cost:.1f} µs CPU; with none {empty.cost:.1f}"),
        at_most(f"{name} ÷ none", ratio(full.costs, empty.costs), _OF_EMPTY),
    ]


def _waiting(bench: Bench) -> str:
    return f"{bench.effort.waiting:,} waiting"


def _drain(full: Product, dead: Listener, end_to_end_rate: float) -> list[Row]:
    begun = _begin_draining(full, dead)
    before, began = full.cpu_seconds(), time.monotonic()
    until = began + _DRAIN_SECONDS
    counts = full.counts(dead)
    while counts.pending and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        counts = full.counts(dead)
    seconds, used = time.monotonic() - began, full.cpu_seconds() - before
    messages = counts.acknowledged - begun
    return [
        seen("draining", f"{messages / seconds:,.0f}/s, {used / messages * 1e6:.1f} µs CPU a message"),
        at_least("draining ÷ end to end", messages / seconds / end_to_end_rate, _DRAIN_OF_END_TO_END),
    ]


def _begin_draining(full: Product, dead: Listener) -> int:
    """Enable the listener; how many it had acknowledged when the first came."""
    earlier = full.counts(dead).acknowledged
    full.change(dead, status="enabled")
    until = time.monotonic() + _FIRST_ACKNOWLEDGED_SECONDS
    while (acknowledged := full.counts(dead).acknowledged) == earlier and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    return acknowledged
