"""How does the cost of a message grow with its size, and with the number of queues?"""

from msgspec.structs import replace

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.measures.samples import Series, Used, delivered
from benchmarks.medians import ratio
from benchmarks.table import Row, at_most

_SIZES = {10_000: 1.4, 256_000: 12.0}
"""Bytes of a message, and the maximum ratio of its cost to that of a message of 300 bytes."""
_CONNECTIONS = 16
_QUEUES = 1_000
_OF_ONE_QUEUE = 1.25


def measure(bench: Bench) -> list[Row]:
    return [*_sizes(bench), *_queues(bench)]


def _sizes(bench: Bench) -> list[Row]:
    all_series = {size: Series(f"end to end, {size:,} bytes") for size in (body.MESSAGE_BYTES, *_SIZES)}
    with bench.product("sizes") as product:
        queue = product.queue()
        listener = product.listener(queue, bench.sink.url)
        for warm in (False, *[True] * bench.effort.pairs):
            for size, series in all_series.items():
                message = body.message_of(0, size)
                sample = delivered(bench, product, queue, (listener,), connections=_CONNECTIONS, message=message)
                series.samples.extend([sample] * warm)
    small = all_series[body.MESSAGE_BYTES]
    ratios = {size: ratio(all_series[size].costs, small.costs) for size in _SIZES}
    return [
        *(series.row() for series in all_series.values()),
        *(at_most(f"{size:,} ÷ {body.MESSAGE_BYTES} bytes", ratios[size], most) for size, most in _SIZES.items()),
    ]


def _queues(bench: Bench) -> list[Row]:
    one, many = Series("end to end, 1 queue"), Series(f"end to end, {_QUEUES:,} queues in turn")
    with bench.product("queues") as product:
        queues = [product.queue() for _ in range(_QUEUES)]
        for queue in queues:
            product.listener(queue, bench.sink.url)
        load = product.load(queues[0], body.single(body.MESSAGE))
        paths = tuple(queue.messages for queue in queues)
        for warm in (False, *[True] * bench.effort.pairs):
            for series, published in ((one, paths[:1]), (many, paths)):
                used = Used(product)
                answers = bench.loads.run(replace(load, paths=published), bench.effort.seconds)
                # Asking for the state of each listener would cost more than the messages.
                product.rest()
                series.samples.extend([used.sample(answers.requests, answers.seconds)] * warm)
    return [
        one.row(),
        many.row(),
        at_most(f"{_QUEUES:,} queues ÷ one queue", ratio(many.costs, one.costs), _OF_ONE_QUEUE),
    ]
