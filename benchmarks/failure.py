"""What can go wrong while measuring."""


class BenchmarkFailed(Exception):
    """The benchmarks cannot go on."""


class TimeUp(BenchmarkFailed):
    """The run has taken as long as it may."""
