"""The names that clients choose: aliases of resources, reverse domain names of organizations, and customers."""

import re
from collections.abc import Callable, Sequence

import msgspec
from msgspec import UnsetType

from discue.domain.errors import Fault, Unprocessable, invalid
from discue.domain.ids import is_public_id
from discue.domain.model import LONGEST_CUSTOMER

ALIAS_CHARACTERS = 64
ORGANIZATION_ALIAS_CHARACTERS = 253

_ALIAS = re.compile(rf"[A-Za-z0-9._/-]{{1,{ALIAS_CHARACTERS}}}")
_STEP = re.compile(r"[A-Za-z0-9._-]+")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ORGANIZATION_ALIAS = re.compile(rf"{_LABEL}(?:\.{_LABEL})+(?:/[A-Za-z0-9._-]+)?")
_ORGANIZATION_LENGTHS = range(4, ORGANIZATION_ALIAS_CHARACTERS + 1)


def check_alias(alias: str, pointer: str = "/alias") -> None:
    """Raise Unprocessable unless it is 1 to 64 characters of `[A-Za-z0-9._/-]`."""
    if _ALIAS.fullmatch(alias) is None:
        raise invalid(pointer, "must be 1 to 64 characters of A-Z, a-z, 0-9, dot, underscore, slash and hyphen")


def is_path_name(steps: Sequence[str]) -> bool:
    """Return whether these steps of a path, joined by slashes, can be the alias of a resource.

    Clients and proxies change paths with empty steps or dots. A step with the form of an id is an id: what follows it
    is not a part of its name.
    """
    return (
        all(_STEP.fullmatch(step) is not None and step not in {".", ".."} and not is_public_id(step) for step in steps)
        and len("/".join(steps)) < _ORGANIZATION_LENGTHS.stop
    )


def is_organization_alias(alias: str) -> bool:
    """Return whether it is a reverse domain name of 4 to 253 characters: `com.example.dev` or `example.com/dev`.

    It has two or more DNS labels (RFC 1123), and at most one segment after a slash.
    """
    return len(alias) in _ORGANIZATION_LENGTHS and _ORGANIZATION_ALIAS.fullmatch(alias) is not None


def check_organization_alias(alias: str, pointer: str = "/alias") -> None:
    """Raise Unprocessable unless `is_organization_alias`."""
    if not is_organization_alias(alias):
        raise invalid(pointer, "must be a reverse domain name such as com.example.dev, 4 to 253 characters")


def check_customer(given: str | UnsetType | None) -> None:
    """Raise Unprocessable for a text that cannot be the name of a customer."""
    if not isinstance(given, str):
        return
    if not given:
        raise invalid("/customer", "must not be empty; send null for no customer")
    if len(given) > LONGEST_CUSTOMER or not given.isprintable() or given != given.strip():
        rule = f"must have at most {LONGEST_CUSTOMER} printable characters, without spaces around them"
        raise invalid("/customer", rule)


def is_below(alias: str, parent: str) -> bool:
    """Return whether an organization's alias is below another one: `com.example.dev` is below `com.example`."""
    return alias.startswith((f"{parent}.", f"{parent}/"))


def reconcile(alias: str | None, name: str | None, stored: str | None) -> str | None:
    """Return the new alias from the request fields `alias` and `name`, which are synonyms; None if not given.

    `stored` is the current alias, None in a POST, and is returned if neither field is given. If both are given, the
    one that differs from `stored` wins: a client may send back a resource in which it changed only one of them.
    Raises Unprocessable if both differ from `stored` and from each other.
    """
    given = {value for value in (alias, name) if value is not None}
    changes = given - {stored}
    if len(changes) > 1:
        raise Unprocessable(
            "The fields alias and name are synonyms, but have different values.",
            code="conflicting_fields",
            faults=(Fault("/alias", "differs from name"), Fault("/name", "differs from alias")),
        )
    return changes.pop() if changes else stored


class NameFields(msgspec.Struct, frozen=True):
    """The name of a resource in a request: two synonyms. None keeps the stored one."""

    alias: str | None = None
    name: str | None = None


def new_alias(fields: NameFields, default: str, check: Callable[[str], None] = check_alias) -> str:
    """Return the alias of a resource that is created. Raises Unprocessable like `reconcile` and `check`."""
    alias = reconcile(fields.alias, fields.name, None)
    if alias is None:
        return default
    check(alias)
    return alias


def changed_alias(fields: NameFields, stored: str, check: Callable[[str], None] = check_alias) -> str:
    """Return the alias of a resource that is changed. Raises Unprocessable like `reconcile` and `check`."""
    alias = reconcile(fields.alias, fields.name, stored)
    if alias is None or alias == stored:
        return stored
    check(alias)
    return alias
