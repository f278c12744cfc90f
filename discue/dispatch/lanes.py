"""The lanes of a worker, by cursor and by queue."""

from collections.abc import Iterator, KeysView

from discue.dispatch.lane import Lane
from discue.store.engine import CursorKey, QueueKey


class Lanes:
    """A collection that may be changed while a caller goes through what it returned."""

    def __init__(self) -> None:
        self._by_cursor: dict[CursorKey, Lane] = {}
        self._by_queue: dict[QueueKey, dict[CursorKey, Lane]] = {}

    def __len__(self) -> int:
        return len(self._by_cursor)

    def __iter__(self) -> Iterator[Lane]:
        return iter(tuple(self._by_cursor.values()))

    def __contains__(self, key: object) -> bool:
        return key in self._by_cursor

    @property
    def cursors(self) -> KeysView[CursorKey]:
        return self._by_cursor.keys()

    @property
    def queues(self) -> tuple[QueueKey, ...]:
        return tuple(self._by_queue)

    def get(self, key: CursorKey) -> Lane | None:
        return self._by_cursor.get(key)

    def of_queue(self, queue: QueueKey) -> tuple[Lane, ...]:
        lanes = self._by_queue.get(queue)
        return tuple(lanes.values()) if lanes else ()

    def add(self, lane: Lane) -> None:
        self._by_cursor[lane.key] = lane
        self._by_queue.setdefault((lane.record.organization, lane.record.queue), {})[lane.key] = lane

    def remove(self, lane: Lane) -> None:
        """If it is one of them: another one may have taken its place."""
        if self._by_cursor.get(lane.key) is not lane:
            return
        del self._by_cursor[lane.key]
        queue = (lane.record.organization, lane.record.queue)
        siblings = self._by_queue[queue]
        del siblings[lane.key]
        if not siblings:
            del self._by_queue[queue]
