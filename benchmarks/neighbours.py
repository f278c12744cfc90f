"""Who else was computing: numbers from a busy machine are not to be believed."""

import time
from collections.abc import Sequence

from benchmarks.cpu import busy_seconds, own_seconds

QUIET = 0.05
"""How much of the cores others may use before it shows."""


class Neighbours:
    """Watches the cores from now on. Children count as ours once they have ended."""

    def __init__(self, cores: Sequence[int]) -> None:
        self._cores = cores
        self._began = time.monotonic()
        self._strange = self._strange_seconds()

    def share(self) -> float:
        """The part of the cores that went to other programs."""
        elapsed = (time.monotonic() - self._began) * len(self._cores)
        return max(0.0, (self._strange_seconds() - self._strange) / elapsed)

    def _strange_seconds(self) -> float:
        return busy_seconds(self._cores) - own_seconds()
