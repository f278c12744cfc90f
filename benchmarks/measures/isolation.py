"""Do listeners that hang delay the messages of others?"""

from benchmarks.bench import Bench
from benchmarks.child import Child
from benchmarks.failure import BenchmarkFailed
from benchmarks.medians import median, ratio
from benchmarks.product import Listener, Product, Queue
from benchmarks.table import Row, at_most, seen

_QUEUES = 10
_HEALTHY_OF_QUEUE = 9
_PAIRS = 10
_RATE = 100
_SECONDS = 6
_WARM_SECONDS = 2
_OF_ALONE = 1.3


class _Crowd:
    """Ten queues with ten listeners each: one hangs, and one of the others is watched."""

    def __init__(self, bench: Bench, product: Product, ends: Child) -> None:
        self._bench = bench
        self._product = product
        self._ends = ends
        self._queues: list[Queue] = []
        self._watched: list[Listener] = []
        self._hanging: list[Listener] = []
        watched_url = f"http://127.0.0.1:{ends.hear()['port']}/"
        for _ in range(_QUEUES):
            queue = product.queue()
            self._queues.append(queue)
            self._watched.append(product.listener(queue, watched_url))
            self._hanging.append(product.listener(queue, f"{bench.sink.url}hang", status="disabled"))
            for _ in range(_HEALTHY_OF_QUEUE - 1):
                product.listener(queue, bench.sink.url)

    def run(self, *, with_hanging: bool) -> tuple[float, float]:
        """Median and p99 from publish to receipt, in milliseconds, of those that are watched."""
        for listener in self._hanging:
            self._product.change(listener, status="enabled" if with_hanging else "disabled")
        self._ends.tell(
            {
                "ports": [self._product.port],
                "paths": [queue.messages for queue in self._queues],
                "key": self._bench.key,
                "rate": _RATE,
                "seconds": _SECONDS,
                "warm_seconds": _WARM_SECONDS,
            }
        )
        found = self._ends.hear()
        if found["received"] < found["published"]:
            raise BenchmarkFailed(f"Messages were lost: {found}")
        self._product.wait_settled(*self._watched)
        return found["receipts"]["p50"], found["receipts"]["p99"]


def measure(bench: Bench) -> list[Row]:
    alone: list[tuple[float, float]] = []
    beside: list[tuple[float, float]] = []
    with bench.product("isolation") as product, bench.open_loop() as ends:
        crowd = _Crowd(bench, product, ends)
        crowd.run(with_hanging=False)
        for _ in range(_PAIRS):
            alone.append(crowd.run(with_hanging=False))
            beside.append(crowd.run(with_hanging=True))
    name = f"{_QUEUES} of {_QUEUES * (_HEALTHY_OF_QUEUE + 1)} listeners hang, the others"
    return [
        seen(name, f"{_shown(beside)}; alone {_shown(alone)}"),
        at_most(f"{name}, p50 ÷ alone", _ratio(beside, alone, 0), _OF_ALONE),
        at_most(f"{name}, p99 ÷ alone", _ratio(beside, alone, 1), _OF_ALONE),
    ]


def _ratio(beside: list[tuple[float, float]], alone: list[tuple[float, float]], which: int) -> float:
    return ratio([found[which] for found in beside], [found[which] for found in alone])


def _shown(found: list[tuple[float, float]]) -> str:
    return f"p50 {median(p50 for p50, _ in found):.2f}, p99 {median(p99 for _, p99 in found):.2f} ms"
