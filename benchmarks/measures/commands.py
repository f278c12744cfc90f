"""How long do the shortest commands take, with the start of Python?"""

import subprocess
import time

from benchmarks.bench import Bench
from benchmarks.child import python
from benchmarks.table import Row, at_most

_RUNS = 15
_HELP_MS = 80
_HEALTH_MS = 150


def measure(bench: Bench) -> list[Row]:
    with bench.product("commands") as product:
        health = _shortest("health", f"http://127.0.0.1:{product.port}")
    return [
        at_most("discue --help", _shortest("--help"), _HELP_MS, " ms"),
        at_most("discue health", health, _HEALTH_MS, " ms"),
    ]


def _shortest(*arguments: str) -> float:
    """The shortest of some runs, in milliseconds: others were disturbed."""
    times = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        subprocess.run(python("discue", *arguments), check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return min(times) * 1_000
