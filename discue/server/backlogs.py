"""Backlogs of the listeners that a worker reports: those that it has, and on the leader all pull listeners."""

from dataclasses import dataclass

from discue.dispatch.lane.lane import Lane
from discue.store.pull_backlogs import PullBacklog


@dataclass(slots=True)
class BacklogSum:
    """A sum over listeners."""

    waiting: int = 0
    retrying: int = 0
    since: int = 0
    """When the longest wait began, in milliseconds since the epoch; 0: none waits, or it is unknown.

    See `Lane.waiting_since` and `PullBacklog.since`.
    """

    def add_lane(self, lane: Lane) -> None:
        self._add(lane.waiting, lane.cursor.retrying, lane.waiting_since)

    def add_pulled(self, found: PullBacklog) -> None:
        self._add(found.waiting, found.retrying, found.since)

    def age_seconds(self, now: int) -> float:
        return max(0, now - self.since) / 1_000 if self.since else 0.0

    def _add(self, waiting: int, retrying: int, since: int) -> None:
        self.waiting += waiting
        self.retrying += retrying
        if since and (since < self.since or not self.since):
            self.since = since
