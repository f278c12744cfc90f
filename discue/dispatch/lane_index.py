"""The lanes of a worker, by cursor, by listener and by queue."""

from collections.abc import Iterable, Iterator, KeysView
from functools import partial

from discue.dispatch.lane.fair_share import FairShare
from discue.dispatch.lane.lane import Lane
from discue.store.engine import CursorKey, QueueKey

ListenerKey = tuple[int, int]
"""Organization and listener, by their row ids."""


class LaneIndex:
    """A collection that may be changed while a caller goes through what it returned."""

    def __init__(self) -> None:
        self._by_cursor: dict[CursorKey, Lane] = {}
        self._by_queue: dict[QueueKey, dict[CursorKey, Lane]] = {}
        self._replays: dict[ListenerKey, dict[CursorKey, Lane]] = {}
        self._sharings: dict[ListenerKey, FairShare] = {}

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

    def of_listener(self, listener: ListenerKey) -> tuple[Lane, ...]:
        """The live one first."""
        live, replays = self._by_cursor.get((*listener, 0)), self._replays.get(listener, {})
        return (*(() if live is None else (live,)), *replays.values())

    def of_listeners(self, cursors: Iterable[CursorKey]) -> tuple[Lane, ...]:
        """Of each listener that has one of the cursors all lanes."""
        listeners = dict.fromkeys((organization, listener) for organization, listener, _ in cursors)
        return tuple(lane for listener in listeners for lane in self.of_listener(listener))

    def add(self, lane: Lane) -> None:
        key, listener = lane.key, lane.key[:2]
        self._by_cursor[key] = lane
        self._by_queue.setdefault((lane.record.organization, lane.record.queue), {})[key] = lane
        fair_share = self._sharings.get(listener)
        if key[2]:
            self._replays.setdefault(listener, {})[key] = lane
            if fair_share is None:
                fair_share = self._sharings[listener] = FairShare(partial(self._forget, listener))
                if (live := self._by_cursor.get((*listener, 0))) is not None:
                    fair_share.join(live)
        if fair_share is not None:
            fair_share.join(lane)

    def remove(self, lane: Lane) -> None:
        """If it is one of them: another one may have taken its place."""
        if self._by_cursor.get(lane.key) is not lane:
            return
        del self._by_cursor[lane.key]
        queue, listener = (lane.record.organization, lane.record.queue), lane.key[:2]
        _remove(self._by_queue, queue, lane.key)
        if lane.key[2]:
            _remove(self._replays, listener, lane.key)
        if (fair_share := self._sharings.get(listener)) is not None:
            fair_share.leave(lane)

    def _forget(self, listener: ListenerKey) -> None:
        self._sharings.pop(listener, None)


def _remove(groups: dict[tuple[int, int], dict[CursorKey, Lane]], group: tuple[int, int], key: CursorKey) -> None:
    members = groups[group]
    del members[key]
    if not members:
        del groups[group]
