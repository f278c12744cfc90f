"""Notifications that wait to be sent to other workers, merged."""

from typing import Final

from discue.store.engine import Notification, QueueKey

_MOST_PARTS: Final = 10


class WaitingNotifications:
    """Merges notifications until they are taken. A part of what is taken has at most `heads_each` heads."""

    def __init__(self, heads_each: int) -> None:
        self._heads_each = heads_each
        self._waiting = Notification()
        self._heads: dict[QueueKey, int] = {}

    def add(self, hint: Notification) -> None:
        """Merge a notification with the others. Of a queue's heads, the last one remains."""
        before = self._waiting
        self._waiting = Notification(
            feed=before.feed or hint.feed,
            cursors=before.cursors or hint.cursors,
            anything=before.anything or hint.anything,
        )
        for queue, seq in hint.heads:
            self._heads[queue] = max(seq, self._heads.get(queue, 0))

    def take(self) -> list[Notification]:
        """Return what waits in parts, and forget it.

        If the heads need too many parts, one unspecific notification makes the other workers poll.
        """
        waiting, self._waiting = self._waiting, Notification()
        heads, self._heads = list(self._heads.items()), {}
        if not heads and waiting == Notification():
            return []
        anything = waiting.anything or len(heads) > self._heads_each * _MOST_PARTS
        if anything:
            heads = []
        starts = range(0, len(heads), self._heads_each)
        parts = [tuple(heads[start : start + self._heads_each]) for start in starts] or [()]
        return [Notification(waiting.feed, waiting.cursors, heads=part, anything=anything) for part in parts]
