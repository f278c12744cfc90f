"""Users: who is active, which invitation holds, and that an owner remains."""

import itertools
from dataclasses import dataclass
from typing import Any

from tests.fuzz.model.collection import Collection, Item

ROLES = ("developer", "owner", "admin", "viewer")
PASSWORD = "correct horse battery"

_numbers = itertools.count()


@dataclass
class Member(Item):
    token: str | None = None
    """The token of the valid invitation."""

    @property
    def is_active_owner(self) -> bool:
        return (self.details["role"], self.details["state"]) == ("owner", "active")

    def entered(self) -> None:
        """A password was set: no invitation holds."""
        self.details["state"] = "active"
        self.token = None


class Users(Collection):
    """Users. The alias is the email, compared without case."""

    handle = "email"

    def called(self, alias: str | None) -> str:
        return alias if alias and "@" in alias else f"{alias or f'somebody-{next(_numbers)}'}@example.com"

    def is_same(self, alias: str, other: str) -> bool:
        return alias.lower() == other.lower()

    def content(self, variant: int) -> dict[str, Any]:
        entry: dict[str, Any] = {"password": PASSWORD} if variant // 4 % 2 else {}
        return {"role": ROLES[variant % 4], "display_name": f"Somebody {variant}", **entry}

    def made(self, body: dict[str, Any], answer: Any) -> Member:
        member = Member(answer["user"]["id"], body["email"])
        member.details = {"email": body["email"], "role": body["role"], "display_name": body["display_name"]}
        member.details["state"] = "active" if "password" in body else "invited"
        assert ("invitation" in answer) == ("password" not in body)
        member.token = answer["invitation"]["token"] if "invitation" in answer else None
        self.require_shown(member, answer["user"])
        return member

    def require_shown(self, item: Item, shown: Any) -> None:
        item.details["email"] = item.alias
        super().require_shown(item, shown)
        assert not {"password", "invitation"} & set(shown)

    def keeps(self, item: Item) -> bool:
        """Whether it is the last owner who is active."""
        owners = [each for each in self.items if isinstance(each, Member) and each.is_active_owner]
        return owners == [item]
