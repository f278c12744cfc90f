"""The model of one organization: its resources after any sequence of calls."""

from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.model.collection import Collection, Item
from tests.fuzz.model.domains import Domains, Listeners, place_of_url
from tests.fuzz.model.schemas import Queues, refused
from tests.fuzz.model.users import Users


@dataclass
class Organization:
    """The resources of an organization. `published` counts messages by queue, including deleted ones."""

    id: str
    alias: str
    collections: dict[str, Collection] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    """Tokens of invitations that do not hold any more."""
    requires_domains: bool = False

    def __post_init__(self) -> None:
        self.queues = Queues("/queues", "queue", "queues")
        self.domains = Domains("/domains", "domain", "domains")
        self.users = Users("/users", "user", "users")
        keys = Collection("/api_keys", "api_key", "api_keys")
        for collection in (self.queues, keys, self.domains, self.users):
            self.add(collection)

    def add(self, collection: Collection) -> None:
        self.collections[collection.path] = collection

    def queue_of(self, collection: Collection) -> Item:
        return next(item for item in self.queues.items if item.id == collection.above)

    def refusals(self, collection: Collection, body: dict[str, Any], beside: Item | None = None) -> set[str]:
        """The places of all that is wrong with what shall be created, or with what shall become of that item."""
        places = set() if collection.takes(body.get(collection.handle), beside) else {f"/{collection.handle}"}
        if isinstance(collection, Listeners):
            return places | self._off_domains(body, beside)
        if collection.plural == "messages":
            return refused(self.queue_of(collection), body["data"]) if "data" in body else places
        return places | collection.unfit(body)

    def _off_domains(self, body: dict[str, Any], beside: Item | None) -> set[str]:
        """A listener's URLs that are new, where they must lie on domains and do not."""
        held = beside.details if beside else {}
        fresh = {name for name in ("notify_url", "liveness_url") if body.get(name, held.get(name)) != held.get(name)}
        known = self.domains.places()
        return {f"/{name}" for name in fresh if self.requires_domains and place_of_url(body[name]) not in known}

    def created(self, collection: Collection, item: Item) -> None:
        collection.items.append(item)
        if collection.plural == "queues":
            self.published[item.id] = 0
            self.add(Listeners(f"/queues/{item.id}/listeners", "listener", "listeners"))
            self.add(Collection(f"/queues/{item.id}/messages", "message", "messages"))
        elif collection.plural == "messages":
            self.published[collection.above] += 1

    def deleted(self, collection: Collection, item: Item) -> None:
        """The item is gone, and with a queue what was in it."""
        collection.items.remove(item)
        place = f"{collection.path}/{item.id}"
        self.gone.append(place)
        self.gone += [f"{place}/schemas/{item.details[name]}" for name in item.details if name == "schema_id"]
        self.void += [token for token in [getattr(item, "token", None)] if token]
        for path in [path for path in self.collections if path.startswith(f"{place}/")]:
            below = self.collections.pop(path)
            self.gone += [path, *(f"{path}/{inner.id}" for inner in below.items)]

    def all_of(self, plural: str) -> list[Item]:
        """Newest first, those of all queues together."""
        items = [item for each in self.collections.values() if each.plural == plural for item in each.items]
        return sorted(items, key=lambda item: item.id, reverse=True)
