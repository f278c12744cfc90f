"""What does it cost to keep a thousand keys in order, while one attempt in ten fails?"""

import time

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.product import Product
from benchmarks.table import Row, at_least, seen

_KEYS = 1_000
_MESSAGES = 60_000
_BATCH = 1_000
_OF_UNORDERED = 0.5
_DRAINED_SECONDS = 120.0
_RETRY = {"schedule": [1], "jitter": 0, "attempts": 100}


def measure(bench: Bench) -> list[Row]:
    with bench.product("ordering") as product:
        unordered = _rate(bench, product, ordered=False)
        ordered = _rate(bench, product, ordered=True)
    return [
        seen(
            f"{_KEYS:,} keys, one attempt in ten fails",
            f"{ordered:,.0f}/s; in a queue without order {unordered:,.0f}/s",
        ),
        at_least("ordered ÷ not", ordered / unordered, _OF_UNORDERED),
    ]


def _rate(bench: Bench, product: Product, *, ordered: bool) -> float:
    """Messages a second, from the moment that the listener is enabled until it has all of them."""
    queue = product.queue(ordered=ordered)
    listener = product.listener(queue, f"{bench.sink.url}tenth", status="disabled", retry=_RETRY)
    for first in range(0, _MESSAGES, _BATCH):
        messages = [
            {"data": body.MESSAGE.decode(), "key": f"key-{number % _KEYS}"} for number in range(first, first + _BATCH)
        ]
        product.ask("POST", f"{queue.messages}/batch", {"messages": messages})
    product.rest()
    began = time.monotonic()
    product.change(listener, status="enabled")
    product.wait_settled(listener, within_seconds=_DRAINED_SECONDS)
    return _MESSAGES / (time.monotonic() - began)
