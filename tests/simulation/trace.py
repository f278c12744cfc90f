"""The trace of a run: one line for each thing that a reader of its history wants to know, in the order of time.

Two runs of one seed have the same trace, byte for byte. Each line has the number of the step, so that runs which differ
only in their steps differ in their traces as well.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence


class Trace:
    """Collects lines. `reached` counts what a run has reached, by name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.reached: Counter[str] = Counter()
        self.now: Callable[[], tuple[float, int]] = lambda: (0.0, 0)
        """Returns the virtual time, and the number of the step."""

    def add(self, place: str, event: str, detail: str = "") -> None:
        """Add a line: where something happened, what, and details."""
        at, step = self.now()
        self.lines.append(f"{at:12.6f} {step:>8} {place:<9} {event:<18} {detail}".rstrip())

    def reach(self, name: str) -> None:
        """Count something that a run has reached, and that a night of runs must reach."""
        self.reached[name] += 1

    @property
    def digest(self) -> str:
        """The SHA-256 of all lines and counts."""
        counts = [f"{name} {count}" for name, count in sorted(self.reached.items())]
        return hashlib.sha256("\n".join([*self.lines, *counts]).encode()).hexdigest()


def timeline(lines: Sequence[str], last: int) -> str:
    """Return the end of a trace, with a heading, for a person to read."""
    heading = f"{'seconds':>12} {'step':>8} {'where':<9} {'what':<18} details"
    left_out = [f"  … {len(lines) - last:,} earlier lines"] if len(lines) > last else []
    return "\n".join([heading, *left_out, *lines[-last:]])
