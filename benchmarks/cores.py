"""Who computes where: what is measured has one core for itself, everything else shares the other."""

import os

from benchmarks.failure import BenchmarkFailed


def two_cores() -> tuple[int, int]:
    """The server's core, and that of load and sink."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchmarkFailed("The benchmarks need two cores: one for the server, one for its load.")
    return allowed[0], allowed[1]
