"""What does the first request to a listener cost, and what does knowing it keep in memory?"""

import time

import msgspec

from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.medians import median, noise
from benchmarks.product import Product, Queue
from benchmarks.sink import origin_host
from benchmarks.table import Row, below, seen

_FIRST_OF_KNOWN = 2.0
_KIB_AN_ORIGIN = 30.0
_POLL_SECONDS = 0.02
_DELIVERY_SECONDS = 60.0
_AT_ONCE = 512
_KNOWN_MESSAGES = 2


class _Contact(msgspec.Struct, frozen=True):
    """Microseconds of CPU a delivery to new and to known origins, and bytes kept for each."""

    first_us: float
    known_us: float
    kept_bytes: float


def measure(bench: Bench) -> list[Row]:
    queue = _with_listeners(bench)
    contacts = [_contact(bench, queue) for _ in range(bench.effort.pairs)]
    first, known = [contact.first_us for contact in contacts], [contact.known_us for contact in contacts]
    kept = median(contact.kept_bytes for contact in contacts) / 1_024
    return [
        seen("delivery to a known origin", f"{median(known):.1f} µs CPU, noise {noise(known):.1%}"),
        seen("first delivery to an origin", f"{median(first):.1f} µs CPU, noise {noise(first):.1%}"),
        below(
            f"first ÷ known, {bench.effort.origins:,} origins",
            median(one / other for one, other in zip(first, known, strict=True)),
            _FIRST_OF_KNOWN,
        ),
        below("memory an origin", kept, _KIB_AN_ORIGIN, " kB"),
        seen("first ÷ known, sender alone", f"{_sender_ratio(bench):.2f}"),
    ]


def _with_listeners(bench: Bench) -> Queue:
    with bench.product("origins") as product:
        queue = product.queue()
        for index in range(bench.effort.origins):
            product.listener(queue, f"http://{origin_host(index)}:{bench.sink.port}/")
    return queue


def _contact(bench: Bench, queue: Queue) -> _Contact:
    """A server that has just started knows no origin."""
    origins = bench.effort.origins
    with bench.product("origins") as product:
        product.rest()
        before = product.memory().resident
        first = _deliver(bench, product, queue)
        kept = product.memory().resident - before
        known = sum(_deliver(bench, product, queue) for _ in range(_KNOWN_MESSAGES)) / _KNOWN_MESSAGES
    return _Contact(first / origins * 1e6, known / origins * 1e6, kept / origins)


def _deliver(bench: Bench, product: Product, queue: Queue) -> float:
    """Seconds of CPU to deliver one message to all, and to store that."""
    before, expected = product.cpu_seconds(), bench.sink.count() + bench.effort.origins
    product.publish(queue, {"kind": "invoice.paid"})
    until = time.monotonic() + _DELIVERY_SECONDS
    while bench.sink.count() < expected:
        if time.monotonic() > until:
            raise BenchmarkFailed("Not every origin got the message.")
        time.sleep(_POLL_SECONDS)
    product.rest()
    return product.cpu_seconds() - before


def _sender_ratio(bench: Bench) -> float:
    origins, ratios = bench.effort.origins, []
    wish = {"port": bench.sink.port, "requests": origins, "origins": origins, "at_once": _AT_ONCE}
    for _ in range(bench.effort.pairs):
        with bench.sender_alone() as sender:
            sender.tell({**wish, "requests": 2_000, "origins": 1})
            sender.hear()
            sender.tell(wish)
            first = sender.hear()["cpu_seconds"]
            sender.tell(wish)
            ratios.append(first / sender.hear()["cpu_seconds"])
    return float(median(ratios))
