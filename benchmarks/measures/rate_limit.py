"""Is a listener's rate limit kept by several workers, also when the one that sends is killed?"""

import signal
import time
from collections.abc import Callable
from itertools import combinations

import msgspec

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.installation import Installation
from benchmarks.product import Product, Queue
from benchmarks.sink import Sink
from benchmarks.table import Row, at_least, at_most, seen

_WORKERS = 3
_PER_SECOND = 100
_BURST = 100
_MESSAGES = 5_000
_BATCH = 1_000
_UNDISTURBED_SECONDS = 10.0
_AFTERWARDS_SECONDS = 8.0
_RESUMED_SECONDS = 30.0
_OF_LIMIT = 0.95
_UNDER_WAY_SECONDS = 0.05
"""A request counts here when it has come, and for the limit when it began."""

_POLL_SECONDS = 0.05


class _Sample(msgspec.Struct, frozen=True):
    """How many requests there had been, at some instant between two."""

    asked_at: float
    told_at: float
    count: int


class _Watch:
    """Asks a sink, again and again, how many requests it has had."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.samples: list[_Sample] = []

    def look(self) -> _Sample:
        asked_at = time.monotonic()
        count = self._sink.count()
        sample = _Sample(asked_at, time.monotonic(), count)
        self.samples.append(sample)
        return sample

    def look_until(self, is_enough: Callable[[_Sample], bool], seconds: float) -> _Sample:
        """The first sample that is enough. Raises BenchmarkFailed when there is none in time."""
        until = time.monotonic() + seconds
        while not is_enough(sample := self.look()):
            if time.monotonic() > until:
                raise BenchmarkFailed(f"The listener got {sample.count} requests within {seconds:.0f} s.")
            time.sleep(_POLL_SECONDS)
        return sample

    def excess(self) -> float:
        """By how many requests any stretch between two samples had more than its time and the burst allow."""
        return max(
            later.count - earlier.count - _PER_SECOND * (later.told_at - earlier.asked_at) - _BURST
            for earlier, later in combinations(self.samples, 2)
        )


def measure(bench: Bench) -> list[Row]:
    with Installation(bench, "rate-limit", _WORKERS) as installation:
        queue = _prepare(bench, installation)
        watch = _Watch(bench.sink)
        before = watch.look().count
        installation.workers[0].change(installation.workers[0].listeners(queue)[0], status="enabled")
        begun = watch.look_until(lambda sample: sample.count > before + _BURST, _RESUMED_SECONDS)
        undisturbed = _rate(watch, begun)
        killed_at = time.monotonic()
        last = _kill_owner(installation, queue, watch)
        resumed = watch.look_until(lambda sample: sample.count > last, _RESUMED_SECONDS)
        _rate(watch, resumed, _AFTERWARDS_SECONDS)
    return [
        at_least(f"rate limit of {_PER_SECOND}/s, undisturbed", undisturbed / _PER_SECOND, _OF_LIMIT),
        at_most(
            "rate limit, most above rate × time + burst, with a kill",
            watch.excess(),
            _PER_SECOND * _UNDER_WAY_SECONDS,
            " requests",
        ),
        seen("rate limit, goes on after the kill", f"{resumed.told_at - killed_at:.1f} s later"),
    ]


def _prepare(bench: Bench, installation: Installation) -> Queue:
    """A queue whose messages wait for a listener that is disabled."""
    worker = installation.workers[0]
    queue = worker.queue()
    limit = {"per_second": _PER_SECOND, "burst": _BURST}
    worker.listener(queue, bench.sink.url, status="disabled", rate_limit=limit)
    messages = {"messages": [{"data": body.MESSAGE.decode()}] * _BATCH}
    for _ in range(_MESSAGES // _BATCH):
        worker.ask("POST", f"{queue.messages}/batch", messages)
    installation.queues.append(queue)
    return queue


def _rate(watch: _Watch, begun: _Sample, seconds: float = _UNDISTURBED_SECONDS) -> float:
    """Requests a second, from a sample on, for so long."""
    ended = watch.look_until(lambda sample: sample.told_at >= begun.told_at + seconds, seconds * 2)
    return (ended.count - begun.count) / (ended.told_at - begun.told_at)


def _kill_owner(installation: Installation, queue: Queue, watch: _Watch) -> int:
    """How many requests there were when nothing more came from the worker that had the lane."""
    owner = next(worker for worker in installation.workers if _has(installation, worker, queue))
    owner.child.signal(signal.SIGKILL)
    installation.remove(owner)
    return watch.look().count


def _has(installation: Installation, worker: Product, queue: Queue) -> bool:
    return queue in installation.queues_on(worker)
