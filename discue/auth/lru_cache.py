"""A bounded cache whose entries can be invalidated by tag."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class LruCache(Generic[Key, Item]):
    """An LRU cache with at most `limit` items. Each item has tags, which name what it depends on."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[Key, Item] = OrderedDict()
        self._tags: dict[Key, frozenset[int]] = {}
        self._keys_by_tag: dict[int, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Key) -> Item | None:
        """Return an item and mark it as recently used; None if it is not cached."""
        item = self._items.get(key)
        if item is not None:
            self._items.move_to_end(key)
        return item

    def put(self, key: Key, item: Item, tags: tuple[int, ...]) -> None:
        """Add or replace an item. If the cache is full, evict the least recently used one."""
        # Remove a replaced item first, or it would keep its old tags.
        self._remove(key)
        self._items[key] = item
        self._tags[key] = frozenset(tags)
        for tag in self._tags[key]:
            self._keys_by_tag.setdefault(tag, set()).add(key)
        if len(self._items) > self._limit:
            self._remove(next(iter(self._items)))

    def invalidate(self, tag: int) -> None:
        """Remove every item with this tag."""
        for key in tuple(self._keys_by_tag.get(tag, ())):
            self._remove(key)

    def clear(self) -> None:
        self._items.clear()
        self._tags.clear()
        self._keys_by_tag.clear()

    def _remove(self, key: Key) -> None:
        self._items.pop(key, None)
        for tag in self._tags.pop(key, ()):
            keys = self._keys_by_tag[tag]
            keys.discard(key)
            if not keys:
                del self._keys_by_tag[tag]
