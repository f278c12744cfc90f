"""How one thing is measured once, and what many measurements of it say."""

import time

import msgspec

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.child import Child
from benchmarks.loads import Load, Loads
from benchmarks.medians import median, noise
from benchmarks.product import Listener, Product, Queue
from benchmarks.table import Row, rate_and_cost, seen

SENDER_IN_FLIGHT = 50


class Sample(msgspec.Struct, frozen=True):
    """Messages a second, and for each the microseconds of CPU of the worker, and of a database apart from it."""

    rate: float
    cpu_us: float
    store_us: float = 0.0


class Used:
    """What a worker and its database use from now on."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._store_before = product.store_cpu_seconds()
        self._before = product.cpu_seconds()

    def sample(self, messages: int, seconds: float) -> Sample:
        """What it was until now, for so many messages in so many seconds."""
        used = self._product.cpu_seconds() - self._before
        store = self._product.store_cpu_seconds() - self._store_before
        return Sample(messages / seconds, used / messages * 1e6, store / messages * 1e6)


class Series:
    """The same thing, measured again and again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.samples: list[Sample] = []

    @property
    def rates(self) -> list[float]:
        return [sample.rate for sample in self.samples]

    @property
    def costs(self) -> list[float]:
        return [sample.cpu_us for sample in self.samples]

    @property
    def store_costs(self) -> list[float]:
        return [sample.store_us for sample in self.samples]

    @property
    def rate(self) -> float:
        return median(self.rates)

    @property
    def cost(self) -> float:
        return median(self.costs)

    @property
    def store_cost(self) -> float:
        return median(self.store_costs)

    def row(self) -> Row:
        return seen(self.name, rate_and_cost(self.rate, self.cost, noise(self.costs)))


def answered(bench: Bench, product: Product, load: Load, messages_each: int = 1) -> Sample:
    """A load's requests until they are answered."""
    used = Used(product)
    answers = bench.loads.run(load, bench.effort.seconds)
    return used.sample(answers.requests * messages_each, answers.seconds)


def delivered(
    bench: Bench,
    product: Product,
    queue: Queue,
    listeners: tuple[Listener, ...],
    *,
    connections: int = 64,
    loads: Loads | None = None,
    message: bytes = body.MESSAGE,
) -> Sample:
    """Single publishes until the last of them is acknowledged by every listener, and that is stored."""
    load = product.load(queue, body.single(message), connections=connections)
    already = product.counts(listeners[0]).acknowledged
    used, began = Used(product), time.monotonic()
    (loads or bench.loads).run(load, bench.effort.seconds)
    product.wait_settled(*listeners)
    messages = product.counts(listeners[0]).acknowledged - already
    return used.sample(messages, time.monotonic() - began)


def sent(bench: Bench, sender: Child, requests: int) -> Sample:
    """The sender's requests, without a store or a server around it."""
    sender.tell({"port": bench.sink.port, "requests": requests, "origins": 1, "at_once": SENDER_IN_FLIGHT})
    done = sender.hear()
    return Sample(requests / done["seconds"], done["cpu_seconds"] / requests * 1e6)
