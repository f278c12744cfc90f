"""What happens when more is published than can be stored?"""

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.cpu import forget_peak
from benchmarks.loads import Answers
from benchmarks.table import Row, below, holds, seen

_BATCH_MESSAGES = 20
_CONNECTIONS = 1_000
_LONGEST_ANSWER_MS = 1_000.0
_MORE_MIB = 256.0
"""What may wait for the store and for the lanes, 64 MiB each, and as much again for everything else."""
_MIB = 2**20
_DRAIN_SECONDS = 240.0


def measure(bench: Bench) -> list[Row]:
    with bench.product("overload") as product:
        queue = product.queue()
        listener = product.listener(queue, bench.sink.url)
        load = product.load(queue, body.batch(body.MESSAGE, _BATCH_MESSAGES), connections=_CONNECTIONS, counting=True)
        before = product.memory().resident
        forget_peak(product.pid)
        answers = bench.loads.run(load, bench.effort.seconds * 2)
        product.wait_settled(listener, within_seconds=_DRAIN_SECONDS)
        more = (product.memory().peak - before) / _MIB
        acknowledged = product.counts(listener).acknowledged
    return _rows(answers, acknowledged, more)


def _rows(answers: Answers, acknowledged: int, more_mib: float) -> list[Row]:
    promised = answers.answered * _BATCH_MESSAGES
    surplus = f"{answers.refused:,} of {answers.requests:,}, {answers.unexplained} without, {answers.other} others"
    return [
        seen("overload, answers", f"p50 {answers.p50_ms:.0f} ms, p99 {answers.p99_ms:.0f} ms"),
        below("overload, longest answer", answers.max_ms, _LONGEST_ANSWER_MS, " ms"),
        holds(
            "overload, surplus",
            surplus,
            "503 with Retry-After",
            met=answers.refused > 0 and answers.unexplained == 0 and answers.other == 0,
        ),
        below("overload, memory", more_mib, _MORE_MIB, " MB more"),
        holds(
            "overload, delivered of what was answered 200",
            f"{acknowledged:,} of {promised:,}",
            "all",
            met=acknowledged >= promised,
        ),
    ]
