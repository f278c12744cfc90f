"""How long does a test wait for the test kit?"""

import msgspec

from benchmarks.bench import Bench
from benchmarks.child import Child, python
from benchmarks.kit_load import TESTS, Found
from benchmarks.table import Row, at_most, seen

_READY_MS = 150.0
_SUITE_SECONDS = 10.0


def measure(bench: Bench) -> list[Row]:
    cores = (bench.server_core, bench.load_core)
    with Child([bench.server_core], "test kit", python("benchmarks.kit_load", *map(str, cores))) as child:
        found = msgspec.convert(child.hear(), Found)
    return [
        at_most("test kit: first server ready, after the imports", found.first_start_ms, _READY_MS, " ms"),
        seen("test kit: further servers ready", f"{found.start_ms:.0f} ms"),
        at_most(
            f"test kit: {TESTS} tests that each move a clock by a day, on two cores",
            found.suite_seconds,
            _SUITE_SECONDS,
            " s",
        ),
    ]
