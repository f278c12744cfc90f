"""What does measuring cost? All that is counted for a message that is published and delivered, and nothing else."""

import time
from bisect import bisect_left

from benchmarks.bench import Bench
from benchmarks.medians import median
from benchmarks.table import Row, at_most
from discue.observability.metrics import ACKNOWLEDGED, COMMIT_SECONDS, Histogram, Measures

_MESSAGES = 50_000
_COST_US = 1.5


def measure(bench: Bench) -> list[Row]:
    times = [_round() for _ in range(max(3, bench.effort.pairs))]
    return [at_most("metrics, a message", median(times) / _MESSAGES * 1e6, _COST_US, " µs CPU")]


def _round() -> float:
    """Count as the store, the API, the lanes and the sender do; how many seconds of processor time that took."""
    measures, commit = Measures(), Histogram(COMMIT_SECONDS)
    first_byte, total = measures.stage_seconds["first_byte"], measures.stage_seconds["total"]
    began = time.process_time()
    for _ in range(_MESSAGES):
        # The request, with the clock readings that nothing else needs.
        started = time.monotonic()
        counts, timed = measures.requests["publish"], measures.request_seconds["publish"]
        counts[200] = counts.get(200, 0) + 1
        seconds = time.monotonic() - started
        timed.counts[bisect_left(timed.bounds, seconds)] += 1
        timed.total += seconds
        # The store: the commits of a publish and of a settle, each of its own.
        measures.count_published(1, 300, time.monotonic() - time.monotonic())
        commit.observe(0.002)
        measures.commit_parts.observe(1)
        commit.observe(0.002)
        measures.commit_parts.observe(1)
        measures.attempts[ACKNOWLEDGED] += 1
        # The lane and the sender.
        measures.delivery_lag.observe(0.004)
        measures.connections["true"] += 1
        first_byte.observe(0.003)
        total.observe(0.003)
    return time.process_time() - began
