"""How fast a regular expression matches in the worst case, measured on texts made from the expression itself.

Matching takes linear time, but the factor differs by three orders of magnitude, with the expression and the text.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from discue.domain.pattern_texts import Compile, Matcher, Text, texts_for

CpuTime: TypeAlias = Callable[[], int]
"""Nanoseconds of processor time of the calling thread. Unlike the time of day, it does not run while others work."""

_MEASUREMENTS: Final = 8


def slowest_ns(pattern: str, compiled: Compile, cpu_time: CpuTime, *, limit_ns: float) -> float:
    """Return the nanoseconds per character of the slowest text. Stops at the first one above `limit_ns`.

    Takes some milliseconds for a usual expression within the limit. `compiled` must support the expression.
    """
    matches, slowest = compiled(pattern), 0.0
    if matches is None:
        raise ValueError("The engine does not support the expression.")
    for written in texts_for(pattern, compiled):
        slowest = max(slowest, _ns_per_character(written, matches, cpu_time, limit_ns / 4))
        if slowest > limit_ns:
            break
    return slowest


def _ns_per_character(written: Text, matches: Matcher, cpu_time: CpuTime, enough_ns: float) -> float:
    """Return the time of the fastest of several matches, or of the first one that is fast enough."""
    # The first match fills caches, and the processor may be shared with others.
    fastest, text = float("inf"), written.text
    for _ in range(_MEASUREMENTS):
        started = cpu_time()
        matches(text)
        fastest = min(fastest, (cpu_time() - started) / max(1, len(text)))
        if fastest <= enough_ns:
            break
        if written.another is not None:
            text = written.another()
    return fastest
