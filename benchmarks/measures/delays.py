"""How soon are many messages under way that are due at the same instant?"""

import time

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.table import Row, at_most, below

_MESSAGES = 10_000
_BATCH = 1_000
_AHEAD_MS = 8_000
_UNDER_WAY_SECONDS = 3.0
_LONGEST_SECONDS = 60.0
_POLL_SECONDS = 0.01


def measure(bench: Bench) -> list[Row]:
    with bench.product("delays") as product:
        queue = product.queue()
        product.listener(queue, bench.sink.url)
        due_at = time.time_ns() // 1_000_000 + _AHEAD_MS
        messages = {"messages": [{"data": body.MESSAGE.decode(), "deliver_at": due_at}] * _BATCH}
        before = bench.sink.count()
        for _ in range(_MESSAGES // _BATCH):
            product.ask("POST", f"{queue.messages}/batch", messages)
        early, seconds = _watch(bench, before, due_at / 1_000)
    return [
        at_most(f"{_MESSAGES:,} messages due at once, early", early, 0),
        below(f"{_MESSAGES:,} messages due at once, all under way", seconds, _UNDER_WAY_SECONDS, " s"),
    ]


def _watch(bench: Bench, before: int, due_at: float) -> tuple[int, float]:
    """How many the listener had before they were due, and how long after that it had all."""
    early = 0
    if time.time() >= due_at:
        raise BenchmarkFailed("Publishing took longer than the messages' delay.")
    while (received := bench.sink.count() - before) < _MESSAGES:
        now = time.time()
        if now < due_at:
            early = received
        elif now > due_at + _LONGEST_SECONDS:
            raise BenchmarkFailed(f"The listener got {received} of {_MESSAGES} messages.")
        time.sleep(_POLL_SECONDS)
    return early, time.time() - due_at
