"""Damage in the database: the queues with data that this worker recently failed to read."""

from collections.abc import Callable
from typing import Final

from discue.store.engine import QueueKey

REMEDY: Final = "Restore the database from a backup."

_KEPT_SECONDS: Final = 600.0
"""How long damage counts after the last failed read. Lanes and jobs repeat their reads more often."""
_QUEUES_KEPT: Final = 1_000
"""The largest number of queues. Further queues count as one part without a queue."""


class Damage:
    """The parts of the database that this worker could not read in the last ten minutes.

    A part is a queue, or None for data that does not belong to one queue, such as the rows of a search.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: dict[QueueKey | None, float] = {}
        self._new: list[QueueKey | None] = []

    def note(self, queue: QueueKey | None) -> None:
        """Note that a read of a part has failed."""
        if queue not in self._seen and len(self._seen) >= _QUEUES_KEPT:
            queue = None
        if queue not in self.parts():
            self._new.append(queue)
        self._seen[queue] = self._monotonic()

    def parts(self) -> frozenset[QueueKey | None]:
        """Return the damaged parts."""
        if not self._seen:
            return frozenset()
        since = self._monotonic() - _KEPT_SECONDS
        self._seen = {part: seen_at for part, seen_at in self._seen.items() if seen_at > since}
        return frozenset(self._seen)

    def take_new(self) -> list[QueueKey | None]:
        """Return the parts that were noted since the last call, and not in the ten minutes before."""
        new, self._new = self._new, []
        return new
