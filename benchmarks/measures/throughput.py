"""How fast is it: publishing, delivering, and both against what they are made of."""

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.loads import Load
from benchmarks.measures.samples import Series, answered, delivered, sent
from benchmarks.medians import median, ratio
from benchmarks.table import Row, at_least, seen

BATCH_MESSAGES = 100
BATCH_CONNECTIONS = 16
"""So many batches at once stay below what may wait for the store."""

_SENDER_REQUESTS_PER_SECOND = 30_000
_PUBLISH_OF_ECHO = 0.5
_END_TO_END_OF_LIMIT = 0.45
_END_TO_END_PER_SECOND = 6_000
_BATCH_PER_SECOND = 30_000


class Throughput:
    """Rounds of all five, one after another, so that what disturbs one disturbs all."""

    def __init__(self) -> None:
        self.echo = Series("echo")
        self.publish = Series("publish")
        self.batch = Series("publish batch of 100, a message")
        self.sender = Series("sender alone")
        self.end_to_end = Series("end to end")

    def rows(self) -> list[Row]:
        series = (self.echo, self.publish, self.batch, self.sender, self.end_to_end)
        return [
            *(one.row() for one in series),
            at_least("publish ÷ echo", ratio(self.publish.rates, self.echo.rates), _PUBLISH_OF_ECHO),
            at_least("publish batch of 100, messages", self.batch.rate, _BATCH_PER_SECOND, "/s"),
            at_least("end to end", self.end_to_end.rate, _END_TO_END_PER_SECOND, "/s"),
            at_least("end to end ÷ limit of echo and sender", self._end_to_end_of_limit(), _END_TO_END_OF_LIMIT),
            seen("both ratios by CPU instead of rate", self._shares_of_cpu()),
        ]

    def _shares_of_cpu(self) -> str:
        """The same ratios from CPU alone: what they are when nothing else takes a part of the server's core."""
        publish = ratio(self.echo.costs, self.publish.costs)
        limits = [echo + sender for echo, sender in zip(self.echo.costs, self.sender.costs, strict=True)]
        return f"publish {publish:.2f}, end to end {ratio(limits, self.end_to_end.costs):.2f}"

    def _end_to_end_of_limit(self) -> float:
        rounds = zip(self.echo.rates, self.sender.rates, self.end_to_end.rates, strict=True)
        return median(rate * (1 / echo + 1 / sender) for echo, sender, rate in rounds)


def measure(bench: Bench) -> tuple[Throughput, list[Row]]:
    found = Throughput()
    with bench.product("throughput") as product, bench.sender_alone() as sender:
        silent, heard = product.queue(), product.queue()
        listener = product.listener(heard, bench.sink.url)
        single, batch = body.single(body.MESSAGE), body.batch(body.MESSAGE, BATCH_MESSAGES)
        echo = Load(f"http://127.0.0.1:{product.port}/v1/echo", single)
        publish = product.load(silent, single)
        batches = product.load(silent, batch, connections=BATCH_CONNECTIONS)
        requests = bench.effort.seconds * _SENDER_REQUESTS_PER_SECOND
        for warm in (False, *[True] * bench.effort.pairs):
            one = found if warm else Throughput()
            one.echo.samples.append(answered(bench, product, echo))
            one.publish.samples.append(answered(bench, product, publish))
            one.batch.samples.append(answered(bench, product, batches, BATCH_MESSAGES))
            one.sender.samples.append(sent(bench, sender, requests))
            one.end_to_end.samples.append(delivered(bench, product, heard, (listener,)))
    return found, found.rows()
