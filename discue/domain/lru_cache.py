"""What was used lately, bounded in number, and dropped by what it depends on."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class LruCache(Generic[Key, Item]):
    """At most `limit` items: the one unused for longest makes room for the next."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[Key, Item] = OrderedDict()
        self._tags: dict[Key, frozenset[int]] = {}
        self._keys_of: dict[int, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Key) -> Item | None:
        item = self._items.get(key)
        if item is not None:
            self._items.move_to_end(key)
        return item

    def put(self, key: Key, item: Item, tags: tuple[int, ...]) -> None:
        """`tags` are the numbers of what the item depends on."""
        self._remove(key)
        self._items[key] = item
        self._tags[key] = frozenset(tags)
        for tag in self._tags[key]:
            self._keys_of.setdefault(tag, set()).add(key)
        if len(self._items) > self._limit:
            self._remove(next(iter(self._items)))

    def drop(self, tag: int) -> None:
        """Forget every item that depends on it."""
        for key in tuple(self._keys_of.get(tag, ())):
            self._remove(key)

    def clear(self) -> None:
        self._items.clear()
        self._tags.clear()
        self._keys_of.clear()

    def _remove(self, key: Key) -> None:
        self._items.pop(key, None)
        for tag in self._tags.pop(key, ()):
            keys = self._keys_of[tag]
            keys.discard(key)
            if not keys:
                del self._keys_of[tag]
