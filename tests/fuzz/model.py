"""A small model of the service: what two organizations have after any sequence of calls."""

from dataclasses import dataclass, field

NARROW = {"queues": {"access": "read", "targets": []}}


@dataclass
class Item:
    id: str
    alias: str
    marks: int = 0
    """How often it was changed: what its entity tag depends on."""


@dataclass
class Collection:
    """Items in the order of their creation. Aliases are unique but for messages."""

    path: str
    singular: str
    plural: str
    items: list[Item] = field(default_factory=list)

    @property
    def aliases_are_unique(self) -> bool:
        return self.plural != "messages"

    def takes(self, alias: str | None, beside: Item | None = None) -> bool:
        """Whether a new item, or that one, may be called so."""
        others = [item.alias for item in self.items if item is not beside]
        return alias is None or not self.aliases_are_unique or alias not in others

    def newest_first(self) -> list[str]:
        return [item.id for item in reversed(self.items)]

    def body(self, alias: str | None) -> dict[str, object]:
        """What creates an item."""
        named: dict[str, object] = {} if alias is None else {"alias": alias}
        if self.plural == "listeners":
            return {"notify_url": "http://127.0.0.1:9/n", "liveness_url": "http://127.0.0.1:9/l", **named}
        if self.plural == "messages":
            return {"data": {"number": 1}, **named}
        return {"scopes": NARROW, **named} if self.plural == "api_keys" else named


@dataclass
class Organization:
    """What a tenant has. `published` counts messages by queue, deleted ones too."""

    id: str
    alias: str
    collections: dict[str, Collection] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)

    def add(self, collection: Collection) -> None:
        self.collections[collection.path] = collection

    def created(self, collection: Collection, item: Item) -> None:
        collection.items.append(item)
        if collection.plural == "queues":
            self.published[item.id] = 0
            self.add(Collection(f"/queues/{item.id}/listeners", "listener", "listeners"))
            self.add(Collection(f"/queues/{item.id}/messages", "message", "messages"))
        elif collection.plural == "messages":
            self.published[collection.path.split("/")[2]] += 1

    def deleted(self, collection: Collection, item: Item) -> None:
        """The item is gone, and with a queue what was in it."""
        collection.items.remove(item)
        place = f"{collection.path}/{item.id}"
        self.gone.append(place)
        for path in [path for path in self.collections if path.startswith(f"{place}/")]:
            below = self.collections.pop(path)
            self.gone += [path, *(f"{path}/{inner.id}" for inner in below.items)]

    def all_of(self, plural: str) -> list[Item]:
        """Newest first, those of all queues together."""
        items = [item for each in self.collections.values() if each.plural == plural for item in each.items]
        return sorted(items, key=lambda item: item.id, reverse=True)
