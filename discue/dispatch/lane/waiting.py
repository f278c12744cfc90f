"""Messages that a lane has read, and that wait in memory behind others of their keys."""

from collections import deque
from collections.abc import Iterable
from itertools import chain

from discue.dispatch.lane.budget import BodyBudget
from discue.domain.messages import Entry


class WaitingByKey:
    """By key, each in the order of the log. They come from `new`, what is to be sent next, and go back to its front."""

    __slots__ = ("_budget", "_by_key", "_new", "count")

    def __init__(self, new: deque[Entry], budget: BodyBudget) -> None:
        self._new = new
        self._budget = budget
        self._by_key: dict[int, deque[Entry]] = {}
        self.count = 0

    @property
    def first_seqs(self) -> list[int]:
        """Of each key the first that waits."""
        return [entries[0].seq for entries in self._by_key.values()]

    def add_next(self, key_hash: int) -> None:
        """The next message waits behind another one of its key."""
        self._by_key.setdefault(key_hash, deque()).append(self._new.popleft())
        self.count += 1

    def free(self, key_hash: int) -> None:
        """The first one that waits behind a key comes next."""
        entries = self._by_key.get(key_hash)
        if entries is not None:
            self._new.appendleft(entries.popleft())
            self.count -= 1
            if not entries:
                del self._by_key[key_hash]

    def forget(self, key_hash: int) -> list[int]:
        """Hold none of those that wait behind a key any more: which ones these were."""
        entries = self._by_key.pop(key_hash, ())
        self._give_back(entries)
        self.count -= len(entries)
        return [entry.seq for entry in entries]

    def forget_all(self) -> None:
        self._give_back(chain(*self._by_key.values()))
        self._by_key.clear()
        self.count = 0

    def longest(self) -> int | None:
        """The key behind which the most wait; None when nothing does."""
        return max(self._by_key, key=lambda key: len(self._by_key[key]), default=None)

    def _give_back(self, entries: Iterable[Entry]) -> None:
        self._budget.give_back(sum(len(entry.body) for entry in entries))
