"""Starts servers of the test kit, and runs tests with it on both cores."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.failure import BenchmarkFailed
from discue.testing.server import InProcessServer

TESTS = 100

_STARTS = 10
_SUITE = f"""
import pytest

@pytest.mark.parametrize("number", range({TESTS}))
def test_order(discue, number):
    listener = discue.listener("orders")
    listener.respond(503, times=2)
    discue.publish("orders", number)
    discue.clock.advance("1d")
    listener.assert_received(3, data=number)
"""


class Found(msgspec.Struct, frozen=True):
    """What was measured."""

    first_start_ms: float
    """After the imports."""
    start_ms: float
    suite_seconds: float
    """From the start of pytest to its end."""


def _start_ms() -> float:
    server = InProcessServer()
    started_at = time.perf_counter()
    server.start()
    took_ms = (time.perf_counter() - started_at) * 1_000
    server.stop()
    return took_ms


def _suite_seconds(cores: set[int]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_orders.py").write_text(_SUITE)
        plugins = ("-p", "xdist.plugin", "-p", "discue.testing.plugin")
        command = (sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", folder, *plugins, "-n", "2")
        # The plugins of the environment are not what is measured.
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        os.sched_setaffinity(0, cores)
        started_at = time.perf_counter()
        done = subprocess.run((*command, folder), env=environment, capture_output=True, text=True, check=False)
        took = time.perf_counter() - started_at
    if done.returncode:
        raise BenchmarkFailed(f"The tests with the kit failed: {done.stdout[-2_000:]}")
    return took


def main() -> None:
    starts = [_start_ms() for _ in range(_STARTS)]
    cores = {int(core) for core in sys.argv[1:]}
    found = Found(starts[0], median(starts), _suite_seconds(cores))
    print(msgspec.json.encode(found).decode(), flush=True)


if __name__ == "__main__":
    main()
