"""Items in the order of their creation, and what may be called how."""

from dataclasses import dataclass, field
from typing import Any

NARROW = {"queues": {"access": "read", "targets": []}}


@dataclass
class Item:
    id: str
    alias: str
    marks: int = 0
    """How often it was changed: what its entity tag depends on."""
    details: dict[str, Any] = field(default_factory=dict)
    """Other fields that were sent and must be shown."""


@dataclass
class Collection:
    """Aliases are unique but for messages."""

    path: str
    singular: str
    plural: str
    items: list[Item] = field(default_factory=list)

    handle = "alias"
    """The member of a request that gives the unique name."""

    @property
    def aliases_are_unique(self) -> bool:
        return self.plural != "messages"

    @property
    def above(self) -> str:
        """The id of the queue that it is in."""
        return self.path.split("/")[2]

    def called(self, alias: str | None) -> str | None:
        """Return the alias of a new item."""
        return alias

    def is_same(self, alias: str, other: str) -> bool:
        return alias == other

    def takes(self, alias: str | None, beside: Item | None = None) -> bool:
        """Whether a new item, or that one, may be called so."""
        others = [item.alias for item in self.items if item is not beside]
        return alias is None or not self.aliases_are_unique or not any(self.is_same(alias, other) for other in others)

    def newest_first(self) -> list[str]:
        return [item.id for item in reversed(self.items)]

    def found(self, alias: str) -> list[str]:
        """The ids that a search for an alias finds first."""
        return [item.id for item in reversed(self.items) if self.is_same(item.alias, alias)][:10]

    def body(self, alias: str | None, variant: int = 0) -> dict[str, Any]:
        """Return a body that creates an item: one of several variants."""
        named: dict[str, Any] = {} if alias is None else {self.handle: alias}
        return {**self.content(variant), **named}

    def content(self, variant: int) -> dict[str, Any]:
        if self.plural == "messages":
            return {"data": {"number": variant % 3}}
        return {"scopes": NARROW} if self.plural == "api_keys" else {}

    def unfit(self, body: dict[str, Any]) -> set[str]:
        """The places of what can never be created."""
        return set()

    def made(self, body: dict[str, Any], answer: Any) -> Item:
        """Return the item in a response. Asserts that it has the values that were sent."""
        shown = answer[self.singular]
        item = Item(shown["id"], body.get(self.handle, shown["id"]))
        assert shown["alias"] == shown["name"] == item.alias
        return item

    def keeps(self, item: Item) -> bool:
        """Whether it cannot be deleted."""
        return False

    def require_shown(self, item: Item, shown: Any) -> None:
        """Assert that a `GET` shows the item as the model has it."""
        assert (shown["id"], shown["alias"], shown["name"]) == (item.id, item.alias, item.alias)
        assert {name: shown[name] for name in item.details} == item.details
