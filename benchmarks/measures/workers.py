"""What does a message cost when several workers share the work?

The more messages a commit carries, the less each of them costs. What is compared must therefore have commits of one
size, and a rate alone does not give that. Here every worker gets the same: batches, each of which it has stored and
delivered before its next one is due, so that each is a commit of its own, however many workers there are.
"""

from contextlib import ExitStack

import msgspec

from benchmarks.bench import Bench
from benchmarks.child import Child
from benchmarks.failure import BenchmarkFailed
from benchmarks.installation import Installation
from benchmarks.measures.samples import Sample
from benchmarks.medians import median, noise, ratio
from benchmarks.table import Row, at_most, seen, shown

WORKERS = (1, 2, 4)
BATCH_MESSAGES = 50
"""As many as one listener has in flight: a lane takes the whole batch at once."""

_BATCHES_A_WORKER = 12.0
_QUEUES = 16
_LISTENERS = 2
_OF_ONE = 1.25
_MIB = 2**20

_SETTLES = "SELECT sum(version) FROM cursor"


class _Round(msgspec.Struct, frozen=True):
    """What a message cost, and how many deliveries the settles carried."""

    cost: Sample
    deliveries_a_settle: float


def measure(bench: Bench) -> list[Row]:
    with ExitStack() as opened:
        all_sizes = [opened.enter_context(Installation(bench, f"workers-{count}", count)) for count in WORKERS]
        for installation in all_sizes:
            installation.spread(_QUEUES, _LISTENERS, bench.sink.url)
        load = opened.enter_context(bench.open_loop())
        load.hear()
        rounds: list[list[_Round]] = [[] for _ in WORKERS]
        for counts in (False, *[True] * bench.effort.pairs):
            for found, installation in zip(rounds, all_sizes, strict=True):
                found.extend([_deliver(bench, installation, load)] * counts)
        memory = [max(worker.memory().resident for worker in each.workers) / _MIB for each in all_sizes]
    return [*_rows(rounds), seen(f"{_of_all}, memory a worker", " · ".join(map(shown, memory)) + " MB")]


_of_all = " · ".join(map(str, WORKERS)) + " workers"


def _deliver(bench: Bench, installation: Installation, load: Child) -> _Round:
    workers = installation.workers
    rate = _BATCHES_A_WORKER * len(workers)
    wish = installation.wish(workers, installation.queues, rate, bench.effort.seconds)
    used, store, settles = installation.cpu_seconds(), bench.postgres.cpu_seconds(), installation.number(_SETTLES)
    load.tell({**wish, "batch": BATCH_MESSAGES, "warm_seconds": 0, "elsewhere": True})
    seen_by_load = load.hear()
    installation.wait_settled()
    if seen_by_load["refused"]:
        raise BenchmarkFailed(f"Publishes were refused: {seen_by_load}")
    messages = seen_by_load["published"] * BATCH_MESSAGES
    used, store = installation.cpu_seconds() - used, bench.postgres.cpu_seconds() - store
    settles = installation.number(_SETTLES) - settles
    cost = Sample(rate * BATCH_MESSAGES, used / messages * 1e6, store / messages * 1e6)
    return _Round(cost, messages * _LISTENERS / settles)


def _rows(rounds: list[list[_Round]]) -> list[Row]:
    costs = [[one.cost.cpu_us for one in found] for found in rounds]
    store = [median(one.cost.store_us for one in found) for found in rounds]
    settled = [median(one.deliveries_a_settle for one in found) for found in rounds]
    return [
        *(
            seen(
                f"{count} worker{'s together' * (count > 1)}",
                f"{median(cost):.1f} µs CPU a message, noise {noise(cost):.1%}",
            )
            for count, cost in zip(WORKERS, costs, strict=True)
        ),
        *(
            at_most(f"{count} workers ÷ 1, CPU a message", ratio(cost, costs[0]), _OF_ONE)
            for count, cost in zip(WORKERS[1:], costs[1:], strict=True)
        ),
        seen(f"{_of_all}, the PostgreSQL server itself", " · ".join(map(shown, store)) + " µs CPU a message"),
        seen(f"{_of_all}, deliveries a settle", " · ".join(map(shown, settled))),
    ]
