"""What does the Python client add to a request, and how fast are its publisher and its consumer?"""

import subprocess
import sys

import msgspec

from benchmarks.bench import Bench
from benchmarks.child import Child, python
from benchmarks.client_load import Found
from benchmarks.table import Row, at_least, at_most, seen

_OVERHEAD = 1.3
_BATCHED = 8.0
_CONSUMED = 1_000.0
_IDLE_PERCENT = 0.5
_IMPORT_MS = 60.0
_LEAKED_BYTES = 10.0
_EACH = 50
"""Divides the number of messages that are pulled, for each of 64 tasks."""


def measure(bench: Bench) -> list[Row]:
    with bench.product("python-client") as product:
        count = max(bench.effort.pulled // (64 * _EACH // 10), 8)
        url, idle = f"http://127.0.0.1:{product.port}", str(bench.effort.idle_seconds)
        command = python("benchmarks.client_load", url, bench.key, str(count), idle)
        with Child([bench.load_core], "Python client", command) as child:
            found = msgspec.convert(child.hear(), Found)
    return [
        at_most("Python client: publish, as a multiple of a bare request", found.overhead, _OVERHEAD),
        seen(
            "Python client: publish of the sync client, as a multiple of a bare request", f"{found.sync_overhead:.2f}"
        ),
        at_least("Python client: publisher with 64 tasks, as a multiple of single publishes", found.batched, _BATCHED),
        seen("Python client: publisher with 64 tasks", f"{found.batched_rate:,.0f}/s"),
        at_least("Python client: messages consumed on one core, 50 at a time", found.consumed_rate, _CONSUMED, "/s"),
        seen("Python client: a message consumed", f"{found.consumed_cpu_us:.0f} µs CPU"),
        at_most("Python client: idle consumer, of a core", found.idle_percent, _IDLE_PERCENT, " %"),
        at_most("Python client: memory kept of each message published", found.leaked_bytes, _LEAKED_BYTES, " bytes"),
        at_most("Python client: files kept open", found.leaked_files, 0),
        at_most("Python client: import, shortest of five", min(_import_ms() for _ in range(5)), _IMPORT_MS, " ms"),
    ]


def _import_ms() -> float:
    """Return how long `import discue_client` takes in a new process, as Python counts it."""
    run = [sys.executable, "-X", "importtime", "-c", "import discue_client"]
    lines = subprocess.run(run, stderr=subprocess.PIPE, check=True, text=True).stderr.splitlines()
    # The last line is of the package, with all that it imports: own time | total time | name.
    return int(lines[-1].split("|")[1]) / 1_000
