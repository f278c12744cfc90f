"""What does one more listener cost?"""

from benchmarks.bench import Bench
from benchmarks.measures.samples import Series, delivered, sent
from benchmarks.medians import differences, median
from benchmarks.table import Row, at_most, seen

MANY = 20
_CONNECTIONS = 2
"""Few enough that the lanes keep up: each publish then meets lanes that have read all before it."""

_SENDER_REQUESTS = 20_000
_OF_SENDER_ALONE = 2.2


def measure(bench: Bench) -> list[Row]:
    alone, one, many = Series("sender alone"), Series("1 listener"), Series(f"{MANY} listeners")
    with bench.product("fanout") as product, bench.sender_alone() as sender:
        queues = (product.queue(), product.queue())
        single = (product.listener(queues[0], bench.sink.url),)
        several = tuple(product.listener(queues[1], bench.sink.url) for _ in range(MANY))
        for warm in (False, *[True] * bench.effort.pairs):
            samples = (
                sent(bench, sender, _SENDER_REQUESTS),
                delivered(bench, product, queues[0], single, connections=_CONNECTIONS),
                delivered(bench, product, queues[1], several, connections=_CONNECTIONS),
            )
            for series, sample in zip((alone, one, many), samples, strict=True):
                series.samples.extend([sample] * warm)
    extra = [difference / (MANY - 1) for difference in differences(many.costs, one.costs)]
    of_sender = median(cost / sending for cost, sending in zip(extra, alone.costs, strict=True))
    return [
        one.row(),
        many.row(),
        seen("one more listener", f"{median(extra):.1f} µs CPU a message"),
        at_most("one more listener ÷ sender alone", of_sender, _OF_SENDER_ALONE),
    ]
