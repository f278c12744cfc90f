"""How long until a worker delivers what another one took?"""

from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.installation import Installation
from benchmarks.table import Row, at_most, seen

_RATE = 100
_QUEUES = 20
_P99_MS = 20.0


def measure(bench: Bench) -> list[Row]:
    with Installation(bench, "wake", 2) as installation, bench.open_loop() as ends:
        installation.spread(_QUEUES, 1, f"http://127.0.0.1:{ends.hear()['port']}/")
        taking, delivering = installation.workers
        queues = installation.queues_on(delivering)
        ends.tell(installation.wish([taking], queues, _RATE, bench.effort.latency_seconds))
        seen_by_both = ends.hear()
        installation.wait_settled()
    if seen_by_both["received"] < seen_by_both["published"] or seen_by_both["refused"]:
        raise BenchmarkFailed(f"Messages were lost: {seen_by_both}")
    wakes = seen_by_both["wakes"]
    name = f"answer by one worker to receipt from another, {_RATE}/s"
    return [
        seen(f"{name}, p50", f"{wakes['p50']:.2f} ms, longest {wakes['max']:.1f} ms"),
        at_most(f"{name}, p99", wakes["p99"], _P99_MS, " ms"),
    ]
